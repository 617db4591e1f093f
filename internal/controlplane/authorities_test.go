package controlplane

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

// A CA beside the one that signs is trusted everywhere, and signs nothing; when it signs,
// certificates are renewed, and the kubelets' authority is the one that was trusted before.
func TestPKIOfTwoAuthorities(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := ensurePKI(dir, testLeaves(), now); err != nil {
		t.Fatal(err)
	}
	old, err := loadPair(pairPaths(dir, clusterCA))
	if err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, old.id())
	fresh, err := createAuthority(t.TempDir(), clusterCA, clusterCACN, now)
	if err == nil {
		err = errors.Join(keepNamed(dir, old), keepNamed(dir, fresh), ensurePKI(dir, testLeaves(), now))
	}
	if err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, old.id(), fresh.id())
	kubelets := trustedForKubelets(t, dir)
	if len(kubelets) != 2 || readCert(t, dir, "server").CheckSignatureFrom(old.cert) != nil {
		t.Errorf("%d authorities of kubelets are trusted", len(kubelets))
	}

	// The server dies between the two files.
	if err := errors.Join(writeKey(filepath.Join(dir, clusterCA+".key"), fresh.key), ensurePKI(dir, testLeaves(), now)); err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, fresh.id(), old.id())
	if readCert(t, dir, "server").CheckSignatureFrom(fresh.cert) != nil {
		t.Error("a certificate is not of the CA that signs")
	}
	for _, c := range trustedForKubelets(t, dir) {
		if !slices.ContainsFunc(kubelets, c.Equal) {
			t.Error("the authority of kubelets is another than the one that was trusted before")
		}
	}

	if err := errors.Join(dropNamed(dir), ensurePKI(dir, testLeaves(), now)); err != nil {
		t.Fatal(err)
	}
	wantTrusted(t, dir, fresh.id())
	if _, err := os.Stat(filepath.Join(dir, namedCA+old.id()+".key")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key of a CA that is not trusted any more is there: ", err)
	}
}

func wantTrusted(t *testing.T, dir string, ids ...string) {
	t.Helper()
	certs, err := certutil.CertsFromFile(filepath.Join(dir, clusterAuthorities))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(certs, ids, func(c *x509.Certificate, id string) bool { return authorityID(c) == id }) {
		t.Errorf("%d CAs are trusted, want %v", len(certs), ids)
	}
}
