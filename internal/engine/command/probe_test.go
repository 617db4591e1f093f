package command

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestProbe: a probe passes only when the controller answers 200, and says what the controller says. Wrong calls exit with 2.
func TestProbe(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			fmt.Fprintln(w, "ok")
		case "/moved":
			http.Redirect(w, r, "/healthz", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "it waits for the API server")
		}
	}))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, c := range []struct {
		url, says string
		code      int
	}{
		{server.URL + "/healthz", "", 0},
		{server.URL + "/readyz", "503 Service Unavailable: it waits for the API server", 1},
		{server.URL + "/moved", "302 Found", 1},
		{gone.URL + "/healthz", "does not answer", 1},
		{"http://192.0.2.1:10261/healthz", "an address of loopback", 2},
		{"https://127.0.0.1:10261/healthz", "give http://", 2},
		{"://", "missing protocol scheme", 2},
	} {
		cmd := NewProbe()
		cmd.SetArgs([]string{c.url})
		cmd.SilenceErrors = true
		err := cmd.ExecuteContext(t.Context())
		if ExitCode(err) != c.code || c.says != "" && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q and exit code %d", c.url, err, c.says, c.code)
		}
	}
	cmd := NewProbe()
	cmd.SetArgs(nil)
	cmd.SilenceErrors = true
	if err := cmd.ExecuteContext(t.Context()); ExitCode(err) != 2 {
		t.Errorf("without a URL: %v", err)
	}
}
