package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"everynode/internal/controlplane/pki"
	"everynode/internal/datadir"
)

func testSettings(t *testing.T, cfg Config) *settings {
	t.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = filepath.Join(t.TempDir(), "data")
	}
	if cfg.Listen == "" {
		cfg.Listen = freeAddress(t)
	}
	// Ranges for documentation and benchmarks, to which no host has a route.
	cfg.PodCIDR = orDefault(cfg.PodCIDR, "198.18.0.0/16")
	cfg.ServiceCIDR = orDefault(cfg.ServiceCIDR, "198.19.0.0/16")
	s, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one that says %q", err, text)
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no data directory"},
		{Config{DataDir: "d", Listen: "6443"}, "IP:PORT"},
		{Config{DataDir: "d", Listen: "127.0.0.1:0"}, "no port"},
		{Config{DataDir: "d", AdvertiseAddress: "0.0.0.0"}, "advertise address"},
		{Config{DataDir: "d", PodCIDR: "10.42.0.0"}, "is not a CIDR"},
		{Config{DataDir: "d", ServiceCIDR: "10.96.0.1/16"}, "did you mean 10.96.0.0/16"},
		{Config{DataDir: "d", NodeCIDR: "abc"}, "node range"},
		{Config{DataDir: "d", EtcdServers: []string{"https://192.0.2.20:2379", "http://192.0.2.21:2379"}}, "--etcd-servers http://192.0.2.21:2379: everything that the cluster stores"},
		{Config{DataDir: "d", EtcdServers: []string{"http://etcd.example:2379"}}, "unencrypted"},
	} {
		_, err := test.cfg.resolve()
		wantError(t, err, test.want)
	}
}

// An etcd on this machine needs no TLS.
func TestEtcdURLs(t *testing.T) {
	if err := checkEtcdURLs([]string{"http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379", "https://192.0.2.20:2379"}); err != nil {
		t.Error(err)
	}
}

