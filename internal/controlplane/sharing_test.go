package controlplane

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
)

// sharedEtcd starts an etcd, and returns its URL and a client of it.
func sharedEtcd(t *testing.T) (string, *clientv3.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ev") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	s, err := openStore(dir)
	if err == nil {
		err = s.start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{client.Close(), s.stop(stopTime), os.RemoveAll(dir)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return s.url, client
}

// sharingServer returns a server of the cluster in that etcd, with a data directory
// of its own.
func sharingServer(t *testing.T, etcd string) *settings {
	t.Helper()
	cfg := Config{DataDir: t.TempDir(), Listen: "127.0.0.1:6443", EtcdServers: []string{etcd}}
	s, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *settings) agree(t *testing.T) error {
	t.Helper()
	return agreeWithCluster(t.Context(), s, time.Now())
}

// share copies names below pki/ from one server to another, as an operator does.
func share(t *testing.T, from, to *settings, names ...string) {
	t.Helper()
	if err := private.MakeDir(to.path("pki")); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(from.path("pki", name))
		if err == nil {
			err = os.WriteFile(to.path("pki", name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantRefusal(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: it is let in", what)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: error %q lacks %q", what, err, part)
		}
	}
}

func TestServersOfOneClusterAgree(t *testing.T) {
	etcd, _ := sharedEtcd(t)
	first := sharingServer(t, etcd)
	if err := first.agree(t); err != nil {
		t.Fatal("the first server: ", err)
	}

	second := sharingServer(t, etcd)
	wantRefusal(t, "without keys", second.agree(t), "lacks its keys", "service-account.key", "copy ca.key, ca.crt, ", second.path("pki"))
	if _, err := os.Stat(second.path("pki", "ca.crt")); err == nil {
		t.Error("a server without the cluster's keys has made some of its own")
	}
	share(t, first, second, "ca.crt", "ca.key", "service-account.pub", "service-account.key")
	wantRefusal(t, "with some of the keys", second.agree(t), "lacks its keys (front-proxy-ca.key, front-proxy-ca.crt)")
	share(t, first, second, sharedFiles()...)
	if err := second.agree(t); err != nil {
		t.Error("with the keys of the first: ", err)
	}
	if !first.encryptSecrets || !second.encryptSecrets {
		t.Errorf("the servers of a new cluster encrypt Secrets: %v, %v", first.encryptSecrets, second.encryptSecrets)
	}
	if err := first.agree(t); err != nil {
		t.Error("the first server, once more: ", err)
	}

	other := sharingServer(t, etcd)
	if err := other.ids().ensure(time.Now()); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "with other keys", other.agree(t), "cluster CA, front proxy CA, service account key", "copy ")

	second.podRange = netip.MustParsePrefix("10.44.0.0/16")
	wantRefusal(t, "with another pod range", second.agree(t), "10.42.0.0/16", "10.44.0.0/16", "--pod-cidr")
	second.podRange, second.listen = first.podRange, netip.MustParseAddrPort("127.0.0.1:7443")
	wantRefusal(t, "with another port", second.agree(t), "6443", "7443", "--listen")
}

// Servers that start at the same moment, each with keys of its own, do not
// become two clusters in one etcd.
func TestServersStartAtOnce(t *testing.T) {
	etcd, _ := sharedEtcd(t)
	const n = 5
	var all sync.WaitGroup
	refused := make([]error, n)
	for i := range n {
		s := sharingServer(t, etcd)
		all.Go(func() { refused[i] = s.agree(t) })
	}
	all.Wait()
	let := 0
	for _, err := range refused {
		if err == nil {
			let++
			continue
		}
		wantRefusal(t, "one that is later", err, "copy ")
	}
	if let != 1 {
		t.Errorf("%d of %d servers with keys of their own were let in", let, n)
	}
}

// clusterInfoOf returns the cluster-info of a server's cluster as it is stored in etcd.
func clusterInfoOf(t *testing.T, s *settings) string {
	t.Helper()
	u, err := bootstrap{settings: s}.clusterInfo()
	if err != nil {
		t.Fatal(err)
	}
	info := &corev1.ConfigMap{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, info); err != nil {
		t.Fatal(err)
	}
	data, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), corev1.SchemeGroupVersion), info)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// An etcd may contain a cluster that has no record yet.
