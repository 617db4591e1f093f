package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

// The serving certificates of kubelets come from an authority of their own, which
// only API servers trust, and for kubelets only: a node that has one for a name
// or an address that is not its own cannot pose as the API server to anybody.
//
// Its key is derived from the key of the cluster's CA. So the servers of a cluster
// have the same one, and so does a restored cluster, without another file to copy.
const (
	KubeletCA = "kubelet-ca"
	// KubeletCACN is the name in its certificate.
	KubeletCACN = "everynode-kubelet-ca"
	// KubeletAuthorities is the file below pki/ with the authorities that API servers
	// trust for kubelets.
	KubeletAuthorities = "kubelet-authorities.crt"
	// softRotation is how long certificates that the cluster's CA signed for kubelets,
	// before this authority existed, can still be in use.
	softRotation = LeafLife + 24*time.Hour
)

// ensureKubeletAuthorities loads or makes the authority of kubelets, and those that are derived
// from other trusted CAs. It writes which ones API servers trust.
func ensureKubeletAuthorities(dir string, ca *Authority, others []*Authority, now time.Time) (*Authority, error) {
	var trusted []*x509.Certificate
	for _, other := range others { // they come first: one of them may be the former one in kubelet-ca.crt
		b, err := ensureKubeletAuthority(dir, KubeletCA+"-"+other.ID(), other, now)
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, b.Cert)
	}
	a, err := ensureKubeletAuthority(dir, KubeletCA, ca, now)
	if err != nil {
		return nil, err
	}
	trusted = append([]*x509.Certificate{a.Cert}, trusted...)
	// In a new cluster both are made at the same moment, and a CA that a rotation introduced has
	// signed nothing for kubelets.
	if len(ca.Chain) == 0 && a.Cert.NotBefore.After(ca.Cert.NotBefore) && now.Before(a.Cert.NotBefore.Add(softRotation)) {
		trusted = append(trusted, ca.Cert)
	}
	return a, WriteCertificates(filepath.Join(dir, KubeletAuthorities), trusted...)
}

// ensureKubeletAuthority loads or makes the pair that is derived from a CA.
func ensureKubeletAuthority(dir, name string, ca *Authority, now time.Time) (*Authority, error) {
	key, err := kubeletAuthorityKey(ca)
	if err != nil {
		return nil, err
	}
	for _, have := range []string{name, KubeletCA + "-" + ca.ID(), KubeletCA} {
		a, err := Load(Paths(dir, have))
		if err != nil || !key.PublicKey.Equal(a.Key.Public()) || now.After(a.Cert.NotAfter) || now.Before(a.Cert.NotBefore) {
			continue
		}
		if have != name { // this CA was also trusted before or after it signed
			return a, Write(dir, name, a.Cert, a.Key)
		}
		return a, nil
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: KubeletCACN, NotBefore: now.Add(-ClockSkew)}, key)
	if err != nil {
		return nil, fmt.Errorf("make the CA of the kubelets: %w", err)
	}
	return &Authority{Cert: cert, Key: key}, Write(dir, name, cert, key)
}

// kubeletAuthorityKey derives the key, as in FIPS 186-5, A.2.1.
func kubeletAuthorityKey(ca *Authority) (*ecdsa.PrivateKey, error) {
	const extra = 8 // bytes beyond the size of a key, against bias
	seed, err := DeriveKey(ca, "everynode: authority of kubelet serving certificates, 1", 32+extra)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the kubelets' authority: %w", err)
	}
	n := new(big.Int).Sub(elliptic.P256().Params().N, big.NewInt(1))
	d := new(big.Int).Mod(new(big.Int).SetBytes(seed), n)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.Add(d, big.NewInt(1)).FillBytes(make([]byte, 32)))
	if err != nil {
		return nil, fmt.Errorf("derive the key of the kubelets' authority: %w", err)
	}
	return key, nil
}
