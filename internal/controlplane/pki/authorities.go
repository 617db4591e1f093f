package pki

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

	"everynode/internal/controlplane/private"
)

// Usually a cluster has one CA. While it is rotated there are two, and everybody trusts
// both. One of them signs, and is in ca.crt and ca.key as usual. Both are also in files
// that are named after their IDs. So a change of the one that signs is a copy, and a crash
// in the middle cannot lose a key that is needed.
const (
	// ClusterAuthorities is the file below pki/ with all trusted authorities, the one that
	// signs first.
	ClusterAuthorities = "authorities.crt"
	// CrossFile has further certificates of authorities, each signed by the authority before
	// it. Servers send their authority's along, so that those who trust only the authority
	// before it accept them.
	CrossFile = "cross-signed.crt"
	// NamedCA begins the names of a rotation's files; an ID follows.
	NamedCA = ClusterCA + "-"
)

// ID returns the ID of an authority: the first 16 hex digits of the hash that join tokens name it by.
func ID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:8])
}

// ID returns the ID of the authority.
func (a *Authority) ID() string { return ID(a.Cert) }

// Settle repairs ca.crt after a crash between writing the two files of the pair:
// ca.key, which is written first, says which authority should sign.
func Settle(dir string) error {
	crt, key := Paths(dir, ClusterCA)
	if _, err := Load(crt, key); err == nil {
		return nil
	}
	named, err := namedAuthorities(dir)
	if err != nil {
		return err
	}
	for _, a := range named {
		namedCrt, _ := Paths(dir, NamedCA+a.ID())
		if _, err := Load(namedCrt, key); err == nil {
			return WriteCertificates(crt, a.Cert)
		}
	}
	return nil // whoever loads the pair reports what is wrong with it
}

// namedAuthorities returns the authorities of a rotation that is under way, by name. It skips
// one without its key, which is about to be removed.
func namedAuthorities(dir string) (list []*Authority, err error) {
	files, err := filepath.Glob(filepath.Join(dir, NamedCA+"*.crt"))
	if err != nil {
		return nil, fmt.Errorf("look for authorities: %w", err)
	}
	for _, crt := range files {
		a, err := Load(crt, strings.TrimSuffix(crt, ".crt")+".key")
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

// Others returns the authorities that are trusted besides the one that signs.
func Others(dir string, signer *Authority) ([]*Authority, error) {
	named, err := namedAuthorities(dir)
	return slices.DeleteFunc(named, func(a *Authority) bool { return a.ID() == signer.ID() }), err
}

// writeAuthorities writes which authorities are trusted.
func writeAuthorities(dir string, signer *Authority, others []*Authority) error {
	trusted := []*x509.Certificate{signer.Cert}
	for _, a := range others {
		trusted = append(trusted, a.Cert)
	}
	return WriteCertificates(filepath.Join(dir, ClusterAuthorities), trusted...)
}

// chainOf returns what a server sends along with certificates of an authority.
func chainOf(dir string, a *Authority) ([]*x509.Certificate, error) {
	path := filepath.Join(dir, CrossFile)
	certs, err := certutil.CertsFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w; copy it from another server of the cluster, or delete it", path, err)
	}
	return slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return ID(c) != a.ID() }), nil
}

// CameByRotation reports whether an authority came after another one that has signed it.
func CameByRotation(dir string, a *Authority) (bool, error) {
	chain, err := chainOf(dir, a)
	return len(chain) > 0, err
}

// WriteCertificates writes a file with certificates, unless it already has them.
func WriteCertificates(path string, certs ...*x509.Certificate) error {
	data, err := certutil.EncodeCertificates(certs...)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return private.WriteIfChanged(path, data)
}

// KeepNamed writes the files of an authority that are named after its ID.
func KeepNamed(dir string, a *Authority) error {
	if have, err := Load(Paths(dir, NamedCA+a.ID())); err == nil && have.Cert.Equal(a.Cert) {
		return nil
	}
	return Write(dir, NamedCA+a.ID(), a.Cert, a.Key)
}

// DropNamed removes the files that are named after an authority's ID, keys first.
func DropNamed(dir string) error {
	for _, pattern := range []string{NamedCA + "*.key", KubeletCA + "-*.key", NamedCA + "*.crt", KubeletCA + "-*.crt"} {
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
