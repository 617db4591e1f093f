package controlplane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

// The serving certificates of kubelets come from an authority of their own, which
// only API servers trust, and for kubelets only: a node that has one for a name
// or an address that is not its own cannot pose as the API server to anybody.
//
// Its key follows from the key of the cluster's CA. So the servers of a cluster
// have the same one, and so does a cluster that is restored, without one more file
// to copy.
const (
	kubeletCA   = "kubelet-ca"
	kubeletCACN = "everynode-kubelet-ca"
	// kubeletAuthorities is the file below pki/ with what API servers trust for
	// kubelets.
	kubeletAuthorities = "kubelet-authorities.crt"
	// softRotation is how long certificates that the cluster's CA has signed for
	// kubelets, before there was this authority, can still be in use.
	softRotation = leafLife + 24*time.Hour
)

// ensureKubeletAuthorities loads or makes the authority of kubelets, and those that follow
// from other CAs that are trusted, and writes what API servers trust.
func ensureKubeletAuthorities(dir string, ca *authority, others []*authority, now time.Time) (*authority, error) {
	var trusted []*x509.Certificate
	for _, other := range others { // first: one of them may be the former in kubelet-ca.crt
		b, err := ensureKubeletAuthority(dir, kubeletCA+"-"+other.id(), other, now)
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, b.cert)
	}
	a, err := ensureKubeletAuthority(dir, kubeletCA, ca, now)
	if err != nil {
		return nil, err
	}
	trusted = append([]*x509.Certificate{a.cert}, trusted...)
	// In a new cluster both are made at the same moment, and a CA that came by a rotation has
	// signed nothing for kubelets.
	if len(ca.chain) == 0 && a.cert.NotBefore.After(ca.cert.NotBefore) && now.Before(a.cert.NotBefore.Add(softRotation)) {
		trusted = append(trusted, ca.cert)
	}
	return a, writeCertificates(filepath.Join(dir, kubeletAuthorities), trusted...)
}

// ensureKubeletAuthority loads or makes the pair that follows from a CA.
func ensureKubeletAuthority(dir, name string, ca *authority, now time.Time) (*authority, error) {
	key, err := kubeletAuthorityKey(ca)
	if err != nil {
		return nil, err
	}
	for _, have := range []string{name, kubeletCA + "-" + ca.id(), kubeletCA} {
		a, err := loadPair(pairPaths(dir, have))
		if err != nil || !key.PublicKey.Equal(a.key.Public()) || now.After(a.cert.NotAfter) {
			continue
		}
		if have != name { // this CA was trusted before it was the one that signs, or after
			return a, writePair(dir, name, a.cert, a.key)
		}
		return a, nil
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: kubeletCACN, NotBefore: now.Add(-clockSkew)}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority of kubelets: %w", err)
	}
	return &authority{cert: cert, key: key}, writePair(dir, name, cert, key)
}

// kubeletAuthorityKey derives the key, as in FIPS 186-5, A.2.1.
func kubeletAuthorityKey(ca *authority) (*ecdsa.PrivateKey, error) {
	const extra = 8 // bytes beyond the size of a key, against bias
	seed, err := deriveKey(ca, "everynode: authority of kubelet serving certificates, 1", 32+extra)
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

// writeIfChanged is writeFile, unless the file says so already: a disk that is
// full does not matter then.
func writeIfChanged(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return writeFile(path, data)
}
