package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/client-go/rest"

	"everynode/internal/controlplane/pki"
)

// rotatingCluster is a cluster of several servers in one etcd, as far as its keys go: the
// servers' followers are real, and their API servers are files that are read.
type rotatingCluster struct {
	t       *testing.T
	etcd    string
	client  *clientv3.Client
	servers []*testServer
}

// testServer is a running server.
type testServer struct {
	*settings
	follower *keyFollower
	end      func() error

	mu      sync.Mutex
	stuck   string // the hash of the file that its API server keeps using; "": it follows
	stuckCA bool   // its API server does not load other CAs
	// refusesNew: its API server accepts no CA but the one that signs.
	refusesNew bool
}

func newRotatingCluster(t *testing.T, servers int) *rotatingCluster {
	etcd, client := sharedEtcd(t)
	c := &rotatingCluster{t: t, etcd: etcd, client: client}
	for i := range servers {
		s := sharingServer(t, etcd)
		s.advertise = netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1))
		if i > 0 {
			share(t, c.servers[0].settings, s, sharedFiles()...)
		}
		if err := s.agree(t); err != nil {
			t.Fatal(err)
		}
		c.servers = append(c.servers, &testServer{settings: s})
		c.start(c.servers[i])
	}
	for i := range 3 {
		c.write(types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("secret-%d", i)}, firstKey)
	}
	return c
}

// start does what a server does at its start.
func (c *rotatingCluster) start(s *testServer) {
	c.t.Helper()
	f := s.newKeyFollower([]string{c.etcd})
	f.inUse = s.hashInUse
	f.authorities.inUse = func(_ context.Context, trusted, _ []*pki.Authority) error { return s.caInUse(trusted) }
	f.authorities.publish = func(context.Context) error { return nil }
	if err := errors.Join(f.begin(c.t.Context()), s.writeEncryption()); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	s.follower = f
	s.end = sync.OnceValue(func() error {
		cancel()
		err := <-done
		f.close(context.WithoutCancel(ctx))
		return err
	})
	c.t.Cleanup(func() { _ = s.end() })
}

func (s *testServer) hashInUse() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck != "" {
		return s.stuck
	}
	hash, err := encryptionconfig.GetEncryptionConfigHash(s.path("pki", encryptionFile))
	if err != nil {
		return ""
	}
	return hash
}

// stick makes the server's API server stop reading its file, or start again.
func (s *testServer) stick(stuck bool) {
	hash := s.hashInUse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = map[bool]string{true: hash}[stuck]
}

// write puts a Secret into etcd that is encrypted with a key.
func (c *rotatingCluster) write(name types.NamespacedName, key string) {
	if _, err := c.client.Put(c.t.Context(), secretsKeyPrefix+name.Namespace+"/"+name.Name, encryptionPrefix+key+":..."); err != nil {
		c.t.Error(err)
	}
}

// keysInUse returns the names of the keys in a server's file, the one that it writes with first.
func (s *testServer) keysInUse(t *testing.T) (names []string) {
	data, err := os.ReadFile(s.path("pki", encryptionFile))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- name: "); ok {
			names = append(names, name)
		}
	}
	return names
}

