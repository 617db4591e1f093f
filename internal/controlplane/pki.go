package controlplane

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
)

const (
	clusterCACN = "everynode-ca"

	leafLife = 365 * 24 * time.Hour
	// clockSkew is how far a node's clock may be behind ours.
	clockSkew = 5 * time.Minute
)

// certificate names a leaf: what it is for, and whom it speaks for.
type certificate struct {
	name  string // file name below pki/, without .crt and .key
	ca    string // the authority that signs it
	cn    string
	orgs  []string
	usage x509.ExtKeyUsage
	sans  certutil.AltNames
}

// authority is a certificate that signs others, with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// chain is sent along with certificates that it has signed.
	chain []*x509.Certificate
}

// ensurePKI makes what is missing below dir: the three authorities, the key
// pair of service accounts and every certificate of leaves. It renews leaves
// that have less than a third of their life left or no longer say what they
// should, or that another authority has signed than the one that signs now. It never
// replaces an authority, which every node trusts.
func ensurePKI(dir string, leaves []certificate, now time.Time) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := settleAuthority(dir); err != nil {
		return err
	}
	authorities := map[string]*authority{}
	for name, cn := range map[string]string{clusterCA: clusterCACN, frontProxyCA: "everynode-front-proxy-ca"} {
		a, err := ensureAuthority(dir, name, cn, now)
		if err != nil {
			return err
		}
		authorities[name] = a
	}
	signer := authorities[clusterCA]
	others, err := otherAuthorities(dir, signer)
	if err != nil {
		return err
	}
	if signer.chain, err = chainOf(dir, signer); err != nil {
		return err
	}
	if err := writeAuthorities(dir, signer, others); err != nil {
		return err
	}
	if authorities[kubeletCA], err = ensureKubeletAuthorities(dir, signer, others, now); err != nil {
		return err
	}
	if err := ensureServiceAccountKey(dir); err != nil {
		return err
	}
	for _, leaf := range leaves {
		if err := ensureLeaf(dir, leaf, authorities[leaf.ca], now); err != nil {
			return err
		}
	}
	return nil
}

// ensureAuthority loads an authority, or makes one when there is none. A
// certificate without its key is an error: a new pair would lock out all nodes.
func ensureAuthority(dir, name, cn string, now time.Time) (*authority, error) {
	crt, key := pairPaths(dir, name)
	if _, err := os.Stat(crt); errors.Is(err, fs.ErrNotExist) {
		return createAuthority(dir, name, cn, now)
	}
	a, err := loadPair(crt, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate authority %s cannot be used: %w; restore both %s and %s from a backup (nodes trust no other)", name, err, crt, key)
	}
	a.chain = nil // it signs; what its file has besides is sent along by nobody
	if now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("the certificate authority in %s is good until %s, and the clock of this machine says %s: set the clock if it is wrong; "+
			"if it is right, every node has to join again after a server with new keys: keep a copy of %s, move it away, and start again",
			crt, a.cert.NotAfter.Format(time.DateOnly), now.Format(time.DateOnly), dir)
	}
	return a, nil
}

func createAuthority(dir, name, cn string, now time.Time) (*authority, error) {
	a, err := newAuthority(name, cn, now)
	if err != nil {
		return nil, err
	}
	return a, writePair(dir, name, a.cert, a.key)
}

func newAuthority(name, cn string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: cn, NotBefore: now.Add(-clockSkew)}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority %s: %w", name, err)
	}
	return &authority{cert: cert, key: key}, nil
}

// ensureServiceAccountKey makes the key pair that signs service account tokens.
// An existing key stays: replacing it would void every token.
func ensureServiceAccountKey(dir string) error {
	private, public := filepath.Join(dir, serviceAccountKey), filepath.Join(dir, serviceAccountPub)
	if _, err := os.Stat(public); err == nil {
		if _, err := keyutil.PrivateKeyFromFile(private); err != nil {
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
	if err := writeKey(private, key); err != nil {
		return err
	}
	return writeFile(public, pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}))
}

// ensureLeaf keeps the leaf that is there if it is good, else issues one.
func ensureLeaf(dir string, leaf certificate, ca *authority, now time.Time) error {
	crt, key := pairPaths(dir, leaf.name)
	if pair, err := loadPair(crt, key); err == nil && leaf.goodAt(pair.cert, ca, now) && slices.EqualFunc(pair.chain, ca.chain, (*x509.Certificate).Equal) {
		return nil
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", leaf.name, err)
	}
	cert, err := leaf.issue(ca, fresh.Public(), now)
	if err != nil {
		return err
	}
	return writePair(dir, leaf.name, cert, fresh, ca.chain...)
}

// goodAt says whether cert can stand in for a new certificate at time now.
func (c certificate) goodAt(cert *x509.Certificate, ca *authority, now time.Time) bool {
	left, life := cert.NotAfter.Sub(now), cert.NotAfter.Sub(cert.NotBefore)
	switch {
	case now.Before(cert.NotBefore), left < life/3:
		return false
	case cert.CheckSignatureFrom(ca.cert) != nil:
		return false
	case cert.Subject.CommonName != c.cn, !slices.Equal(cert.Subject.Organization, c.orgs):
		return false
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{c.usage}):
		return false
	}
	return slices.Equal(cert.DNSNames, c.sans.DNSNames) && slices.EqualFunc(cert.IPAddresses, c.sans.IPs, net.IP.Equal)
}

// issue signs a certificate that says what c says, for at most the authority's life.
func (c certificate) issue(ca *authority, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number for %s: %w", c.name, err)
	}
	end := now.Add(leafLife)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // must be positive
		Subject:               pkix.Name{CommonName: c.cn, Organization: c.orgs},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{c.usage},
		BasicConstraintsValid: true,
		DNSNames:              c.sans.DNSNames,
		IPAddresses:           c.sans.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate %s: %w", c.name, err)
	}
	return x509.ParseCertificate(der)
}

func pairPaths(dir, name string) (crt, key string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// loadPair reads a certificate and the key that belongs to it, and what is sent along
// with that certificate.
func loadPair(crt, key string) (*authority, error) {
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
	return &authority{certs[0], signer, certs[1:]}, nil
}

// writePair writes the key first: a key without a certificate is made again,
// a certificate without its key cannot be.
func writePair(dir, name string, cert *x509.Certificate, key crypto.Signer, chain ...*x509.Certificate) error {
	crtPath, keyPath := pairPaths(dir, name)
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	data, err := certutil.EncodeCertificates(append([]*x509.Certificate{cert}, chain...)...)
	if err != nil {
		return fmt.Errorf("encode %s: %w", crtPath, err)
	}
	return writeFile(crtPath, data)
}

func writeKey(path string, key crypto.Signer) error {
	data, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, data)
}
