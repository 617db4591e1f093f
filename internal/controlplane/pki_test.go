package controlplane

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

func testLeaves() []certificate {
	return []certificate{
		{name: "server", ca: clusterCA, cn: "srv", usage: x509.ExtKeyUsageServerAuth,
			sans: certutil.AltNames{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}},
		{name: "client", ca: frontProxyCA, cn: "somebody", orgs: []string{"group"}, usage: x509.ExtKeyUsageClientAuth},
	}
}

func readCert(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	crt, key := pairPaths(dir, name)
	pair, err := loadPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.cert
}

func TestPKIVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := ensurePKI(dir, testLeaves(), time.Now()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(readCert(t, dir, clusterCA))
	server := readCert(t, dir, "server")
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if _, err := server.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	client := readCert(t, dir, "client")
	opts := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := client.Verify(opts); err == nil {
		t.Error("a certificate of the front proxy's authority is good for the cluster's")
	}
	if life := server.NotAfter.Sub(server.NotBefore); life > leafLife+time.Hour {
		t.Errorf("a leaf lives for %s", life)
	}
}

func TestPKIModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := ensurePKI(dir, testLeaves(), time.Now()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPKIRenewal(t *testing.T) {
	start := time.Now()
	day := 24 * time.Hour
	tests := []struct {
		name   string
		after  time.Duration
		change func(*certificate)
		renew  bool
	}{
		{"nothing to do", day, func(*certificate) {}, false},
		{"more than a third is left", 240 * day, func(*certificate) {}, false},
		{"less than a third is left", 250 * day, func(*certificate) {}, true},
		{"is good until", 400 * day, func(*certificate) {}, true},
		{"a name is added", day, func(c *certificate) { c.sans.DNSNames = append(c.sans.DNSNames, "more.example") }, true},
		{"an address is another", day, func(c *certificate) { c.sans.IPs = []net.IP{net.IPv4(10, 0, 0, 1)} }, true},
		{"another user", day, func(c *certificate) { c.cn = "other" }, true},
		{"another group", day, func(c *certificate) { c.orgs = []string{"g"} }, true},
		{"another use", day, func(c *certificate) { c.usage = x509.ExtKeyUsageClientAuth }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			leaves := testLeaves()
			if err := ensurePKI(dir, leaves, start); err != nil {
				t.Fatal(err)
			}
			before, ca := readCert(t, dir, "server"), readCert(t, dir, clusterCA)
			test.change(&leaves[0])
			if err := ensurePKI(dir, leaves, start.Add(test.after)); err != nil {
				t.Fatal(err)
			}
			if renewed := !readCert(t, dir, "server").Equal(before); renewed != test.renew {
				t.Errorf("renewed: %v, want %v", renewed, test.renew)
			}
			if !readCert(t, dir, clusterCA).Equal(ca) {
				t.Error("the authority was replaced")
			}
		})
	}
}

func TestPKIRepairsLeaves(t *testing.T) {
	dir := t.TempDir()
	if err := ensurePKI(dir, testLeaves(), time.Now()); err != nil {
		t.Fatal(err)
	}
	crt, key := pairPaths(dir, "server")
	for _, path := range []string{crt, key} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ensurePKI(dir, testLeaves(), time.Now()); err != nil {
			t.Fatal(err)
		}
		readCert(t, dir, "server")
	}
}

func TestPKIKeepsAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := ensurePKI(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, key := pairPaths(dir, clusterCA)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := ensurePKI(dir, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("an authority without its key gives %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new authority was made in place of the one that nodes trust")
	}
}

func TestPKIExpiredAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := ensurePKI(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	err := ensurePKI(dir, nil, time.Now().AddDate(11, 0, 0))
	if err == nil || !strings.Contains(err.Error(), "is good until") {
		t.Errorf("an expired authority gives %v", err)
	}
}

func TestServingNames(t *testing.T) {
	s, err := Config{DataDir: t.TempDir(), Listen: "10.0.0.1:6443", SANs: []string{"api.example", "10.0.0.1", "192.0.2.7"}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	sans, err := s.ids().servingNames()
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{DNSNames: sans.DNSNames, IPAddresses: sans.IPs}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "10.0.0.1", "10.96.0.1", "192.0.2.7", "api.example", "kubernetes.default.svc"} {
		if err := cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	s.SANs = []string{"https://api.example"}
	if _, err := s.ids().servingNames(); err == nil {
		t.Error("a URL is taken for a name")
	}
}

// A renewal that cannot write ends nothing, and is tried again soon; one that has
// nothing to change needs no room at all.
func TestRenewOnFullDisk(t *testing.T) {
	s := testSettings(t, Config{DataDir: t.TempDir()})
	now := time.Now()
	if err := s.ids().ensure(now); err != nil {
		t.Fatal(err)
	}
	if next := s.ids().renew(now); next != renewEvery {
		t.Errorf("the next look is in %v, want %v", next, renewEvery)
	}
	before := fileIDs(t, s.DataDir)
	if err := s.ids().ensure(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if after := fileIDs(t, s.DataDir); !slices.Equal(before, after) {
		t.Errorf("files that say the same were written again:\n%v\n%v", before, after)
	}
	// A folder in the way of a file stands for every failure to write.
	path := s.path("admin.kubeconfig")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if next := s.ids().renew(now); next != renewAgain {
		t.Errorf("after a failure the next look is in %v, want %v", next, renewAgain)
	}
	wantError(t, ensurePKI(s.path("pki"), nil, now.AddDate(40, 0, 0)), "set the clock if it is wrong")
}

// The CA of a cluster lives ten years; in its last one each look at the certificates warns.
func TestEndOfCA(t *testing.T) {
	s := testSettings(t, Config{DataDir: t.TempDir()})
	now := time.Now()
	if _, _, err := s.ids().endOfCA(now); err == nil {
		t.Error("the end of a CA that is not there is known")
	}
	if err := s.ids().ensure(now); err != nil {
		t.Fatal(err)
	}
	for years, want := range map[int]bool{0: false, 8: false, 10: true} {
		end, soon, err := s.ids().endOfCA(now.AddDate(years, -1, 0))
		if err != nil || soon != want || end.Year() < now.Year()+9 {
			t.Errorf("%d years later: it ends %s, soon: %v (%v)", years, end, soon, err)
		}
	}
}

// fileIDs tells files that were replaced from those that were not.
func fileIDs(t *testing.T, dir string) (ids []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			ids = append(ids, fmt.Sprint(path, info.Sys().(*syscall.Stat_t).Ino))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
