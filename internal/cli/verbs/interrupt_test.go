package verbs

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// silentServer accepts requests and never answers. It returns a kubeconfig, and a channel that has a value once it was
// asked.
func silentServer(t *testing.T) (kubeconfig string, asked <-chan struct{}) {
	t.Helper()
	heard := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case heard <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := writeKubeconfig(kubeconfig, server.URL); err != nil {
		t.Fatal(err)
	}
	return kubeconfig, heard
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
	answers := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(answers.Close)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(kubeconfig, answers.URL); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	args := []string{"everynode", "plan", "-f", manifest, "--kubeconfig", kubeconfig}
	if code := runUntil(ctx, args, strings.NewReader(""), &errs, &errs); code != 1 || errs.String() != "error: interrupted\n" {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
