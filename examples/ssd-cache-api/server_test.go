package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newAPI(t *testing.T, c *clock) http.Handler {
	t.Helper()
	return (&api{store: open(t, t.TempDir(), limits{100, 1000}, c.now), node: "node-1"}).handler()
}

// ask sends one request and returns the answer. headers are name, value, name, value...
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPutGetDelete(t *testing.T) {
	c := newClock()
	h := newAPI(t, c)
	if w := ask(h, "PUT", "/cache/users/1", `{"name":"Ada"}`, "Content-Type", "application/json", "Cache-Control", "max-age=60"); w.Code != http.StatusNoContent {
		t.Fatalf("put: %d %s", w.Code, w.Body)
	}
	c.pass(20 * time.Second)
	w := ask(h, "GET", "/cache/users/1", "")
	if w.Code != http.StatusOK || w.Body.String() != `{"name":"Ada"}` {
		t.Fatalf("get: %d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Node": "node-1", "Cache-Control": "max-age=40",
		"X-Content-Type-Options": "nosniff", "Content-Length": "14",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if w := ask(h, "GET", "/cache/users/1", "", "Range", "bytes=2-5"); w.Code != http.StatusPartialContent || w.Body.String() != "name" {
		t.Errorf("range: %d %q", w.Code, w.Body)
	}
	if w := ask(h, "HEAD", "/cache/users/1", ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("head: %d %q", w.Code, w.Body)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if w := ask(h, "DELETE", "/cache/users/1", ""); w.Code != want {
			t.Errorf("delete: %d, want %d", w.Code, want)
		}
	}
	if w := ask(h, "GET", "/cache/users/1", ""); w.Code != http.StatusNotFound {
		t.Errorf("get after delete: %d", w.Code)
	}
}

func TestRefusals(t *testing.T) {
	h := newAPI(t, newClock())
	for _, tc := range []struct {
		name, method, path, body, cacheControl string
		want                                   int
	}{
		{"too large", "PUT", "/cache/a", strings.Repeat("x", 101), "", http.StatusRequestEntityTooLarge},
		{"no key", "PUT", "/cache/", "x", "", http.StatusBadRequest},
		{"encoded traversal", "PUT", "/cache/%2e%2e%2fetc%2fpasswd", "x", "", http.StatusBadRequest},
		{"encoded traversal inside", "GET", "/cache/a%2f..%2f..%2fb", "", "", http.StatusBadRequest},
		{"bad letters", "GET", "/cache/a%00b", "", "", http.StatusBadRequest},
		{"max-age word", "PUT", "/cache/a", "x", "max-age=soon", http.StatusBadRequest},
		{"max-age zero", "PUT", "/cache/a", "x", "max-age=0", http.StatusBadRequest},
		{"max-age too long", "PUT", "/cache/a", "x", "max-age=99999999999", http.StatusBadRequest},
		{"wrong method", "POST", "/cache/a", "x", "", http.StatusMethodNotAllowed},
		{"nowhere", "GET", "/", "", "", http.StatusNotFound},
		{"missing", "GET", "/cache/missing", "", "", http.StatusNotFound},
	} {
		if w := ask(h, tc.method, tc.path, tc.body, "Cache-Control", tc.cacheControl); w.Code != tc.want {
			t.Errorf("%s: %d %q, want %d", tc.name, w.Code, w.Body, tc.want)
		}
	}
	// A body of unknown length cannot be refused by its header.
	r := httptest.NewRequest("PUT", "/cache/a", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "100 bytes") {
		t.Errorf("too large, length unknown: %d %q", w.Code, w.Body)
	}
}

func TestMaxAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": time.Hour, "no-transform": time.Hour, "max-age=5": 5 * time.Second,
		"public, Max-Age=\"7\"": 7 * time.Second,
	} {
		if got, err := maxAge(header, time.Hour); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", header, got, err, want)
		}
	}
}

func TestStatsAndHealth(t *testing.T) {
	h := newAPI(t, newClock())
	ask(h, "PUT", "/cache/a", "12345")
	ask(h, "GET", "/cache/a", "")
	ask(h, "GET", "/cache/b", "")
	w := ask(h, "GET", "/stats", "")
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"node": "node-1", "hits": 1.0, "misses": 1.0, "puts": 1.0, "entries": 1.0, "bytes": 5.0, "maxBytes": 1000.0} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if w := ask(h, "GET", "/healthz", ""); w.Code != http.StatusOK {
		t.Errorf("healthz: %d", w.Code)
	}
}

// serve runs the whole program until stop is called; stop returns what run returned.
func serve(t *testing.T, dir string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := make(chan net.Addr, 1), make(chan error, 1)
	opts := options{listen: "127.0.0.1:0", data: dir, limits: limits{100, 1000}}
	go func() { ended <- run(ctx, opts, "node-1", func(a net.Addr) { address <- a }) }()
	select {
	case a := <-address:
		return "http://" + a.String(), func() error { cancel(); return <-ended }
	case err := <-ended:
		cancel()
		t.Fatal(err)
		return "", nil
	}
}

func TestStopLetsRequestsEndAndKeepsData(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir)
	body, feed := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/cache/key", body)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		code int
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		answered <- answer{response.StatusCode, response.Body.Close()}
	}()
	if _, err := feed.Write([]byte("first ")); err != nil { // returns when the request is under way
		t.Fatal(err)
	}
	waitFor(t, "the request has reached the disk", func() bool { return files(t, dir) == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	waitFor(t, "no new connection is taken", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return true
		}
		return conn.Close() != nil
	})
	if _, err := feed.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.err != nil || a.code != http.StatusNoContent {
		t.Errorf("the running request: %+v", a)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	url, stop = serve(t, dir)
	response, err := http.Get(url + "/cache/key")
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil || string(content) != "first last" {
		t.Errorf("after a restart: %q %v", content, err)
	}
	if err := errors.Join(response.Body.Close(), stop()); err != nil {
		t.Error(err)
	}
}

// waitFor polls until done holds.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestRunFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	opts := options{listen: taken.Addr().String(), data: t.TempDir(), limits: limits{1, 1}}
	if err := run(t.Context(), opts, "", nil); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("port in use: %v", err)
	}
	again, err := openStore(opts.data, opts.limits, time.Now)
	if err != nil {
		t.Fatalf("the failed run holds on to its directory: %v", err)
	}
	_ = again.close()
}

func TestParse(t *testing.T) {
	var output bytes.Buffer
	if _, err := parse([]string{"--help"}, &output); !errors.Is(err, flag.ErrHelp) || !strings.Contains(output.String(), "max-total") {
		t.Errorf("help: %v %s", err, output.String())
	}
	for _, args := range [][]string{nil, {"--data", "d", "more"}, {"--nope"}, {"--data", "d", "--ttl", "soon"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q accepted", args)
		}
	}
	opts, err := parse([]string{"--data", "d", "--max-total", "9"}, io.Discard)
	if err != nil || opts.data != "d" || opts.limits.Total != 9 || opts.listen != "127.0.0.1:8080" {
		t.Errorf("%+v %v", opts, err)
	}
}
