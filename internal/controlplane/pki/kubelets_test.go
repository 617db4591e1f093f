package pki

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

// copyAuthority copies the cluster's CA to another server.
func copyAuthority(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{ClusterCA + ".key", ClusterCA + ".crt", FrontProxyCA + ".key", FrontProxyCA + ".crt", ServiceAccountKey, ServiceAccountPub} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func trustedForKubelets(t *testing.T, dir string) []*x509.Certificate {
	t.Helper()
	certs, err := certutil.CertsFromFile(filepath.Join(dir, KubeletAuthorities))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// Servers that share the CA also share the authority of kubelets, though nobody
// copied it. Servers of other clusters have another.
func TestKubeletAuthorityIsShared(t *testing.T) {
	one, two, other := t.TempDir(), t.TempDir(), t.TempDir()
	now := time.Now()
	for _, dir := range []string{one, other} {
		if err := Ensure(dir, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	copyAuthority(t, one, two)
	leaf := Certificate{Name: "kubelet", CA: KubeletCA, CN: "system:node:node-1", Usage: x509.ExtKeyUsageServerAuth, SANs: certutil.AltNames{IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}}
	if err := Ensure(two, []Certificate{leaf}, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	signed, err := Load(Paths(two, "kubelet"))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(roots ...*x509.Certificate) error {
		pool := x509.NewCertPool()
		for _, root := range roots {
			pool.AddCert(root)
		}
		_, err := signed.Cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: "127.0.0.1", CurrentTime: now.Add(time.Hour)})
		return err
	}
	if err := verify(trustedForKubelets(t, one)...); err != nil {
		t.Error("the first server does not trust a kubelet of the second:", err)
	}
	ca, err := Load(Paths(two, ClusterCA))
	if err != nil {
		t.Fatal(err)
	}
	if verify(ca.Cert) == nil {
		t.Error("who trusts the cluster's CA takes a kubelet for the API server")
	}
	if verify(trustedForKubelets(t, other)...) == nil {
		t.Error("another cluster trusts this one's kubelets")
	}
	before, err := os.ReadFile(filepath.Join(two, KubeletCA+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Ensure(two, nil, now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(two, KubeletCA+".crt")); err != nil || !bytes.Equal(before, after) {
		t.Error("the authority was made a second time:", err)
	}
}

// A cluster that is older than the authority of kubelets keeps working: what its CA has
// signed for kubelets is trusted for as long as there can be such certificates.
func TestKubeletAuthorityOfOldCluster(t *testing.T) {
	dir, begin := t.TempDir(), time.Now().Add(-1000*time.Hour)
	if err := Ensure(dir, nil, begin); err != nil {
		t.Fatal(err)
	}
	if n := len(trustedForKubelets(t, dir)); n != 1 {
		t.Fatalf("a new cluster trusts %d authorities for kubelets, want 1", n)
	}
	for _, name := range []string{KubeletCA + ".crt", KubeletCA + ".key", KubeletAuthorities} { // older releases have none
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	upgraded := begin.Add(time.Minute)
	for after, want := range map[time.Duration]int{0: 2, 300 * 24 * time.Hour: 2, softRotation: 1} {
		if err := Ensure(dir, nil, upgraded); err != nil { // the first start of the new release
			t.Fatal(err)
		}
		if err := Ensure(dir, nil, upgraded.Add(after)); err != nil {
			t.Fatal(err)
		}
		if n := len(trustedForKubelets(t, dir)); n != want {
			t.Errorf("%v after the upgrade %d authorities are trusted, want %d", after, n, want)
		}
	}
}

// While the clock was ahead, a CA came, and with it an authority of kubelets that is not valid yet. It is made again.
func TestKubeletAuthorityFromTheFuture(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := Ensure(dir, nil, now); err != nil {
		t.Fatal(err)
	}
	fresh, err := NewAuthority(ClusterCA, ClusterCACN, now)
	if err == nil {
		err = KeepNamed(dir, fresh)
	}
	for _, at := range []time.Time{now.AddDate(0, 1, 0), now} {
		if err == nil {
			err = Ensure(dir, nil, at)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	all := trustedForKubelets(t, dir)
	if len(all) != 2 {
		t.Errorf("%d authorities are trusted", len(all))
	}
	for _, c := range all {
		if c.NotBefore.After(now) {
			t.Errorf("an authority is valid from %s on", c.NotBefore)
		}
	}
}