func TestCheckRanges(t *testing.T) {
	to := func(cidr, device string) route { return route{to: netip.MustParsePrefix(cidr), device: device} }
	bridge := to("10.0.0.0/24", "br0")
	tests := []struct {
		name   string
		cfg    Config
		routes []route
		joined bool
		want   string // "": allowed
	}{
		{"defaults", Config{}, []route{to("192.0.2.0/24", "eth0")}, false, ""},
		{"pods and services overlap", Config{PodCIDR: "10.0.0.0/8"}, nil, false, "overlap"},
		{"nodes and services overlap", Config{NodeCIDR: "10.96.1.0/24"}, nil, false, "overlap"},
		{"a route into the services", Config{}, []route{to("10.96.4.0/24", "eth1")}, false, "eth1"},
		{"a route over the pods", Config{}, []route{to("10.0.0.0/8", "vpn0")}, false, "vpn0"},
		{"own bridge", Config{NodeCIDR: "10.0.0.0/24"}, []route{bridge}, false, ""},
		{"own pods over the bridge", Config{NodeCIDR: "10.0.0.0/24"}, []route{bridge, to("10.42.1.0/24", "br0")}, false, ""},
		{"pods of another cluster", Config{NodeCIDR: "10.0.0.0/24"}, []route{bridge, to("10.42.1.0/24", "cni9")}, false, "cni9"},
		{"pods of a node here, joined before", Config{}, []route{to("10.42.1.0/24", "cni0")}, true, ""},
		{"a route over the pods, joined before", Config{}, []route{to("10.0.0.0/8", "vpn0")}, true, "vpn0"},
		{"a route over the nodes", Config{NodeCIDR: "10.0.0.0/24"}, []route{bridge, to("10.0.0.0/16", "eth1")}, false, "eth1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.DataDir = t.TempDir()
			s, err := test.cfg.resolve()
			if err != nil {
				t.Fatal(err)
			}
			err = checkRanges(s, test.routes, test.joined)
			if test.want != "" {
				wantError(t, err, test.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	s := testSettings(t, Config{})
	first, err := preflight(s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = preflight(s)
	wantError(t, err, fmt.Sprintf("in use by another everynode server (process %d", os.Getpid()))

	other := testSettings(t, Config{Listen: s.listen.String()})
	_, err = preflight(other)
	wantError(t, err, "in use by another program")
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	again, err := preflight(s)
	if err != nil {
		t.Fatal("what was released cannot be claimed again:", err)
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
}

// A restored directory becomes the server's at its first start, and not before.
func TestPreflightOfRestored(t *testing.T) {
	s := testSettings(t, Config{})
	dir, err := datadir.Claim(s.DataDir, datadir.Server)
	if err == nil {
		err = dir.SetRestored()
	}
	if err != nil {
		t.Fatal(err)
	}
	unable := testSettings(t, Config{DataDir: s.DataDir, Listen: "203.0.113.9:6443"})
	_, err = preflight(unable)
	wantError(t, err, "belongs to no interface")
	if _, err := datadir.Claim(s.DataDir, datadir.Up); err != nil {
		t.Error("a server that cannot start has taken what was restored:", err)
	}
	held, err := preflight(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := held.release(); err != nil {
		t.Error(err)
	}
	_, err = datadir.Claim(s.DataDir, datadir.Up)
	wantError(t, err, "is the data directory of an everynode server")
}

func TestPreflightAddress(t *testing.T) {
	_, err := preflight(testSettings(t, Config{Listen: "203.0.113.9:6443"}))
	wantError(t, err, "belongs to no interface")
}

func TestPreflightDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := preflight(testSettings(t, Config{DataDir: filepath.Join(file, "data")}))
	wantError(t, err, "cannot be created")
}

func TestPreflightVersion(t *testing.T) {
	for content, want := range map[string]string{
		`{"format":99}`: "newer everynode",
		`nonsense`:      "does not contain the version",
		`{"format":1,"serviceCIDR":"10.9.0.0/16","podCIDR":"198.18.0.0/16"}`:   "service range 10.9.0.0/16",
		`{"format":1,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/17"}`: "pod range 198.18.0.0/17",
	} {
		s := testSettings(t, Config{DataDir: t.TempDir()})
		if _, err := datadir.Claim(s.DataDir, datadir.Server); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("version"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := preflight(s)
		wantError(t, err, want)
	}
}

// With an external etcd, the ranges in it count: a server that was refused because of
// wrong ones can start with the right ones.
func TestPreflightVersionOfSharedStore(t *testing.T) {
	s := testSettings(t, Config{DataDir: t.TempDir(), EtcdServers: []string{"http://127.0.0.1:1"}})
	if err := os.WriteFile(s.path("version"), []byte(`{"format":1,"serviceCIDR":"10.9.0.0/16","podCIDR":"198.18.0.0/17"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := preflight(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(s.path("version"))
	if err != nil || got.ServiceCIDR != s.serviceRange.String() || got.PodCIDR != s.podRange.String() {
		t.Errorf("the record says %+v, %v", got, err)
	}
}

// A given directory that cannot be used stays as it is.
func TestPreflightChangesNothingOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shared")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	_, err := preflight(testSettings(t, Config{DataDir: dir}))
	wantError(t, err, "can be written by others")
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o777 || len(entriesOf(t, dir)) != 0 {
		t.Errorf("the mode is %v, the content %q (%v)", st.Mode(), entriesOf(t, dir), err)
	}
}

// An etcd that existed and no longer does is lost, whether or not that it existed was
// recorded. One that never existed is created, and a start can try that repeatedly.
func TestPreflightLostStore(t *testing.T) {
	start := func(s *settings) error {
		held, err := preflight(s)
		if err != nil {
			return err
		}
		return held.release()
	}
	s := testSettings(t, Config{})
	if err := start(s); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, s.path("pki", "ca.crt"), "") // as if killed before etcd existed
	if err := start(s); err != nil {
		t.Error("a first start that was interrupted cannot be repeated:", err)
	}
	dir, err := datadir.Find(s.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SetStore(datadir.StoreMade); err != nil {
		t.Fatal(err)
	}
	wantError(t, start(s), "has lost its etcd")
	if exists(s.path("etcd", "data")) {
		t.Error("a new etcd was begun")
	}
	writeTestFile(t, s.path("etcd", "data", "member", "snap", "db"), "")
	if err := start(s); err != nil {
		t.Error("with its etcd back:", err)
	}

	// A release that did not record it.
	old := testSettings(t, Config{DataDir: t.TempDir()})
	writeTestFile(t, old.path("version"), `{"format":1,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/16"}`)
	writeTestFile(t, old.path("pki", "ca.crt"), "")
	wantError(t, start(old), "restore it (everynode server snapshot restore FILE)")
	old.EtcdServers, old.embeddedStore = []string{"http://127.0.0.1:1"}, false
	if err := start(old); err != nil {
		t.Error("with an etcd elsewhere:", err)
	}
}

// A server does not start with keys that others can read, and says which.
func TestKeysOfOthers(t *testing.T) {
	s := testSettings(t, Config{})
	held, err := preflight(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.ids().ensure(time.Now()), held.release()); err != nil {
		t.Fatal(err)
	}
	key := s.path("pki", pki.ClusterCA+".key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = preflight(s)
	wantError(t, err, "chmod 600 "+key)
	if err := errors.Join(os.Chmod(key, 0o600), os.Chmod(s.path("admin.kubeconfig"), 0o640)); err != nil {
		t.Fatal(err)
	}
	_, err = preflight(s)
	wantError(t, err, "chmod 600 "+s.path("admin.kubeconfig"))
	if err := os.Chmod(s.path("admin.kubeconfig"), 0o600); err != nil {
		t.Fatal(err)
	}
	if held, err = preflight(s); err != nil {
		t.Fatal(err)
	}
	if err := held.release(); err != nil {
		t.Error(err)
	}
	etcdKey := testFile(t, t.TempDir(), "etcd.key", "", 0o644)
	wantResolved(t, "the key of etcd", Config{EtcdServers: []string{"https://127.0.0.1:1"}, EtcdKeyFile: etcdKey}, "--etcd-keyfile: "+etcdKey+" contains a secret")
}
