package verbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/view"
)

// silentServer accepts requests and never answers. It returns a kubeconfig, and a channel that has a value once it was
// asked.
func silentServer(t *testing.T) (kubeconfig string, asked <-chan struct{}) {
	t.Helper()
	heard := make(chan struct{}, 1)
	return served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case heard <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	})), heard
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

const anyDaemonSet = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}}"

// A command that waits for the API server ends when it is interrupted, and says no more than that.
func TestInterrupted(t *testing.T) {
	manifest := writeFile(t, filepath.Join(t.TempDir(), "agent.yaml"), anyDaemonSet, 0o600)
	for line, want := range map[string]int{
		"why node-1":               1,
		"audit":                    exitAuditFailed,
		"fleet":                    1,
		"plan -f " + manifest:      1,
		"watch ds/agent --once":    1,
		"rollout status ds/agent":  exitRolloutUnknown,
		"rollout history ds/agent": 1,
	} {
		kubeconfig, asked := silentServer(t)
		ctx, interrupt := context.WithCancel(t.Context())
		go func() { <-asked; interrupt() }()
		var out, errs bytes.Buffer
		args := append(append([]string{"everynode"}, strings.Fields(line)...), "--kubeconfig", kubeconfig)
		if code := runUntil(ctx, args, strings.NewReader(""), &out, &errs); code != want || errs.String() != "error: interrupted\n" || out.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d; %s%s", line, code, want, &out, &errs)
		}
	}
}

// A user can also interrupt a command that waits for its standard input.
func TestInputInterrupted(t *testing.T) {
	for line, want := range map[string]int{"audit -f -": exitAuditFailed, "plan -f -": 1, "watch ds/agent --once --policy -": 1} {
		ctx, interrupt := context.WithCancel(t.Context())
		terminal := waiting{asked: interrupt, until: t.Context()}
		var errs bytes.Buffer
		if code := runUntil(ctx, append([]string{"everynode"}, strings.Fields(line)...), terminal, &errs, &errs); code != want || errs.String() != "error: interrupted\n" {
			t.Errorf("%s: exit code %d, want %d; %s", line, code, want, &errs)
		}
	}
}

// waiting is a terminal that nobody types into.
type waiting struct {
	asked func()
	until context.Context
}

func (w waiting) Read([]byte) (int, error) {
	w.asked()
	<-w.until.Done()
	return 0, io.EOF
}

// The same while kubectl asks the API server.
func TestPlanInterrupted(t *testing.T) {
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "kubectl"), "#!/bin/sh\necho > "+started+"\nexec sleep 600\n", 0o700)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	manifest := writeFile(t, filepath.Join(dir, "agent.yaml"), anyDaemonSet, 0o600)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		if _, err := os.ReadFile(started); err != nil { // until kubectl has written to it
			t.Error(err)
		}
		interrupt()
	}()
	kubeconfig := served(t, http.NotFoundHandler())
	var errs bytes.Buffer
	args := []string{"everynode", "plan", "-f", manifest, "--kubeconfig", kubeconfig}
	if code := runUntil(ctx, args, strings.NewReader(""), &errs, &errs); code != 1 || errs.String() != "error: interrupted\n" {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}

// A request to change something that was sent, and whose answer nobody has waited for, may have been carried out.
func TestRequestInterrupted(t *testing.T) {
	const status = " is not known. See `everynode rollout status monitoring/agent --kubeconfig="
	for _, tc := range []struct {
		line, want string
		when       func(*http.Request) bool // the first such request is answered after the interrupt
	}{
		{"rollout status ds/agent", "error: interrupted\n", anyRequest},
		{"rollout pause ds/agent", "error: interrupted\n", anyRequest},
		{"rollout pause ds/agent", "error: interrupted: whether the request was saved" + status, changes},
		{"rollout pause ds/agent", "error: interrupted: the request is saved, and what became of it" + status, after(changes)},
		{"rollout undo ds/agent --patch --write --to-revision 11",
			"error: interrupted: whether it was written is not known. See `kubectl rollout history --namespace monitoring daemonset/agent --kubeconfig=", changes},
	} {
		api, asked := waitingRelease(t), make(chan struct{})
		held := sync.OnceFunc(func() { close(asked) })
		kubeconfig := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if tc.when(r) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil { // otherwise the server does not notice that the client has left
					t.Error(err)
				}
				held()
				<-r.Context().Done()
				return
			}
			api.ServeHTTP(w, r)
		}))
		ctx, interrupt := context.WithCancel(t.Context())
		go func() { <-asked; interrupt() }()
		var errs bytes.Buffer
		args := append(append([]string{"everynode"}, strings.Fields(tc.line)...), "-n", "monitoring", "--kubeconfig", kubeconfig)
		if runUntil(ctx, args, strings.NewReader(""), io.Discard, &errs); !strings.Contains(errs.String(), tc.want) {
			t.Errorf("%s: %swant %s", tc.line, &errs, tc.want)
		}
	}
}

func anyRequest(*http.Request) bool { return true }

func changes(r *http.Request) bool { return r.Method == http.MethodPatch }

// after returns a condition that holds once the given one has held for an earlier request.
func after(met func(*http.Request) bool) func(*http.Request) bool {
	var was atomic.Bool
	return func(r *http.Request) bool { return was.Load() || met(r) && was.Swap(true) }
}

// An API server that breaks the connection may have carried out the request as well. One that refuses it has not.
func TestMayBeDone(t *testing.T) {
	resource := schema.GroupResource{Resource: view.RolloutResource}
	for _, tc := range []struct {
		err  error
		done bool
	}{
		{io.ErrUnexpectedEOF, true},
		{context.DeadlineExceeded, true},
		{apierrors.NewTimeoutError("slow", 1), true},
		{apierrors.NewForbidden(resource, "agent", errors.New("no")), false},
		{syscall.ECONNREFUSED, false},
	} {
		var u unanswered
		if err := mayBeDone(fmt.Errorf("ask: %w", tc.err), "see it"); errors.As(err, &u) != tc.done || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v, want may be done: %v", tc.err, err, tc.done)
		}
	}
}
