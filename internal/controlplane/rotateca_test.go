package controlplane

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
)

func (s *testServer) caInUse(trusted []*pki.Authority) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stuckCA:
		return errors.New("it is stuck")
	case s.refusesNew && len(trusted) > 1:
		return errors.New("the new CA is not valid yet")
	}
	return nil
}

// refuseNew makes the API server refuse a CA that signs nothing.
func (s *testServer) refuseNew(refuses bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusesNew = refuses
}

func (s *testServer) stickCA(stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuckCA = stuck
}

// putNode writes a Node to etcd, as an API server does, with the authorities that it has.
func (c *rotatingCluster) putNode(name string, ready bool, authorities ...string) {
	c.t.Helper()
	node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Annotations = map[string]string{authoritiesAnnotation: strings.Join(authorities, " ")}
	status := corev1.ConditionUnknown
	if ready {
		status = corev1.ConditionTrue
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	data, err := runtime.Encode(scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion), node)
	if err == nil {
		_, err = c.client.Put(c.t.Context(), nodesKey+name, string(data))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// caRotation returns a rotation that works from the data directory of a server.
func (c *rotatingCluster) caRotation(server int) *caRotation {
	c.t.Helper()
	s := *c.servers[server].settings
	s.Progress = nil
	r := &caRotation{settings: &s, loadTime: 10 * time.Second, nodeTime: time.Second}
	var err error
	if r.local, err = pki.Load(pki.Paths(s.path("pki"), pki.ClusterCA)); err != nil {
		c.t.Fatal(err)
	}
	if r.store, err = s.etcd().open(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(r.store.close)
	return r
}

func (c *rotatingCluster) do(step string) error {
	c.t.Helper()
	return c.caRotation(0).do(c.t.Context(), step)
}

// mustDo does a step, and returns the record after it.
func (c *rotatingCluster) mustDo(step string) authorityRecord {
	c.t.Helper()
	if err := c.do(step); err != nil {
		c.t.Fatalf("%s: %v", step, err)
	}
	record, err := c.caRotation(0).current(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return record
}

// trustedBy returns the IDs of what a server trusts, for clients or for kubelets.
func trustedBy(t *testing.T, s *testServer, file string) (ids []string) {
	t.Helper()
	certs, err := certutil.CertsFromFile(s.path("pki", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range certs {
		// A server that is younger than its CA trusts for a while what the CA has signed for kubelets.
		if soft := file == pki.KubeletAuthorities && c.Subject.CommonName != pki.KubeletCACN; !soft {
			ids = append(ids, pki.ID(c))
		}
	}
	return ids
}

// verifies reports whether somebody who trusts only roots accepts the serving certificate of a server.
func verifies(t *testing.T, s *testServer, roots ...*x509.Certificate) bool {
	t.Helper()
	pair, err := pki.Load(pki.Paths(s.path("pki"), servingCert))
	if err != nil {
		t.Fatal(err)
	}
	trusted, sent := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range roots {
		trusted.AddCert(root)
	}
	for _, c := range pair.Chain {
		sent.AddCert(c)
	}
	_, err = pair.Cert.Verify(x509.VerifyOptions{Roots: trusted, Intermediates: sent, DNSName: "127.0.0.1"})
	return err == nil
}

// checkServers checks that each server trusts ids, and has certificates of the first.
func (c *rotatingCluster) checkServers(step string, ids ...string) {
	c.t.Helper()
	for i, s := range c.servers {
		if got := trustedBy(c.t, s, pki.ClusterAuthorities); !slices.Equal(got, ids) {
			c.t.Errorf("%s: server %d trusts %v, want %v", step, i, got, ids)
		}
		if got := trustedBy(c.t, s, pki.KubeletAuthorities); len(got) != len(ids) {
			c.t.Errorf("%s: server %d trusts %d authorities for kubelets, want %d", step, i, len(got), len(ids))
		}
		ca := readCert(c.t, s.path("pki"), pki.ClusterCA)
		if pki.ID(ca) != ids[0] || readCert(c.t, s.path("pki"), servingCert).CheckSignatureFrom(ca) != nil {
			c.t.Errorf("%s: server %d signs with %s, want %s", step, i, pki.ID(ca), ids[0])
		}
		if keys := s.keysInUse(c.t); !slices.Equal(keys, []string{firstKey}) {
			c.t.Errorf("%s: server %d has the keys of Secrets %v", step, i, keys)
		}
		named, err := filepath.Glob(s.path("pki", "*ca-[0-9a-f]*"))
		if err != nil || len(ids) == 1 && len(named) > 0 {
			c.t.Errorf("%s: server %d has %v, %v", step, i, named, err)
		}
	}
}

// Two servers and their nodes change to another CA. No step begins before all have done the
// previous one, and each can be repeated.
func TestRotateCAOfTwoServers(t *testing.T) {
	c := newRotatingCluster(t, 2)
	old := readCert(t, c.servers[0].path("pki"), pki.ClusterCA)
	was := pki.ID(old)
	c.putNode("node-1", true, was)
	c.putNode("node-2", false, was)
	c.checkServers("before", was)
	wantRefusal(t, "switch before prepare", c.do(CASwitch), "rotate ca prepare")
	wantRefusal(t, "finish before prepare", c.do(CAFinish), "rotate ca prepare")
	wantRefusal(t, "undo before prepare", c.do(CAUndo), "no rotation of the CA")

	is := c.mustDo(CAPrepare).Next
	c.checkServers(CAPrepare, was, is)
	c.mustDo(CAPrepare)
	c.checkServers("prepare again", was, is)
	wantRefusal(t, "another key", c.rotation(quiet).run(t.Context()), "the CA is being rotated")
	wantRefusal(t, "finish before switch", c.do(CAFinish), "rotate ca switch")
	wantRefusal(t, "a node that does not know the new CA", c.do(CASwitch), "node-1", "the step is not done")
	c.checkServers("refused", was, is)
	c.putNode("node-1", true, was, is)

	c.mustDo(CASwitch)
	c.checkServers(CASwitch, is, was)
	c.mustDo(CASwitch)
	fresh := readCert(t, c.servers[0].path("pki"), pki.ClusterCA)
	for _, s := range c.servers {
		if !verifies(t, s, old) || !verifies(t, s, fresh) {
			t.Error("who trusts one of the two CAs only does not know a server that has changed over")
		}
	}
	wantRefusal(t, "prepare after switch", c.do(CAPrepare), "is already signing")
	wantRefusal(t, "a node with a certificate of the old CA", c.do(CAFinish), "node-1", "node-2", "--rejoin")
	c.putNode("node-1", true, is, was)
	wantRefusal(t, "a node that is away", c.do(CAFinish), "node-2", "--leave-late")
	c.putNode("node-2", true, is, was)

	record := c.mustDo(CAFinish)
	c.checkServers(CAFinish, is)
	c.mustDo(CAFinish)
	if record.underWay() || len(record.Authorities[0].Sealed) != 0 {
		t.Errorf("after the end etcd has a key: %+v", record)
	}
	c.checkOldRefused(old)
	c.checkNewServer(is)
}

// checkOldRefused checks that no server trusts the old CA, or has a key of it.
func (c *rotatingCluster) checkOldRefused(old *x509.Certificate) {
	c.t.Helper()
	ring, err := c.caRotation(0).store.keyring(c.t.Context())
	if err != nil || len(ring.Keys[0].Sealed) != 1 || ring.Keys[0].Sealed[pki.ID(old)] != nil {
		c.t.Errorf("the keys of Secrets are sealed for %v, %v", ring.Keys[0].Sealed, err)
	}
	for _, s := range c.servers {
		if slices.Contains(trustedBy(c.t, s, pki.ClusterAuthorities), pki.ID(old)) {
			c.t.Error("a server trusts the old CA")
		}
		err := filepath.WalkDir(s.path("pki"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".key" {
				return err
			}
			pair, err := pki.Load(strings.TrimSuffix(path, ".key")+".crt", path)
			if err == nil && pki.ID(pair.Cert) == pki.ID(old) {
				c.t.Errorf("%s is the key of the old CA", path)
			}
			return nil
		})
		if err != nil {
			c.t.Error(err)
		}
	}
}

// checkNewServer starts a server that has the files of another server, and one that has
// another CA.
func (c *rotatingCluster) checkNewServer(is string) {
	c.t.Helper()
	s := sharingServer(c.t, c.etcd)
	share(c.t, c.servers[0].settings, s, sharedFiles()...)
	if err := s.agree(c.t); err != nil {
		c.t.Error("a new server: ", err)
	}
	if got := trustedBy(c.t, &testServer{settings: s}, pki.ClusterAuthorities); !slices.Equal(got, []string{is}) {
		c.t.Errorf("a new server trusts %v", got)
	}
	stranger := sharingServer(c.t, c.etcd)
	share(c.t, c.servers[0].settings, stranger, sharedFiles()...)
	a, err := pki.NewAuthority(pki.ClusterCA, pki.ClusterCACN, time.Now())
	if err == nil {
		err = pki.Write(stranger.path("pki"), pki.ClusterCA, a.Cert, a.Key)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	wantRefusal(c.t, "a server with another CA", stranger.agree(c.t), "cluster CA", "copy")
}

// From either step the rotation can go back, and then forward again.
func TestRotateCAUndo(t *testing.T) {
	c := newRotatingCluster(t, 2)
	was := pki.ID(readCert(t, c.servers[0].path("pki"), pki.ClusterCA))
	first := c.mustDo(CAPrepare).Next
	c.mustDo(CAUndo)
	c.checkServers("undone after prepare", was)

	second := c.mustDo(CAPrepare).Next
	if second == first {
		t.Error("a CA that was given up comes back")
	}
	c.putNode("node-1", true, was, second)
	c.mustDo(CASwitch)
	c.checkServers(CASwitch, second, was)
	c.putNode("node-1", true, second, was)
	wantRefusal(t, "a node with a certificate of the new CA", c.do(CAUndo), "node-1")
	c.checkServers("half undone", was, second)
	c.putNode("node-1", true, was, second)
	c.mustDo(CAUndo)
	c.checkServers("undone after switch", was)
	c.putNode("node-1", true, was)
	if state, err := c.caRotation(1).state(t.Context()); err != nil || state.Step != CASteady || len(state.Late) != 0 || len(state.Authorities) != 1 || !state.Servers[1].Current {
		t.Errorf("the state is %+v, %v", state, err)
	}
}

// A server that is off during a step, or dies in the middle of it, catches up when it starts.
func TestRotateCACrash(t *testing.T) {
	c := newRotatingCluster(t, 2)
	late := c.servers[1]
	was := pki.ID(readCert(t, late.path("pki"), pki.ClusterCA))
	if err := late.end(); err != nil {
		t.Fatal(err)
	}
	is := c.mustDo(CAPrepare).Next
	c.mustDo(CASwitch)
	if got := trustedBy(t, late, pki.ClusterAuthorities); !slices.Equal(got, []string{was}) {
		t.Fatalf("a server that is off trusts %v", got)
	}
	if err := late.agree(t); err != nil {
		t.Fatal("a server that was off: ", err)
	}
	c.start(late)
	c.checkServers("off during two steps", is, was)

	// It dies between the two files of a pair, in either direction.
	for _, name := range []string{was, is} {
		key, err := os.ReadFile(late.path("pki", pki.NamedCA+name+".key"))
		if err == nil {
			err = errors.Join(late.end(), private.WriteFile(late.path("pki", pki.ClusterCA+".key"), key))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := late.agree(t); err != nil {
			t.Fatal("a server that died: ", err)
		}
		c.start(late)
		c.checkServers("died between two files", is, was)
	}
	c.waitTrusts(is, was)
	c.mustDo(CAFinish)
	c.checkServers(CAFinish, is)
}

// waitTrusts waits until all servers report that they have followed.
func (c *rotatingCluster) waitTrusts(ids ...string) {
	eventually(c.t, "the servers follow", func(ctx context.Context) (bool, error) {
		servers, err := c.servers[0].follower.store.presences(ctx)
		return len(servers) == len(c.servers) && !slices.ContainsFunc(servers, func(p presence) bool { return !slices.Equal(p.Trusts, ids) }), err
	})
}

// No step begins or continues while a server has not followed.
func TestRotateCAWaitsForServers(t *testing.T) {
	c := newRotatingCluster(t, 2)
	was := pki.ID(readCert(t, c.servers[0].path("pki"), pki.ClusterCA))
	quick := func(step string) error {
		r := c.caRotation(0)
		r.loadTime = 2 * followEvery
		return r.do(t.Context(), step)
	}
	if _, err := c.client.Put(t.Context(), endpointsKey+"192.0.2.9", "an address"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "a server of an older release", quick(CAPrepare), "192.0.2.9", "older release")
	if record, err := c.caRotation(0).store.authorities(t.Context()); err != nil || record.revision != 0 {
		t.Errorf("there is a record: %+v, %v", record, err)
	}
	if _, err := c.client.Delete(t.Context(), endpointsKey+"192.0.2.9"); err != nil {
		t.Fatal(err)
	}
	is := c.mustDo(CAPrepare).Next
	c.servers[1].stickCA(true)
	wantRefusal(t, "the switch of a server that does not follow", quick(CASwitch), "192.0.2.2", "nothing is lost")
	wantRefusal(t, "its end", quick(CAFinish), "192.0.2.2", "same command")
	if record, err := c.caRotation(0).store.authorities(t.Context()); err != nil || record.step() != CASwitched {
		t.Errorf("the step is %s, %v", record.step(), err)
	}
	c.servers[1].stickCA(false)
	c.waitTrusts(is, was)
	c.mustDo(CAFinish)
	c.checkServers(CAFinish, is)
}

// A new CA that servers cannot accept, whatever the reason, can be given up, and until that is done, the
// rotation can also go on.
func TestRotateCAUndoUnusable(t *testing.T) {
	c := newRotatingCluster(t, 2)
	was := pki.ID(readCert(t, c.servers[0].path("pki"), pki.ClusterCA))
	quick := func(step string) error {
		r := c.caRotation(0)
		r.loadTime = 2 * followEvery
		return r.do(t.Context(), step)
	}
	c.servers[1].refuseNew(true)
	wantRefusal(t, "a CA that a server refuses", quick(CAPrepare), "192.0.2.2", "have not followed")
	record, err := c.caRotation(0).current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	is := record.Next
	c.putNode("node-1", true, is, was)
	wantRefusal(t, "a node with a certificate of it", quick(CAUndo), "node-1")
	c.checkServers("half undone", was, is)
	c.putNode("node-1", true, was, is)
	wantRefusal(t, "on with it after all", quick(CASwitch), "192.0.2.2", "have not followed")
	c.checkServers("not switched", was, is)
	c.mustDo(CAUndo)
	c.checkServers("undone", was)

	c.servers[1].refuseNew(false)
	is = c.mustDo(CAPrepare).Next
	c.servers[1].refuseNew(true)
	c.putNode("node-1", true, is, was)
	wantRefusal(t, "a node with a certificate of it", quick(CAUndo), "node-1")
	c.servers[1].refuseNew(false)
	if record := c.mustDo(CAPrepare); record.Undo {
		t.Error("the rotation is still being undone")
	}
	c.putNode("node-1", true, was, is)
	c.mustDo(CASwitch)
	c.checkServers(CASwitch, is, was)
}

// While the clock is ahead, a new CA is made that is valid for others too, and no step waits for longer than it
// would otherwise.
func TestRotateCAClockAhead(t *testing.T) {
	dir, ahead := t.TempDir(), time.Now().AddDate(0, 1, 0)
	if err := pki.Ensure(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	old, err := pki.Load(pki.Paths(dir, pki.ClusterCA))
	if err != nil {
		t.Fatal(err)
	}
	next, fresh, err := authorityRecord{}.begun(old, ahead)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := certutil.ParseCertsPEM(next.Cross)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*x509.Certificate{"the new CA": fresh.Cert, "what the old one says of it": cross[0]} {
		if !c.NotBefore.Equal(old.Cert.NotBefore) {
			t.Errorf("%s is valid from %s on, and the old one from %s on", what, c.NotBefore, old.Cert.NotBefore)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r := &caRotation{settings: &settings{}}
		if err := r.waitSince(t.Context(), begin.AddDate(0, 1, 0), time.Minute, "it is time"); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("it waited for %s, %v", time.Since(begin), err)
		}
	})
}

// A snapshot from before the rotation is restored, while servers are off or run. They forget the rotation, and the next
// one begins anew.
func TestRotateCARestored(t *testing.T) {
	c := newRotatingCluster(t, 2)
	was := pki.ID(readCert(t, c.servers[0].path("pki"), pki.ClusterCA))
	first := c.mustDo(CAPrepare).Next
	off := c.servers[1]
	if err := off.end(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{authoritiesKey, keyringKey} {
		if _, err := c.client.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := off.agree(t); err != nil {
		t.Fatal(err)
	}
	c.start(off)
	c.waitTrusts(was)
	c.checkServers("restored", was)

	second := c.mustDo(CAPrepare).Next
	if second == first {
		t.Error("a CA that was forgotten comes back")
	}
	c.checkServers("prepared again", was, second)
	c.mustDo(CASwitch)
	record := c.mustDo(CAFinish)
	c.checkServers("finished", second)
	if record.signs() != second {
		t.Errorf("%s signs", record.signs())
	}
}

// Where the new CA signs already, a missing record makes nobody delete the key of the old one.
func TestRotateCAUnrecordedSigner(t *testing.T) {
	c := newRotatingCluster(t, 1)
	was := c.mustDo(CAPrepare).signs()
	c.mustDo(CASwitch)
	s := c.servers[0]
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if former, err := s.ids().take(authorityRecord{}); err != nil || len(former) > 0 {
		t.Errorf("it dropped %v, %v", former, err)
	}
	if _, err := pki.Load(pki.Paths(s.path("pki"), pki.NamedCA+was)); err != nil {
		t.Error(err)
	}
}
