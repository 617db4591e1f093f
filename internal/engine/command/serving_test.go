package command

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"everynode/internal/engine"
)

// pair writes a self-signed certificate for 127.0.0.1 and its key.
func pair(t *testing.T, name, certFile, keyFile string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serving runs the endpoints of an engine that has not started, until the test ends,
// and returns their URL.
func serving(t *testing.T, s settings, log io.Writer) string {
	t.Helper()
	s.MetricsBindAddress = "127.0.0.1:0"
	e, err := s.listen(t.Context(), &rest.Config{}, engine.NewMonitor(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error)
	go func() {
		ended <- e.during(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	scheme := "http"
	if s.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + e.listener.Addr().String()
}

// get returns the status and the text at a URL.
func get(t *testing.T, config *tls.Config, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func answers(t *testing.T, config *tls.Config, url string, code int, want string) {
	t.Helper()
	if got, text := get(t, config, url); got != code || !strings.Contains(text, want) {
		t.Errorf("%s: %d %.300q, want %d with %q", url, got, text, code, want)
	}
}

func TestEndpoints(t *testing.T) {
	at := serving(t, defaults(), io.Discard)
	answers(t, nil, at+"/healthz", http.StatusOK, "ok")
	answers(t, nil, at+"/readyz", http.StatusServiceUnavailable, "waiting for the API server")
	answers(t, nil, at+"/metrics", http.StatusOK, "# TYPE everynode_pods_created_total counter")
	answers(t, nil, at+"/metrics", http.StatusOK, "go_goroutines")
	answers(t, nil, at+"/debug/pprof/", http.StatusNotFound, "")
	answers(t, nil, at+"/", http.StatusNotFound, "")
	s := defaults()
	s.Profiling = true
	answers(t, nil, serving(t, s, io.Discard)+"/debug/pprof/goroutine?debug=1", http.StatusOK, "goroutine profile")
}

// Notes are for people; probers see the status code.
func TestNotesFollowTheAnswer(t *testing.T) {
	notes := func() []string { return []string{"this is missing"} }
	for want, wrong := range map[int]error{http.StatusOK: nil, http.StatusServiceUnavailable: errors.New("not yet")} {
		answer := httptest.NewRecorder()
		tell(func() error { return wrong }, notes).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		if text := answer.Body.String(); answer.Code != want || !strings.HasSuffix(text, "\nnote: this is missing\n") {
			t.Errorf("%v: %d %q", wrong, answer.Code, text)
		}
	}
}

// With a client CA, probes need no certificate and everything else does. A certificate
// that changes on disk is served from then on; a broken one is not.
func TestEndpointsOverTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	s := defaults()
	s.TLSCertFile, s.TLSPrivateKeyFile, s.ClientCAFile, s.Profiling = file("tls.crt"), file("tls.key"), file("client.crt"), true
	pair(t, "first", s.TLSCertFile, s.TLSPrivateKeyFile)
	known := pair(t, "prometheus", s.ClientCAFile, file("client.key"))
	stranger := pair(t, "stranger", file("stranger.crt"), file("stranger.key"))
	var log bytes.Buffer
	at := serving(t, s, &log)
	trust := func(shown ...tls.Certificate) *tls.Config {
		pool := x509.NewCertPool()
		text, err := os.ReadFile(s.TLSCertFile)
		if err != nil {
			t.Fatal(err)
		}
		pool.AppendCertsFromPEM(text)
		return &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(shown) == 0 {
				return &tls.Certificate{}, nil
			}
			return &shown[0], nil
		}}
	}
	answers(t, trust(), at+"/healthz", http.StatusOK, "ok")
	answers(t, trust(), at+"/metrics", http.StatusUnauthorized, "client certificate")
	answers(t, trust(), at+"/debug/pprof/", http.StatusUnauthorized, "client certificate")
	answers(t, trust(known), at+"/metrics", http.StatusOK, "everynode_leader")
	answers(t, trust(stranger), at+"/metrics", 0, "tls")

	first := trust()
	pair(t, "second", s.TLSCertFile, s.TLSPrivateKeyFile)
	answers(t, trust(), at+"/healthz", http.StatusOK, "ok")
	answers(t, first, at+"/healthz", 0, "certificate")
	second := trust()
	if err := os.WriteFile(s.TLSPrivateKeyFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	answers(t, second, at+"/healthz", http.StatusOK, "ok")
	if !strings.Contains(log.String(), "keeping the previous one") {
		t.Errorf("log %q", log.String())
	}
}

// The command ends if its port is in use, or if its server ends.
func TestServingEndsWithWork(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s := defaults()
	s.MetricsBindAddress = taken.Addr().String()
	if _, err := s.listen(t.Context(), &rest.Config{}, engine.NewMonitor(), log); err == nil || !strings.Contains(err.Error(), "--metrics-bind-address") {
		t.Errorf("a taken port: %v", err)
	}
	s.MetricsBindAddress = "127.0.0.1:0"
	e, err := s.listen(t.Context(), &rest.Config{}, engine.NewMonitor(), log)
	if err != nil {
		t.Fatal(err)
	}
	err = e.during(t.Context(), func(ctx context.Context) error {
		e.listener.Close()
		<-ctx.Done()
		return errors.New("the engine's own error")
	})
	if err == nil || !strings.Contains(err.Error(), "serving health and metrics") || !strings.Contains(err.Error(), "own error") {
		t.Errorf("a listener that ends: %v", err)
	}
}
