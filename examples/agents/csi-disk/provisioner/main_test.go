package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A pod is ready only while its provisioner says that it works, and a new process withdraws what an earlier one has said.
func TestReady(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	probe := []string{"--ready-file", file, "ready"}
	if err := command(t.Context(), probe); err == nil || !strings.Contains(err.Error(), "its log says") {
		t.Errorf("before: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := command(t.Context(), probe); err != nil {
		t.Errorf("while it works: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "") // outside a pod it ends at once
	err := command(t.Context(), []string{"--ready-file", file, "--driver=/socket", "--node=node-1", "--namespace=csi", "--pod=one"})
	if err == nil || !strings.Contains(err.Error(), "API server") {
		t.Errorf("outside of a pod: %v", err)
	}
	if err := command(t.Context(), probe); err == nil {
		t.Error("a process that has ended is ready")
	}
}

func TestArguments(t *testing.T) {
	for want, args := range map[string][]string{
		"give --driver":     {"--node=node-1"},
		"unknown arguments": {"redy"},
		"not defined: -nod": {"--nod=node-1"},
	} {
		if err := command(t.Context(), args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
