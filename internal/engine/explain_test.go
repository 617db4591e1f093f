package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// certificate returns a self-signed certificate for "ada" and 127.0.0.1, as PEM.
func certificate(t *testing.T, from, until time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// The error says at once, in words, what is wrong with the connection.
func TestConnectionErrors(t *testing.T) {
	now := time.Now()
	serve := func(cert, key []byte) string {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	good, goodKey := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldKey := certificate(t, now.Add(-2*time.Hour), now.Add(-time.Minute))
	young, youngKey := certificate(t, now.Add(time.Minute), now.Add(time.Hour))
	fine := serve(good, goodKey)
	for name, c := range map[string]struct {
		config rest.Config
		want   string
	}{
		"credentials that are not known": {rest.Config{Host: fine, TLSClientConfig: rest.TLSClientConfig{CAData: good}}, "does not accept our credentials"},
		"another cluster's CA":           {rest.Config{Host: fine, TLSClientConfig: rest.TLSClientConfig{CAData: old}}, "not from the CA of the kubeconfig"},
		"a server certificate that has expired": {rest.Config{Host: serve(old, oldKey), TLSClientConfig: rest.TLSClientConfig{CAData: old}},
			"the API server's certificate has expired"},
		"a client certificate that has expired": {rest.Config{Host: fine, TLSClientConfig: rest.TLSClientConfig{CAData: good, CertData: old, KeyData: oldKey}},
			`the client certificate of "ada" expired on`},
		"a client certificate of the future": {rest.Config{Host: fine, TLSClientConfig: rest.TLSClientConfig{CAData: good, CertData: young, KeyData: youngKey}},
			"is not valid before"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), Config{Client: &c.config, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Monitor: NewMonitor()})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run: %v, want %q", err, c.want)
			}
		})
	}

	// By a clock that is behind, the server's certificate is not valid yet. That
	// passes, so the engine retries; readiness says why.
	ctx, stop := context.WithCancel(t.Context())
	ended, m := make(chan error), NewMonitor()
	go func() {
		ended <- Run(ctx, Config{Client: &rest.Config{Host: serve(young, youngKey), TLSClientConfig: rest.TLSClientConfig{CAData: young}},
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Monitor: m})
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if err := m.Ready(); err != nil && strings.Contains(err.Error(), "not valid yet, by the clock of this machine") {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(m.Ready())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
