package pki

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

// A CA beside the one that signs is trusted everywhere, and signs nothing. Once it signs,
// certificates are renewed, and the kubelets' authority is the one that was trusted before.
func TestPKIOfTwoAuthorities(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := Ensure(dir, testLeaves(), now); err != nil {
		t.Fatal(err)
	}
	old, err := Load(Paths(dir, ClusterCA))
	if err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, old.ID())
	fresh, err := createAuthority(t.TempDir(), ClusterCA, ClusterCACN, now)
	if err == nil {
		err = errors.Join(KeepNamed(dir, old), KeepNamed(dir, fresh), Ensure(dir, testLeaves(), now))
	}
	if err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, old.ID(), fresh.ID())
	kubelets := trustedForKubelets(t, dir)
	if len(kubelets) != 2 || readCert(t, dir, "server").CheckSignatureFrom(old.Cert) != nil {
		t.Errorf("%d authorities of kubelets are trusted", len(kubelets))
	}

	// The server dies between the two files.
	if err := errors.Join(WriteKey(filepath.Join(dir, ClusterCA+".key"), fresh.Key), Ensure(dir, testLeaves(), now)); err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, fresh.ID(), old.ID())
	if readCert(t, dir, "server").CheckSignatureFrom(fresh.Cert) != nil {
		t.Error("a certificate is not of the CA that signs")
	}
	for _, c := range trustedForKubelets(t, dir) {
		if !slices.ContainsFunc(kubelets, c.Equal) {
			t.Error("the authority of kubelets is another than the one that was trusted before")
		}
	}

	if err := errors.Join(DropNamed(dir), Ensure(dir, testLeaves(), now)); err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, fresh.ID())
	if _, err := os.Stat(filepath.Join(dir, NamedCA+old.ID()+".key")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key of a CA that is not trusted any more is there: ", err)
	}
}

func wantTrusted(t *testing.T, dir string, ids ...string) {
	t.Helper()
	certs, err := certutil.CertsFromFile(filepath.Join(dir, ClusterAuthorities))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(certs, ids, func(c *x509.Certificate, id string) bool { return ID(c) == id }) {
		t.Errorf("%d CAs are trusted, want %v", len(certs), ids)
	}
}
