package pki

import (
	"crypto/x509"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

func testLeaves() []Certificate {
	return []Certificate{
		{Name: "server", CA: ClusterCA, CN: "srv", Usage: x509.ExtKeyUsageServerAuth,
			SANs: certutil.AltNames{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}},
		{Name: "client", CA: FrontProxyCA, CN: "somebody", Orgs: []string{"group"}, Usage: x509.ExtKeyUsageClientAuth},
	}
}

func readCert(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	crt, key := Paths(dir, name)
	pair, err := Load(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Cert
}

func TestPKIVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Ensure(dir, testLeaves(), time.Now()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(readCert(t, dir, ClusterCA))
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
	if life := server.NotAfter.Sub(server.NotBefore); life > LeafLife+time.Hour {
		t.Errorf("a leaf lives for %s", life)
	}
}

func TestPKIModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir, testLeaves(), time.Now()); err != nil {
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
		change func(*Certificate)
		renew  bool
	}{
		{"nothing to do", day, func(*Certificate) {}, false},
		{"more than a third is left", 240 * day, func(*Certificate) {}, false},
		{"less than a third is left", 250 * day, func(*Certificate) {}, true},
		{"is valid until", 400 * day, func(*Certificate) {}, true},
		{"a name is added", day, func(c *Certificate) { c.SANs.DNSNames = append(c.SANs.DNSNames, "more.example") }, true},
		{"an address is another", day, func(c *Certificate) { c.SANs.IPs = []net.IP{net.IPv4(10, 0, 0, 1)} }, true},
		{"another user", day, func(c *Certificate) { c.CN = "other" }, true},
		{"another group", day, func(c *Certificate) { c.Orgs = []string{"g"} }, true},
		{"another use", day, func(c *Certificate) { c.Usage = x509.ExtKeyUsageClientAuth }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			leaves := testLeaves()
			if err := Ensure(dir, leaves, start); err != nil {
				t.Fatal(err)
			}
			before, ca := readCert(t, dir, "server"), readCert(t, dir, ClusterCA)
			test.change(&leaves[0])
			if err := Ensure(dir, leaves, start.Add(test.after)); err != nil {
				t.Fatal(err)
			}
			if renewed := !readCert(t, dir, "server").Equal(before); renewed != test.renew {
				t.Errorf("renewed: %v, want %v", renewed, test.renew)
			}
			if !readCert(t, dir, ClusterCA).Equal(ca) {
				t.Error("the authority was replaced")
			}
		})
	}
}

func TestPKIRepairsLeaves(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, testLeaves(), time.Now()); err != nil {
		t.Fatal(err)
	}
	crt, key := Paths(dir, "server")
	for _, path := range []string{crt, key} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(dir, testLeaves(), time.Now()); err != nil {
			t.Fatal(err)
		}
		readCert(t, dir, "server")
	}
}

func TestPKIKeepsAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, key := Paths(dir, ClusterCA)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("an authority without its key gives %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new authority was made in place of the one that nodes trust")
	}
}

func TestPKIExpiredAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	err := Ensure(dir, nil, time.Now().AddDate(11, 0, 0))
	if err == nil {
		t.Fatal("an expired authority is accepted")
	}
	for _, want := range []string{"ca.crt is valid until", "rotate ca prepare", "keep " + dir, "nobody can read the Secrets"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("an expired authority gives %v, without %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "away") {
		t.Errorf("it makes people lose the Secrets: %v", err)
	}
}

// The authority of the front proxy is replaced in its last year, or if a server died between its two files, and with it
// what it has signed. The cluster's CA stays.
func TestPKIRenewsFrontProxy(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := Ensure(dir, testLeaves(), now); err != nil {
		t.Fatal(err)
	}
	first, ca := readCert(t, dir, FrontProxyCA), readCert(t, dir, ClusterCA)
	renewed := func(what string, at time.Time, want bool) {
		t.Helper()
		if err := RenewFrontProxy(dir, at); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(dir, testLeaves(), now); err != nil {
			t.Fatal(err)
		}
		is := readCert(t, dir, FrontProxyCA)
		if is.Equal(first) == want || readCert(t, dir, "client").CheckSignatureFrom(is) != nil || is.NotBefore.After(now) {
			t.Errorf("%s: it is another one: %v; it is valid from %s on", what, !is.Equal(first), is.NotBefore)
		}
		if !readCert(t, dir, ClusterCA).Equal(ca) {
			t.Errorf("%s: the cluster's CA is another one", what)
		}
		first = is
	}
	renewed("nine years are left", now.AddDate(1, 0, 0), false)
	renewed("less than a year is left", now.AddDate(9, 1, 0), true)
	renewed("it has ended", now.AddDate(11, 0, 0), true)
	_, key := Paths(dir, FrontProxyCA)
	other, err := NewAuthority(FrontProxyCA, frontProxyCACN, now)
	if err == nil {
		err = WriteKey(key, other.Key)
	}
	if err != nil {
		t.Fatal(err)
	}
	renewed("the key is another one", now, true)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := RenewFrontProxy(dir, now); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir, nil, now); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("without its key: %v", err)
	}
}
