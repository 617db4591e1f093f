package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"everynode/internal/registry"
)

// registrySettings is where operators configure registries for containerd.
const registrySettings = "/etc/containerd/certs.d"

// addonDir contains the images of the cluster's add-ons, which most nodes do not
// need.
func (cfg Config) addonDir() string { return filepath.Join(cfg.RuntimeDir, "addons") }

// addonRegistry serves the images in a directory to the node's own containerd, as a
// mirror of the registries that they come from. So the image of an add-on costs
// time and space only on nodes where one of its pods runs. It listens on loopback.
type addonRegistry struct {
	archives *registry.Archives
	hosts    string // containerd's settings for the mirror
}

// overruled reports whether the operator has settings for a registry that an
// add-on's image comes from. containerd follows those, and would not ask the
// mirror.
func overruled(settings string, archives *registry.Archives) bool {
	for _, host := range append(archives.Hosts(), "_default") {
		if _, err := os.Stat(filepath.Join(settings, host)); err == nil {
			return true
		}
	}
	return false
}

// run serves until ctx ends.
func (r addonRegistry) run(ctx context.Context) error {
	certificate, err := loopbackCertificate(time.Now())
	if err != nil {
		return fmt.Errorf("make a certificate for the add-ons' images: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve the add-ons' images: %w", err)
	}
	if err := r.announce(listener.Addr().String(), certificate.Certificate[0]); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: r.archives, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	err = server.ServeTLS(listener, "", "")
	if ctx.Err() != nil {
		return os.RemoveAll(r.hosts)
	}
	return fmt.Errorf("serve the add-ons' images: %w", err)
}

// announce tells containerd where the mirror is, and which certificate it has. So
// containerd does not trust another program that gets the port later.
func (r addonRegistry) announce(address string, certificate []byte) error {
	for _, host := range r.archives.Hosts() {
		ca := filepath.Join(r.hosts, host, "ca.crt")
		settings := fmt.Sprintf("[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %s\n", strconv.Quote("https://"+address), strconv.Quote(ca))
		if err := writeFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(r.hosts, host, "hosts.toml"), []byte(settings)); err != nil {
			return err
		}
	}
	return nil
}

// loopbackCertificate makes a certificate for a server that lives as long as this
// process. Its key is in memory only.
func loopbackCertificate(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
