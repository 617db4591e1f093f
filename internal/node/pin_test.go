package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/cert"
)

func certsOf(list ...authority) (certs []*x509.Certificate) {
	for _, a := range list {
		certs = append(certs, a.cert)
	}
	return certs
}

// A node accepts a CA that is named beside one that it trusts, and no other, and none
// that it has dropped.
func TestPinsFollow(t *testing.T) {
	old, fresh, evil := newAuthority(t), newAuthority(t), newAuthority(t)
	for _, tt := range []struct {
		name                   string
		trusted, dropped, said []authority
		want, wantDropped      []authority
		refused                bool
	}{
		{name: "nothing new", trusted: []authority{old}, said: []authority{old}, want: []authority{old}},
		{name: "a new one beside it", trusted: []authority{old}, said: []authority{old, fresh}, want: []authority{old, fresh}},
		{name: "the new one signs", trusted: []authority{old, fresh}, said: []authority{fresh, old}, want: []authority{fresh, old}},
		{name: "away until then", trusted: []authority{old}, said: []authority{fresh, old}, want: []authority{fresh, old}},
		{name: "the old one goes", trusted: []authority{fresh, old}, said: []authority{fresh}, want: []authority{fresh}, wantDropped: []authority{old}},
		{name: "the new one is given up", trusted: []authority{old, fresh}, said: []authority{old}, want: []authority{old}, wantDropped: []authority{fresh}},
		{name: "another one", trusted: []authority{old}, said: []authority{evil}, refused: true},
		{name: "two others", trusted: []authority{old}, said: []authority{evil, fresh}, refused: true},
		{name: "none", trusted: []authority{old}, refused: true},
		{name: "one that was dropped, beside the present one", trusted: []authority{fresh}, dropped: []authority{old}, said: []authority{old, fresh},
			want: []authority{fresh}, wantDropped: []authority{old}},
		{name: "only one that was dropped", trusted: []authority{fresh}, dropped: []authority{old}, said: []authority{old}, refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := pins{trusted: certsOf(tt.trusted...), dropped: authorityIDs(certsOf(tt.dropped...))}
			after, err := before.follow(certsOf(tt.said...))
			want := pins{trusted: certsOf(tt.want...), dropped: authorityIDs(certsOf(tt.wantDropped...))}
			if tt.refused {
				want = before
			}
			if (err != nil) != tt.refused || !after.equal(want) {
				t.Errorf("pins %v, dropped %v, error %v; want %v, %v", authorityIDs(after.trusted), after.dropped, err, authorityIDs(want.trusted), want.dropped)
			}
			if tt.refused && !strings.Contains(err.Error(), "--rejoin") {
				t.Errorf("the error says nothing of what to do: %v", err)
			}
		})
	}
}

// A token that names a CA makes a machine trust only that one: anybody who knows the
// token could make up what else a server says to a machine that does not know it.
func TestJoinPinsWhatTheTokenNames(t *testing.T) {
	ca, evil := newAuthority(t), newAuthority(t)
	both := authority{pem: slices.Concat(ca.pem, evil.pem)}
	got, err := runDiscovery(t.Context(), t, newFakeServer(t, ca, both), pinned(ca))
	if err != nil || !bytes.Equal(got, ca.pem) {
		t.Errorf("a machine that joins trusts\n%s (%v), want only\n%s", got, err, ca.pem)
	}
	if _, err := runDiscovery(t.Context(), t, newFakeServer(t, evil, both), pinned(ca)); err == nil {
		t.Error("a machine joins a server of an authority that its token does not name")
	}
	if got, err := runDiscovery(t.Context(), t, newFakeServer(t, ca, both), goodToken); err != nil || !bytes.Equal(got, both.pem) {
		t.Errorf("with a token that names none: %v", err)
	}
}

// rotatingNode is a node that follows the CAs of a cluster, and a cluster that signs with
// one of them.
type rotatingNode struct {
	authorityFollower
	client *fake.Clientset
	signer authority
	told   int // number of changes
}

func newRotatingNode(t *testing.T, ca authority) *rotatingNode {
	t.Helper()
	n := &rotatingNode{signer: ca, client: fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})}
	n.cfg = Config{Name: "node-1", DataDir: t.TempDir(), Log: discard()}
	n.changed = func([]byte) error { n.told++; return nil }
	writeCredentials(t, n.cfg, ca, time.Now().Add(time.Hour))
	if err := writeFile(n.cfg.files().ca(), ca.pem); err != nil {
		t.Fatal(err)
	}
	current, first := n.cfg.files().path("pki", clientCertificate), n.cfg.files().path("pki", "kubelet-client-first.pem")
	serving := n.cfg.files().path("pki", "kubelet-server-current.pem")
	if err := errors.Join(os.Rename(current, first), os.Symlink(first, current), os.WriteFile(serving, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	n.client.PrependReactor("create", "certificatesigningrequests", func(action k8stesting.Action) (bool, runtime.Object, error) {
		request := action.(k8stesting.CreateAction).GetObject().(*certv1.CertificateSigningRequest)
		request.Name = "csr"
		request.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateApproved}}
		request.Status.Certificate = n.sign(t, request.Spec.Request)
		err := n.client.Tracker().Create(certv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), request, "")
		return true, request, err
	})
	return n
}

