package testbed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The users of the API server. Each has a certificate; requests are counted by
// these names.
const (
	UserDriver     = "driver"
	UserKubelet    = "kubelet"
	UserController = "controller"
	UserScheduler  = "scheduler"
	UserStandby    = "standby"
)

// ControllerUsers returns the users whose writes are the price of a DaemonSet.
func ControllerUsers() []string { return []string{UserController, UserScheduler, UserStandby} }

// life is how long a certificate is valid: longer than any run.
const life = 7 * 24 * time.Hour

// PKI is a directory with the keys and certificates of one run.
type PKI struct{ dir string }

func (p PKI) crt(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p PKI) key(name string) string { return filepath.Join(p.dir, name+".key") }

// MakePKI makes a CA, the server's certificate, one for each user, and the key of
// service account tokens.
func MakePKI(dir string) (PKI, error) {
	p := PKI{dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, fmt.Errorf("make the directory of keys: %w", err)
	}
	caKey, err := p.newKey("ca")
	if err != nil {
		return p, err
	}
	ca, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: "bench-ca"}, caKey)
	if err != nil {
		return p, fmt.Errorf("make the certificate authority: %w", err)
	}
	if err := p.write("ca", ca); err != nil {
		return p, err
	}
	if _, err := p.newKey("service-accounts"); err != nil {
		return p, err
	}
	if err := p.issue("server", x509.ExtKeyUsageServerAuth, ca, caKey); err != nil {
		return p, err
	}
	for _, user := range append(ControllerUsers(), UserDriver, UserKubelet) {
		if err := p.issue(user, x509.ExtKeyUsageClientAuth, ca, caKey); err != nil {
			return p, err
		}
	}
	return p, nil
}

// issue makes a certificate. Users are administrators, whom the API server
// neither refuses nor throttles.
func (p PKI) issue(name string, use x509.ExtKeyUsage, ca *x509.Certificate, caKey crypto.Signer) error {
	key, err := p.newKey(name)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"system:masters"}},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}, ca, key.Public(), caKey)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read the certificate of %s: %w", name, err)
	}
	return p.write(name, cert)
}

func (p PKI) newKey(name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", name, err)
	}
	return key, os.WriteFile(p.key(name), text, 0o600)
}

func (p PKI) write(name string, cert *x509.Certificate) error {
	text, err := certutil.EncodeCertificates(cert)
	if err != nil {
		return fmt.Errorf("encode the certificate of %s: %w", name, err)
	}
	return os.WriteFile(p.crt(name), text, 0o600)
}

// Config returns a configuration for a user in this process: without a rate limit,
// in protobuf, over its own connection.
func (p PKI) Config(server, user string) *rest.Config {
	dialer := &net.Dialer{} // transports are shared unless they have different dialers
	return &rest.Config{
		Host: server, QPS: -1, UserAgent: "bench-" + user, Dial: dialer.DialContext,
		TLSClientConfig: rest.TLSClientConfig{CAFile: p.crt("ca"), CertFile: p.crt(user), KeyFile: p.key(user)},
		ContentConfig:   rest.ContentConfig{ContentType: Protobuf, AcceptContentTypes: Protobuf},
	}
}

const Protobuf = "application/vnd.kubernetes.protobuf"

// Kubeconfig writes a user's kubeconfig into dir.
func (p PKI) Kubeconfig(dir, server, user string) (file string, err error) {
	c := clientcmdapi.NewConfig()
	c.Clusters["bench"] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: p.crt("ca")}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: p.crt(user), ClientKey: p.key(user)}
	c.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: user}
	c.CurrentContext = "bench"
	file = filepath.Join(dir, user+".kubeconfig")
	if err := clientcmd.WriteToFile(*c, file); err != nil {
		return "", fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	return file, nil
}
