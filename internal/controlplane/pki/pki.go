// Package pki keeps the certificates and keys of a control plane in files of one folder: its authorities, which never
// change by themselves, and the certificates that they sign, which are renewed.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"everynode/internal/controlplane/private"
)

// Names of the files below pki/, without .crt and .key where there are two.
const (
	ClusterCA         = "ca"
	FrontProxyCA      = "front-proxy-ca"
	ServiceAccountKey = "service-account.key"
	ServiceAccountPub = "service-account.pub"
)

const (
	// ClusterCACN is the name in the certificate of ClusterCA.
	ClusterCACN = "everynode-ca"

	// LeafLife is how long a certificate that is not an authority's is valid.
	LeafLife = 365 * 24 * time.Hour
	// ClockSkew is how far a node's clock may be behind ours.
	ClockSkew = 5 * time.Minute
	// EndSoon is how long before its end an authority should be replaced.
	EndSoon = 365 * 24 * time.Hour

	frontProxyCACN = "everynode-front-proxy-ca"
)

// Certificate describes a leaf certificate: what it is for, and whom it identifies.
type Certificate struct {
	Name  string // file name below pki/, without .crt and .key
	CA    string // the authority that signs it
	CN    string
	Orgs  []string
	Usage x509.ExtKeyUsage
	SANs  certutil.AltNames
}

// Authority is a certificate that signs others, with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Chain is sent along with certificates that it has signed.
	Chain []*x509.Certificate
}

// Ensure makes what is missing below dir: the three authorities, the key
// pair of service accounts and every certificate of leaves. It renews a leaf
// that has less than a third of its life left, that no longer says what it
// should, or that another authority has signed than the one that signs now. It
// never replaces an authority: every node trusts the cluster's.
func Ensure(dir string, leaves []Certificate, now time.Time) error {
	if err := private.MakeDir(dir); err != nil {
		return err
	}
	if err := Settle(dir); err != nil {
		return err
	}
	authorities := map[string]*Authority{}
	for _, one := range []struct{ name, cn string }{{ClusterCA, ClusterCACN}, {FrontProxyCA, frontProxyCACN}} {
		a, err := ensureAuthority(dir, one.name, one.cn, now)
		if err != nil {
			return err
		}
		authorities[one.name] = a
	}
	signer := authorities[ClusterCA]
	others, err := Others(dir, signer)
	if err != nil {
		return err
	}
	if signer.Chain, err = chainOf(dir, signer); err != nil {
		return err
	}
	if err := writeAuthorities(dir, signer, others); err != nil {
		return err
	}
	if authorities[KubeletCA], err = ensureKubeletAuthorities(dir, signer, others, now); err != nil {
		return err
	}
	if err := ensureServiceAccountKey(dir); err != nil {
		return err
	}
	for _, leaf := range leaves {
		if err := ensureLeaf(dir, leaf, authorities[leaf.CA], now); err != nil {
			return err
		}
	}
	return nil
}

// ensureAuthority loads an authority, or makes one when there is none. A
// certificate without its key is an error: a new pair would lock out all nodes.
func ensureAuthority(dir, name, cn string, now time.Time) (*Authority, error) {
	crt, key := Paths(dir, name)
	if _, err := os.Stat(crt); errors.Is(err, fs.ErrNotExist) {
		return createAuthority(dir, name, cn, now)
	}
	a, err := Load(crt, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate authority %s cannot be used: %w; restore both %s and %s from a backup (nodes trust no other)", name, err, crt, key)
	}
	a.Chain = nil // nobody sends what else is in the file of the authority that signs
	if now.After(a.Cert.NotAfter) {
		return nil, fmt.Errorf("the certificate authority in %s is valid until %s, but the clock of this machine says %s: set the clock if it is wrong; %s",
			crt, a.Cert.NotAfter.Format(time.DateOnly), now.Format(time.DateOnly), afterEnd(name, dir))
	}
	return a, nil
}

// afterEnd says what to do when an authority has ended.
func afterEnd(name, dir string) string {
	if name == FrontProxyCA {
		return "if it is right, replace this authority, which only API servers and those that extend the API know, as docs/security.md says"
	}
	return fmt.Sprintf("if it is right, set the clocks of all servers and nodes back to before that day, start them, replace the CA "+
		"(everynode server rotate ca prepare, then switch, then finish), and set the clocks right; keep %s: without this CA nobody can read the Secrets in etcd", dir)
}

// RenewFrontProxy makes a new authority of the front proxy if the existing one ends within a year. API servers tell
// those that extend the API, and nobody else trusts it. If the pair does not match, because somebody died between its
// two files, it is made again as well.
func RenewFrontProxy(dir string, now time.Time) error {
	old, err := Load(Paths(dir, FrontProxyCA))
	from := now.Add(-ClockSkew)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // Ensure makes it, or reports what is missing
	case err == nil && now.Add(EndSoon).Before(old.Cert.NotAfter):
		return nil
	case err == nil:
		from = old.Cert.NotBefore // the clock may be ahead
	}
	fresh, err := NewAuthority(FrontProxyCA, frontProxyCACN, from)
	if err != nil {
		return err
	}
	return Write(dir, FrontProxyCA, fresh.Cert, fresh.Key)
}

