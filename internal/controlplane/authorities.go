package controlplane

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	certutil "k8s.io/client-go/util/cert"
)

// Usually a cluster has one CA. While it is rotated there are two, and everybody trusts
// both: one signs, and is in ca.crt and ca.key as ever. Both are also in files that
// carry their names, so that a change of the one that signs is a copy, which a crash cannot
// leave without a key that is needed.
const (
	// clusterAuthorities is the file below pki/ with all that are trusted, the one that
	// signs first.
	clusterAuthorities = "authorities.crt"
	// crossFile has certificates of authorities once more, each signed by the one before it.
	// Servers send that of theirs along: who only trusts the one before it knows them by it.
	crossFile = "cross-signed.crt"
	// namedCA is what the names of files of a rotation begin with; an authorityID follows.
	namedCA = clusterCA + "-"
)

// authorityID names an authority: the first digits of what join tokens call it by.
func authorityID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:8])
}

func (a *authority) id() string { return authorityID(a.cert) }

// settleAuthority mends ca.crt after a crash between the two files of a pair: ca.key,
// which comes first, says which authority was to sign.
func settleAuthority(dir string) error {
	crt, key := pairPaths(dir, clusterCA)
	if _, err := loadPair(crt, key); err == nil {
		return nil
	}
	named, err := namedAuthorities(dir)
	if err != nil {
		return err
	}
	for _, a := range named {
		namedCrt, _ := pairPaths(dir, namedCA+a.id())
		if _, err := loadPair(namedCrt, key); err == nil {
			return writeCertificates(crt, a.cert)
		}
	}
	return nil // whoever loads the pair says what is wrong with it
}

// namedAuthorities are those of a rotation that is under way, by name. One without its key
// is about to be removed.
func namedAuthorities(dir string) (list []*authority, err error) {
	files, err := filepath.Glob(filepath.Join(dir, namedCA+"*.crt"))
	if err != nil {
		return nil, fmt.Errorf("look for authorities: %w", err)
	}
	for _, crt := range files {
		a, err := loadPair(crt, strings.TrimSuffix(crt, ".crt")+".key")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the certificate authority %s cannot be used: %w; copy it from another server of the cluster, or restore it from a backup", crt, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// otherAuthorities are those that are trusted besides the one that signs.
func otherAuthorities(dir string, signer *authority) ([]*authority, error) {
	named, err := namedAuthorities(dir)
	return slices.DeleteFunc(named, func(a *authority) bool { return a.id() == signer.id() }), err
}

// writeAuthorities writes who is trusted.
func writeAuthorities(dir string, signer *authority, others []*authority) error {
	trusted := []*x509.Certificate{signer.cert}
	for _, a := range others {
		trusted = append(trusted, a.cert)
	}
	return writeCertificates(filepath.Join(dir, clusterAuthorities), trusted...)
}

// chainOf is what a server sends along with certificates of an authority.
func chainOf(dir string, a *authority) ([]*x509.Certificate, error) {
	path := filepath.Join(dir, crossFile)
	certs, err := certutil.CertsFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w; copy it from another server of the cluster, or delete it", path, err)
	}
	return slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return authorityID(c) != a.id() }), nil
}

// writeCertificates writes a file with certificates, unless it says so already.
func writeCertificates(path string, certs ...*x509.Certificate) error {
	data, err := certutil.EncodeCertificates(certs...)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeIfChanged(path, data)
}

// keepNamed writes the files of an authority that carry its name.
func keepNamed(dir string, a *authority) error {
	if have, err := loadPair(pairPaths(dir, namedCA+a.id())); err == nil && have.cert.Equal(a.cert) {
		return nil
	}
	return writePair(dir, namedCA+a.id(), a.cert, a.key)
}

// dropNamed removes the files that carry an authority's name, keys first.
func dropNamed(dir string) error {
	for _, pattern := range []string{namedCA + "*.key", kubeletCA + "-*.key", namedCA + "*.crt", kubeletCA + "-*.crt"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("look for authorities: %w", err)
		}
		for _, path := range files {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove an authority that is no longer trusted: %w", err)
			}
		}
	}
	return nil
}
