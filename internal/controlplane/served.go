package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"everynode/internal/addons"
	"everynode/internal/controlplane/pki"
)

// servedLife is how long the certificate of a service is valid. The server makes
// another at a start when a third or less is left.
const servedLife = 10 * pki.LeafLife

// ensureServed keeps a certificate for the service that an add-on serves to the API
// server, with its key, in the Secret of the service's name. It returns the
// certificate, PEM in base64, as an APIService needs it.
//
// The certificate is self-signed. Only the API server has to trust it, so the
// cluster's CA need not sign it. Whoever can read the Secret can pose as this
// service to the API server, and as nothing else.
func ensureServed(ctx context.Context, client kubernetes.Interface, a addons.Addon, now time.Time) (string, error) {
	service := a.Serves
	host := service + "." + metav1.NamespaceSystem + ".svc"
	secrets := client.CoreV1().Secrets(metav1.NamespaceSystem)
	held, err := secrets.Get(ctx, service, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return "", fmt.Errorf("read the certificate of the service %s: %w", service, err)
	}
	if missing || !servedGood(held.Data, host, now) {
		fresh := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: service, Labels: map[string]string{addons.NameKey: a.Name}}, Type: corev1.SecretTypeTLS}
		if fresh.Data, err = newServed(host, now); err != nil {
			return "", err
		}
		held, err = replaceSecret(ctx, client, held, fresh, missing)
		if err != nil {
			return "", fmt.Errorf("keep the certificate of the service %s: %w", service, err)
		}
	}
	return base64.StdEncoding.EncodeToString(held.Data[corev1.TLSCertKey]), nil
}

// replaceSecret writes fresh in place of held. If another server was quicker, it returns
// that server's Secret.
func replaceSecret(ctx context.Context, client kubernetes.Interface, held, fresh *corev1.Secret, missing bool) (*corev1.Secret, error) {
	secrets := client.CoreV1().Secrets(metav1.NamespaceSystem)
	var written *corev1.Secret
	var err error
	if missing {
		written, err = secrets.Create(ctx, fresh, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		changed := held.DeepCopy()
		changed.Data = fresh.Data
		written, err = secrets.Update(ctx, changed, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return secrets.Get(ctx, fresh.Name, metav1.GetOptions{})
	}
	return written, err
}

// servedGood reports whether a Secret has a certificate for host that is valid for a while,
// and its key.
func servedGood(data map[string][]byte, host string, now time.Time) bool {
	certs, err := certutil.ParseCertsPEM(data[corev1.TLSCertKey])
	if err != nil || len(certs) != 1 || certs[0].VerifyHostname(host) != nil {
		return false
	}
	key, err := keyutil.ParsePrivateKeyPEM(data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return false
	}
	private, ok := key.(*ecdsa.PrivateKey)
	left, life := certs[0].NotAfter.Sub(now), certs[0].NotAfter.Sub(certs[0].NotBefore)
	return ok && private.PublicKey.Equal(certs[0].PublicKey) && !now.Before(certs[0].NotBefore) && left > life/3
}

// newServed makes a key and a certificate for host, and returns them as the data of a Secret.
func newServed(host string, now time.Time) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", host, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number for %s: %w", host, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), // must be positive
		Subject:      pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-pki.ClockSkew), NotAfter: now.Add(servedLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of %s: %w", host, err)
	}
	pemKey, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", host, err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der}),
		corev1.TLSPrivateKeyKey: pemKey,
	}, nil
}
