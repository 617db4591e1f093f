package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// kubeconfig returns a kubeconfig with a single cluster, context and user.
func kubeconfig(server, context, user string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": %q,
"clusters": [{"name": "c", "cluster": {"server": %q}}], "users": [{"name": "u", "user": %s}],
"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}`, context, server, user)
}

// execute runs the command line until ctx ends or the command gives up.
func execute(ctx context.Context, stderr io.Writer, args ...string) error {
	cmd := New()
	cmd.SetArgs(append([]string{"--metrics-bind-address=0"}, args...))
	cmd.SetOut(io.Discard)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(ctx)
}

// Whatever is wrong with the kubeconfig ends the program at once, with what is wrong,
// and what to do.
func TestKubeconfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":              {"", []string{"names no cluster", "copy it from the cluster"}},
		"no YAML":            {"\x00\x01", []string{"is not a kubeconfig", "copy it from the cluster"}},
		"another file":       {"apiVersion: v1\nkind: Pod\n", []string{"is not a kubeconfig", `no kind "Pod"`}},
		"cut off":            {kubeconfig("https://192.0.2.1:6443", "x", "{}")[:80], []string{"is not a kubeconfig"}},
		"no server":          {kubeconfig("", "x", "{}"), []string{"cannot be used", `no server found for cluster "c"`, "config view"}},
		"no current context": {kubeconfig("https://192.0.2.1:6443", "", "{}"), []string{"has no current context", "config use-context"}},
		"unknown context":    {kubeconfig("https://192.0.2.1:6443", "y", "{}"), []string{"cannot be used", "context was not found for specified context: y"}},
		"no such certificate": {kubeconfig("https://192.0.2.1:6443", "x", `{"client-certificate": "none.crt", "client-key": "none.key"}`),
			[]string{"cannot be used", "none.crt", "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, "kubeconfig", c.text)
			err := execute(t.Context(), io.Discard, "--kubeconfig", file)
			for _, want := range append(c.want, "--kubeconfig "+file) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %v, want %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "KUBERNETES_MASTER") {
				t.Errorf("the advice does not help: %v", err)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "none")
	if err := execute(t.Context(), io.Discard, "--kubeconfig", missing); err == nil || !strings.Contains(err.Error(), missing+": no such file or directory: name a kubeconfig") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, inPod := os.LookupEnv("KUBERNETES_SERVICE_HOST"); inPod {
		return
	}
	if err := execute(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "give --kubeconfig FILE") {
		t.Errorf("no kubeconfig at all: %v", err)
	}
}

// said is what a program has logged so far.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// An API server that does not answer may still come: the program waits for it, logs
// that, and ends without an error when it is told to.
func TestServerThatIsNotThere(t *testing.T) {
	var log said
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- execute(ctx, &log, "--kubeconfig", write(t, "kubeconfig", kubeconfig("http://127.0.0.1:1", "x", "{}")))
	}()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(log.String(), "cannot reach the API server; trying again") || !strings.Contains(log.String(), "connection refused") {
		select {
		case err := <-ended:
			t.Fatalf("it gave up: %v\n%s", err, log.String())
		case <-deadline:
			t.Fatalf("it does not say what it waits for:\n%s", log.String())
		case <-tick.C:
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to stop, it fails: %v", err)
	}
}