func TestServersFindACluster(t *testing.T) {
	etcd, client := sharedEtcd(t)
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("/registry/namespaces/kube-system", "there")
	first := sharingServer(t, etcd)
	wantRefusal(t, "a cluster of somebody else", first.agree(t), "everynode did not make")

	put("/registry/configmaps/kube-public/cluster-info", clusterInfoOf(t, first))
	wantRefusal(t, "a cluster of an older version, with another CA", sharingServer(t, etcd).agree(t), "a CA other than", "copy ")
	if err := first.agree(t); err != nil {
		t.Error("a cluster of an older version: ", err)
	}
	wantRefusal(t, "once it has a record", sharingServer(t, etcd).agree(t), "lacks its keys")

	// An operator who wants other keys empties the record.
	put(recordKey, "")
	next := sharingServer(t, etcd)
	if err := next.agree(t); err != nil {
		t.Error("the first server after the record was emptied: ", err)
	}
	wantRefusal(t, "the old keys", first.agree(t), "cluster CA, front proxy CA, service account key")
	put(recordKey, "nonsense")
	wantRefusal(t, "an unreadable record", next.agree(t), recordKey, "backup")
	if _, err := client.Delete(t.Context(), recordKey); err != nil {
		t.Fatal(err)
	}
	put("/registry/configmaps/kube-public/cluster-info", "")
	wantRefusal(t, "an unreadable cluster-info", next.agree(t), "read the CA of the cluster")
}

// Whoever empties the record, to replace the CA of the front proxy for example, does not end the encryption of Secrets.
func TestEmptiedRecordKeepsEncryption(t *testing.T) {
	etcd, client := sharedEtcd(t)
	s := sharingServer(t, etcd)
	if err := s.agree(t); err != nil || !s.encryptSecrets {
		t.Fatalf("a new cluster: encrypts %v, %v", s.encryptSecrets, err)
	}
	was := readCert(t, s.path("pki"), pki.FrontProxyCA)
	crt, key := pki.Paths(s.path("pki"), pki.FrontProxyCA)
	_, err := client.Put(t.Context(), "/registry/namespaces/kube-system", "there")
	if err == nil {
		_, err = client.Put(t.Context(), recordKey, "")
	}
	if err = errors.Join(err, os.Remove(crt), os.Remove(key)); err != nil {
		t.Fatal(err)
	}
	again, err := s.Config.resolve()
	if err != nil {
		t.Fatal(err)
	}
	again.encryptSecrets = true // as checkData finds it
	if err := again.agree(t); err != nil || !again.encryptSecrets {
		t.Errorf("after the record was emptied: encrypts %v, %v", again.encryptSecrets, err)
	}
	if readCert(t, s.path("pki"), pki.FrontProxyCA).Equal(was) {
		t.Error("the CA of the front proxy is the old one")
	}
	other := sharingServer(t, etcd)
	share(t, again, other, sharedFiles()...)
	if err := other.agree(t); err != nil || !other.encryptSecrets {
		t.Errorf("another server with the new files: encrypts %v, %v", other.encryptSecrets, err)
	}
}

func TestEtcdDoesNotAnswer(t *testing.T) {
	s := sharingServer(t, "http://127.0.0.1:1")
	s.EtcdServers = append(s.EtcdServers, "http://127.0.0.1:2")
	c, err := s.etcd().open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.limit = 0
	_, _, err = c.record(t.Context())
	wantRefusal(t, "no etcd", err, "etcd does not answer", "127.0.0.1:1", "127.0.0.1:2", "refused")

	s.EtcdCAFile = filepath.Join(t.TempDir(), "none.crt")
	_, err = s.etcd().open()
	wantRefusal(t, "no CA file", err, "none.crt", "--etcd-cafile")
}

// A server that waits for its etcd can be stopped.
func TestEtcdWaitEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := agreeWithCluster(ctx, sharingServer(t, "http://127.0.0.1:1"), time.Now()); err == nil {
		t.Error("no error")
	}
}