// rotation returns a rotation that works from the data directory of the first server. The API
// server of any server writes its Secrets, with the key that it has.
func (c *rotatingCluster) rotation(progress func(step string)) *keyRotation {
	c.t.Helper()
	s := *c.servers[0].settings
	s.Progress = func(step string, _ time.Duration) { progress(step) }
	r := &keyRotation{settings: &s, loadTime: 10 * time.Second}
	var err error
	if r.sealer, err = s.ids().sealer(); err != nil {
		c.t.Fatal(err)
	}
	if r.store, err = s.etcd().open(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(r.store.close)
	r.touch = func(_ context.Context, name types.NamespacedName) error {
		server := c.servers[len(name.Name)%len(c.servers)]
		c.write(name, server.keysInUse(c.t)[0])
		return nil
	}
	return r
}

// checkRotated fails the test unless there is only one key, and returns its name.
func (c *rotatingCluster) checkRotated(r *keyRotation) string {
	c.t.Helper()
	state, err := r.store.secretsKeys(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if len(state.Keys) != 1 || state.Step != KeysSteady || state.Keys[0].Secrets != 3 || state.Clear+state.Unreadable != 0 || !state.Encrypted {
		c.t.Fatalf("after the rotation: %+v", *state)
	}
	for _, s := range c.servers {
		if keys := s.keysInUse(c.t); !slices.Equal(keys, []string{state.Keys[0].Name}) {
			c.t.Errorf("a server has the keys %v", keys)
		}
	}
	return state.Keys[0].Name
}

func quiet(string) {}

// Two servers change to a new key together, and do it again, also when there are Secrets in the clear.
func TestRotateKeysOfTwoServers(t *testing.T) {
	c := newRotatingCluster(t, 2)
	r := c.rotation(quiet)
	if _, err := c.client.Put(t.Context(), secretsKeyPrefix+"default/secret-0", "k8s\x00in the clear"); err != nil {
		t.Fatal(err)
	}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := c.checkRotated(r)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second := c.checkRotated(r); first == firstKey || second == first {
		t.Errorf("the keys are %s and then %s", first, second)
	}
	for _, s := range c.servers {
		if info, err := os.Stat(s.path("pki", encryptionFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file with the keys: %v, %v", info, err)
		}
	}
	// A server that starts later, and one that starts again, have the key at once.
	if err := c.servers[1].end(); err != nil {
		t.Error(err)
	}
	c.start(c.servers[1])
	c.checkRotated(r)
}

// A rotation is interrupted after each of its steps. At no step are there Secrets that a
// server cannot read, and the next rotation continues with the same key.
func TestRotateKeysInterrupted(t *testing.T) {
	c := newRotatingCluster(t, 2)
	next := ""
	for steps := 1; ; steps++ {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		r := c.rotation(func(string) {
			if seen++; seen == steps {
				cancel()
			}
		})
		err := r.run(ctx)
		cancel()
		ring, readErr := r.store.keyring(t.Context())
		if readErr != nil {
			t.Fatal(readErr)
		}
		c.checkReadable(r)
		if err == nil {
			if steps < 4 {
				t.Errorf("it had only %d steps", steps)
			}
			if name := c.checkRotated(r); name != next {
				t.Errorf("it began with %s and ended with %s", next, name)
			}
			return
		}
		if next != "" && ring.Next != next && ring.writer() != next {
			t.Fatalf("after %s comes %s", next, ring.Next)
		}
		if next = ring.Next; next == "" && ring.Generation > 0 {
			return // it was interrupted when all was done
		}
	}
}

// checkReadable checks that each server can read all Secrets.
func (c *rotatingCluster) checkReadable(r *keyRotation) {
	c.t.Helper()
	uses, err := r.store.secretsByKey(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range c.servers {
		for key, names := range uses {
			if keys := s.keysInUse(c.t); !slices.Contains(keys, key) {
				c.t.Errorf("a server with the keys %v cannot read %v, which has %s", keys, names, key)
			}
		}
	}
}

// The rotation does not continue while a server lacks the keys, and the error names it.
func TestRotateKeysWaits(t *testing.T) {
	c := newRotatingCluster(t, 2)
	r := c.rotation(quiet)
	r.loadTime = 3 * followEvery
	late := c.servers[1]
	late.stick(true)
	wantRefusal(t, "a server that does not load", r.run(t.Context()), "192.0.2.2", "nothing is lost", "same command")
	if ring, err := r.store.keyring(t.Context()); err != nil || ring.writer() != firstKey || ring.Next == "" {
		t.Errorf("the keys are %v, next %q, %v", ring.names(), ring.Next, err)
	}
	late.stick(false)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.checkRotated(r)

	// A server of an older release keeps its address in etcd, and says nothing about keys.
	if _, err := c.client.Put(t.Context(), endpointsKey+"192.0.2.9", "an address"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "an older server", r.run(t.Context()), "192.0.2.9", "older release")
	if ring, err := r.store.keyring(t.Context()); err != nil || ring.Next != "" {
		t.Errorf("a key was made for servers that cannot have it: %+v, %v", ring, err)
	}
}

// While a webhook refuses a Secret, or Secrets are still written with the old key, the cluster
// keeps the old key.
func TestRotateKeysRefused(t *testing.T) {
	c := newRotatingCluster(t, 1)
	r := c.rotation(quiet)
	write := r.touch
	r.touch = func(ctx context.Context, name types.NamespacedName) error {
		if name.Name == "secret-1" {
			return fmt.Errorf("%s: a webhook says no", name)
		}
		return write(ctx, name)
	}
	wantRefusal(t, "a webhook", r.run(t.Context()), "1 Secrets", "default/secret-1", "says no", "old key stays")
	if keys := c.servers[0].keysInUse(t); len(keys) != 2 {
		t.Errorf("the server has the keys %v", keys)
	}
	r.touch = func(context.Context, types.NamespacedName) error { return nil }
	wantRefusal(t, "Secrets that stay", r.run(t.Context()), "a key other than", "older release")
	r.touch = write
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.checkRotated(r)
}

// A server that was cut off while the keys changed twice must not continue to write.
func TestFollowerWithStaleKeys(t *testing.T) {
	c := newRotatingCluster(t, 1)
	s := c.servers[0]
	eventually(t, "the server has told its keys", func(ctx context.Context) (bool, error) {
		servers, err := s.follower.store.presences(ctx)
		return err == nil && len(behind(servers, 0)) == 0, err
	})
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	store, err := s.etcd().open()
	if err != nil {
		t.Fatal(err)
	}
	defer store.close()
	ring, err := clusterSealer(t, s.settings).begun(keyring{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ring.Generation += 2
	if _, err := store.replaceKeyring(t.Context(), ring); err != nil {
		t.Fatal(err)
	}
	f := s.newKeyFollower([]string{c.etcd})
	f.me.Loaded = 0
	defer f.close(t.Context())
	wantRefusal(t, "keys of long ago", f.run(t.Context()), "rotated while this server could not reach etcd")
}

func clusterSealer(t *testing.T, s *settings) *keySealer {
	t.Helper()
	sealer, err := s.ids().sealer()
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// Mistakes are reported before anything is done.
func TestRotateKeysRefusals(t *testing.T) {
	c := newRotatingCluster(t, 1)
	s := c.servers[0]
	cfg := Config{DataDir: s.DataDir, EtcdServers: s.EtcdServers}
	key := s.path("pki", pki.ClusterCA+".key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err := openRotation(t.Context(), cfg, &rest.Config{Host: "https://192.0.2.1"})
	wantRefusal(t, "a key that others can read", err, key, "chmod 600")
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = openRotation(t.Context(), Config{DataDir: t.TempDir(), EtcdServers: s.EtcdServers}, &rest.Config{Host: "https://192.0.2.1"})
	wantRefusal(t, "no server's directory", err, "ca.crt", "--data-dir")
	_, _, err = openRotation(t.Context(), Config{DataDir: s.DataDir}, &rest.Config{Host: "https://192.0.2.1"})
	wantRefusal(t, "no etcd of its own", err, "no server with embedded etcd runs", "--etcd-servers")

	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.encryptSecrets = false
	c.start(s)
	eventually(t, "it is refused in the clear", func(ctx context.Context) (bool, error) {
		_, done, err := openRotation(ctx, cfg, &rest.Config{Host: "https://192.0.2.1"})
		if err == nil {
			return false, done()
		}
		wantRefusal(t, "Secrets in the clear", err, "unencrypted", "--encrypt-secrets")
		return true, nil
	})
	if ring, err := s.follower.store.keyring(t.Context()); err != nil || ring.revision != 0 {
		t.Errorf("there is a keyring: %+v, %v", ring, err)
	}
	if left, err := filepath.Glob(s.path("*", "*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