func (n *rotatingNode) sign(t *testing.T, request []byte) []byte {
	block, _ := pem.Decode(request)
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Error(err)
		return nil
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: parsed.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, n.signer.cert, parsed.PublicKey, n.signer.key)
	if err != nil {
		t.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// hear has the cluster name CAs, the one that signs first.
func (n *rotatingNode) hear(ctx context.Context, named ...authority) (again bool, err error) {
	text, err := cert.EncodeCertificates(certsOf(named...)...)
	if err != nil {
		return false, err
	}
	return n.follow(ctx, n.client, &corev1.ConfigMap{Data: map[string]string{"ca.crt": string(text)}})
}

// check fails the test unless the node trusts these CAs, has a certificate from the
// first, and has reported that.
func (n *rotatingNode) check(t *testing.T, step string, want ...authority) {
	t.Helper()
	p, err := n.cfg.files().pins()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := n.cfg.files().knownCA()
	kubelet, parseErr := cert.ParseCertsPEM(ca)
	if err := errors.Join(err, parseErr); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(p.trusted, certsOf(want...), (*x509.Certificate).Equal) || !slices.EqualFunc(kubelet, p.trusted, (*x509.Certificate).Equal) {
		t.Errorf("%s: the node trusts %v, its kubelet %v", step, authorityIDs(p.trusted), authorityIDs(kubelet))
	}
	leaf, err := n.currentCertificate()
	if err != nil || leaf.CheckSignatureFrom(want[0].cert) != nil {
		t.Errorf("%s: the node's certificate is not of %s: %v", step, authorityID(want[0].cert), err)
	}
	node, err := n.client.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if got := node.Annotations[authoritiesAnnotation]; err != nil || got != strings.Join(authorityIDs(certsOf(want...)), " ") {
		t.Errorf("%s: the node tells %q, %v", step, got, err)
	}
}

// writes is how often the Node was written.
func (n *rotatingNode) writes() (times int) {
	for _, action := range n.client.Actions() {
		if action.Matches("patch", "nodes") {
			times++
		}
	}
	return times
}

// A node follows its cluster to another CA, step by step.
func TestNodeFollowsAuthorities(t *testing.T) {
	old, fresh, evil := newAuthority(t), newAuthority(t), newAuthority(t)
	n := newRotatingNode(t, old)
	ctx := t.Context()
	for _, step := range []struct {
		name  string
		named []authority
		told  int
		wrote int // to the Node, in all
	}{
		{"as it is", []authority{old}, 0, 1},
		{"as it still is", []authority{old}, 0, 1},
		{"prepare", []authority{old, fresh}, 1, 2},
		{"prepare again", []authority{old, fresh}, 1, 2},
		{"switch", []authority{fresh, old}, 2, 3},
		{"finish", []authority{fresh}, 3, 4},
	} {
		n.signer = step.named[0]
		before := n.told
		again, err := n.hear(ctx, step.named...)
		if err != nil || again != (n.told > before) {
			t.Errorf("%s: again %v, %v", step.name, again, err)
		}
		if n.told != step.told {
			t.Errorf("%s: %d changes were told of, want %d", step.name, n.told, step.told)
		}
		n.check(t, step.name, step.named...)
		if wrote := n.writes(); wrote != step.wrote {
			t.Errorf("%s: the Node was written %d times, want %d", step.name, wrote, step.wrote)
		}
		if _, err := os.Stat(filepath.Join(n.cfg.DataDir, "pki", "kubelet-server-current.pem")); step.name == "switch" && !errors.Is(err, os.ErrNotExist) {
			t.Error("the kubelet keeps the serving certificate of the old CA: ", err)
		}
	}
	for _, others := range [][]authority{{evil}, {old}} {
		if _, err := n.hear(ctx, others...); err == nil {
			t.Error("a CA that nobody vouches for is taken")
		}
	}
	if _, err := n.hear(ctx, fresh, old); err != nil {
		t.Error(err)
	}
	n.check(t, "after all that", fresh)
}

// A server that signs with a different CA from the one that it names does not change the
// certificate.
func TestNodeKeepsItsCertificate(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	n := newRotatingNode(t, old)
	if _, err := n.hear(t.Context(), fresh, old); err == nil || !strings.Contains(err.Error(), "signed with a CA other than") {
		t.Errorf("a certificate of the old CA in place of one of the new: %v", err)
	}
	leaf, err := n.currentCertificate()
	if err != nil || leaf.CheckSignatureFrom(old.cert) != nil {
		t.Errorf("the node's certificate is gone: %v", err)
	}
}

func TestRestarts(t *testing.T) {
	var r restarts
	runs := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.around(func(ctx context.Context) error {
			runs <- struct{}{}
			<-ctx.Done()
			return nil
		})(ctx)
	}()
	for range 3 {
		<-runs
		r.all()
	}
	<-runs
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	failure := errors.New("it broke")
	if err := r.around(func(context.Context) error { return failure })(t.Context()); !errors.Is(err, failure) {
		t.Errorf("a failure is %v", err)
	}
	if r.all(); len(r.ends) != 0 {
		t.Errorf("%d are left", len(r.ends))
	}
}
