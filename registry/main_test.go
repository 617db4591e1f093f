package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// do sends a request and returns the answer's status and body.
func do(t *testing.T, client *http.Client, method, url, host string, body []byte) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Content-Type", "application/octet-stream")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

// Nodes can pull what is pushed on the machine, even after a restart. Nodes cannot push, and neither can a web
// page whose name resolves to this machine.
func TestWhoMayPush(t *testing.T) {
	dir := t.TempDir()
	start := func() (local, nodes *httptest.Server) {
		images, err := store(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		local, nodes = httptest.NewServer(byItsName(images)), httptest.NewServer(readOnly(images))
		t.Cleanup(local.Close)
		t.Cleanup(nodes.Close)
		return local, nodes
	}
	local, nodes := start()
	blob := []byte("a layer")
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	answer, text := do(t, http.DefaultClient, http.MethodPost, local.URL+"/v2/team/app/blobs/uploads/", "", nil)
	if answer.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %s", answer.Status, text)
	}
	upload := answer.Header.Get("Location")
	if answer, text := do(t, http.DefaultClient, http.MethodPut, upload+"&digest="+digest, "", blob); answer.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", answer.Status, text)
	}
	for range 2 {
		if answer, text := do(t, http.DefaultClient, http.MethodGet, nodes.URL+"/v2/team/app/blobs/"+digest, "", nil); answer.StatusCode != http.StatusOK || text != string(blob) {
			t.Errorf("a node gets %s: %s", answer.Status, text)
		}
		local, nodes = start()
	}
	for _, r := range []struct{ method, url, host, want string }{
		{http.MethodPost, nodes.URL + "/v2/team/app/blobs/uploads/", "", "push them on the machine itself"},
		{http.MethodDelete, nodes.URL + "/v2/team/app/blobs/" + digest, "", "push them on the machine itself"},
		{http.MethodPost, local.URL + "/v2/team/app/blobs/uploads/", "page.example.com:5000", "is called localhost"},
		{http.MethodGet, local.URL + "/v2/team/app/blobs/" + digest, "page.example.com", "is called localhost"},
	} {
		if answer, text := do(t, http.DefaultClient, r.method, r.url, r.host, nil); answer.StatusCode != http.StatusForbidden || !strings.Contains(text, r.want) {
			t.Errorf("%s %s as %s: %s: %s", r.method, r.url, r.host, answer.Status, text)
		}
	}
	for _, name := range []string{"localhost:5000", "127.0.0.1:5000", "[::1]:5000", "localhost"} {
		if answer, text := do(t, http.DefaultClient, http.MethodPost, local.URL+"/v2/team/app/blobs/uploads/", name, nil); answer.StatusCode != http.StatusAccepted {
			t.Errorf("as %s: %s: %s", name, answer.Status, text)
		}
	}
	if answer, text := do(t, http.DefaultClient, http.MethodDelete, local.URL+"/v2/team/app/blobs/"+digest, "", nil); answer.StatusCode != http.StatusAccepted {
		t.Errorf("delete: %s: %s", answer.Status, text)
	}
}

// The registry ends when its context ends, and nodes recognize it by the certificate that it leaves in its folder.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	listener, err := listenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, options{dir: dir, push: "127.0.0.1:0", pull: address}) }()
	var answer *http.Response
	for answer == nil {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		certificate, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil {
			continue
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(certificate)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		if answer, err = client.Get("https://" + address + "/v2/"); err != nil {
			t.Log(err) // it does not listen yet, or does not have that certificate
		}
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), options{dir: dir, push: "0.0.0.0:0", pull: address}); err == nil || !strings.Contains(err.Error(), "everybody could push there") {
		t.Error(err)
	}
}