func createAuthority(dir, name, cn string, now time.Time) (*Authority, error) {
	a, err := NewAuthority(name, cn, now.Add(-ClockSkew))
	if err != nil {
		return nil, err
	}
	return a, Write(dir, name, a.Cert, a.Key)
}

// NewAuthority makes an authority that is valid from a time on, without writing it to a file.
func NewAuthority(name, cn string, from time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: cn, NotBefore: from}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority %s: %w", name, err)
	}
	return &Authority{Cert: cert, Key: key}, nil
}

// ensureServiceAccountKey makes the key pair that signs service account tokens.
// An existing key stays: replacing it would invalidate every token.
func ensureServiceAccountKey(dir string) error {
	secret, public := filepath.Join(dir, ServiceAccountKey), filepath.Join(dir, ServiceAccountPub)
	if _, err := os.Stat(public); err == nil {
		if _, err := keyutil.PrivateKeyFromFile(secret); err != nil {
			return fmt.Errorf("read the service account key: %w; restore it from a backup", err)
		}
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the service account key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the service account key: %w", err)
	}
	if err := WriteKey(secret, key); err != nil {
		return err
	}
	return private.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}))
}

// ensureLeaf keeps an existing leaf if it is good. Otherwise it issues one.
func ensureLeaf(dir string, leaf Certificate, ca *Authority, now time.Time) error {
	crt, key := Paths(dir, leaf.Name)
	if pair, err := Load(crt, key); err == nil && leaf.goodAt(pair.Cert, ca, now) && slices.EqualFunc(pair.Chain, ca.Chain, (*x509.Certificate).Equal) {
		return nil
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", leaf.Name, err)
	}
	cert, err := leaf.Issue(ca, fresh.Public(), now)
	if err != nil {
		return err
	}
	return Write(dir, leaf.Name, cert, fresh, ca.Chain...)
}

// goodAt reports whether cert is as good as a new certificate at time now.
func (c Certificate) goodAt(cert *x509.Certificate, ca *Authority, now time.Time) bool {
	left, life := cert.NotAfter.Sub(now), cert.NotAfter.Sub(cert.NotBefore)
	switch {
	case now.Before(cert.NotBefore), left < life/3:
		return false
	case cert.CheckSignatureFrom(ca.Cert) != nil:
		return false
	case cert.Subject.CommonName != c.CN, !slices.Equal(cert.Subject.Organization, c.Orgs):
		return false
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{c.Usage}):
		return false
	}
	return slices.Equal(cert.DNSNames, c.SANs.DNSNames) && slices.EqualFunc(cert.IPAddresses, c.SANs.IPs, net.IP.Equal)
}

// Issue signs a certificate that says what c says. It is valid for LeafLife, but never longer than the authority.
func (c Certificate) Issue(ca *Authority, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number for %s: %w", c.Name, err)
	}
	end := now.Add(LeafLife)
	if end.After(ca.Cert.NotAfter) {
		end = ca.Cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // must be positive
		Subject:               pkix.Name{CommonName: c.CN, Organization: c.Orgs},
		NotBefore:             now.Add(-ClockSkew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{c.Usage},
		BasicConstraintsValid: true,
		DNSNames:              c.SANs.DNSNames,
		IPAddresses:           c.SANs.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, public, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate %s: %w", c.Name, err)
	}
	return x509.ParseCertificate(der)
}

// Paths returns the files of a certificate and of its key.
func Paths(dir, name string) (crt, key string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// Load reads a certificate and its key, and what is sent along with that certificate. It
// fails if they do not belong together.
func Load(crt, key string) (*Authority, error) {
	certs, err := certutil.CertsFromFile(crt)
	if err != nil {
		return nil, err
	}
	private, err := keyutil.PrivateKeyFromFile(key)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, which cannot sign", key, private)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if !bytes.Equal(public, certs[0].RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("%s is not the key of %s", key, crt)
	}
	return &Authority{certs[0], signer, certs[1:]}, nil
}

// Write writes a pair, the key first. After a crash between the two, a key without a
// certificate is replaced, but a certificate without its key could not be used.
func Write(dir, name string, cert *x509.Certificate, key crypto.Signer, chain ...*x509.Certificate) error {
	crtPath, keyPath := Paths(dir, name)
	if err := WriteKey(keyPath, key); err != nil {
		return err
	}
	data, err := certutil.EncodeCertificates(append([]*x509.Certificate{cert}, chain...)...)
	if err != nil {
		return fmt.Errorf("encode %s: %w", crtPath, err)
	}
	return private.WriteFile(crtPath, data)
}

// WriteKey writes a key without a certificate.
func WriteKey(path string, key crypto.Signer) error {
	data, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return private.WriteFile(path, data)
}

// DeriveKey returns size bytes that are derived from the key of an authority. They reveal
// nothing about the bytes for another purpose.
func DeriveKey(ca *Authority, purpose string, size int) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(ca.Key)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, secret, nil, purpose, size)
}
