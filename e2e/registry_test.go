package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// registry is an image registry that wants a password, at an address of this machine
// that nodes can reach: `prepare ADDRESS CAFILE` writes the certificate that clients
// check it with, `serve ADDRESS USER PASSWORD ARCHIVE` serves an archive of `image
// build` under any name until the script ends.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) == 3 && args[0] == "prepare":
		host, _, err := net.SplitHostPort(args[1])
		ts.Check(err)
		certificate, err := selfSigned(net.ParseIP(host))
		ts.Check(err)
		clusterOf(ts).registries[args[1]] = certificate
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600))
	case !neg && len(args) == 5 && args[0] == "serve":
		ts.Check(serveRegistry(ts, args[1], args[2], args[3], ts.MkAbs(args[4])))
	default:
		ts.Fatalf("usage: registry prepare ADDRESS CAFILE | registry serve ADDRESS USER PASSWORD ARCHIVE")
	}
}

func serveRegistry(ts *testscript.TestScript, address, user, password, archive string) error {
	dir := filepath.Join(clusterOf(ts).workDir, ".registry")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "xf", archive, "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", archive, err, out)
	}
	var index struct {
		Manifests []struct{ Digest, MediaType string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		return fmt.Errorf("%s is not an archive with one image: %w", archive, err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, TLSConfig: &tls.Config{Certificates: []tls.Certificate{clusterOf(ts).registries[address]}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, _ := r.BasicAuth(); u != user || p != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			serveBlob(w, r, dir, index.Manifests[0].Digest, index.Manifests[0].MediaType)
		})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ServeTLS(listener, "", "") // it ends with the script
	}()
	ts.Defer(func() {
		_ = server.Shutdown(context.Background()) // the script has ended
		<-ended
	})
	return nil
}

// serveBlob serves the only image: its manifest for any tag, everything else by digest.
func serveBlob(w http.ResponseWriter, r *http.Request, dir, manifest, mediaType string) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	if len(parts) < 3 {
		return // the client asks whether this is a registry
	}
	digest, kind := parts[len(parts)-1], parts[len(parts)-2]
	if kind == "manifests" && !strings.HasPrefix(digest, "sha256:") {
		digest = manifest
	}
	if digest == manifest {
		w.Header().Set("Content-Type", mediaType)
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeFile(w, r, filepath.Join(dir, "blobs", "sha256", filepath.Base(strings.TrimPrefix(digest, "sha256:"))))
}

func selfSigned(ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
