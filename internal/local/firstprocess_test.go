package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// buildInit builds the first process of nodes.
func buildInit(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "node-init")
	if out, err := exec.Command("go", "build", "-C", filepath.Join("..", "..", "runtime"), "-o", program, "./node-init").CombinedOutput(); err != nil {
		t.Fatalf("build it: %v\n%s", err, out)
	}
	return program
}

// killInit kills the node's first process, and waits until it has ended.
func killInit(c *Cluster, node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	pid, ok := datadir.Running(c.Host().power(node).lock())
	if !ok {
		return fmt.Errorf("%s has no power", node)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	return waitFor(ctx, func() (bool, error) { return !c.Host().power(node).on(), nil })
}

// A node sees its own processes and no others, has its own first process, and ends with it.
func TestProcessesOfANode(t *testing.T) {
	c := upCluster(t)
	const marker = "27182.8182"
	inside := enterCommand(t, c, "node-1", "sleep", marker)
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if err := waitFor(ctx, func() (bool, error) { return len(findProcesses(t, marker)) == 1, nil }); err != nil {
		t.Fatal(err)
	}
	list := "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
	if got := run(t, c, "node-1", "sh", "-c", list); !strings.Contains(got, "sleep "+marker) || strings.Contains(got, os.Args[0]) {
		t.Errorf("node-1 sees %q, want its own sleep, and nothing of the machine", got)
	}
	if got := run(t, c, "node-2", "sh", "-c", list); strings.Contains(got, marker) {
		t.Errorf("node-2 sees %q, which has a process of node-1", got)
	}
	if got := run(t, c, "node-1", "nsenter", "-t", "1", "-u", "-m", "hostname"); got != "node-1" {
		t.Errorf("the host name of process 1 is %q", got)
	}
	if a, b := run(t, c, "node-1", "readlink", "/proc/1/ns/ipc"), readLink(t, "/proc/self/ns/ipc"); a == b {
		t.Errorf("the node has the machine's IPC namespace %s", a)
	}
	run(t, c, "node-1", "sh", "-c", "kill -TERM 1; kill -HUP 1; kill -KILL 1; true")
	if !c.Host().power("node-1").on() {
		t.Error("the first process was ended from inside by a signal that says nothing of power")
	}
	// The signal that a program sends to restart the machine. The shell ends with the node.
	_ = enterCommand(t, c, "node-1", "sh", "-c", "kill -39 1; sleep "+marker).Run()
	if err := inside.Wait(); err == nil {
		t.Error("the node's process ended by itself")
	}
	if err := waitFor(ctx, func() (bool, error) { return !c.Host().power("node-1").on(), nil }); err != nil {
		t.Errorf("the node has power after it was switched off: %v", err)
	}
	if err := c.Host().EnsureNode(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, c, "node-1", "sh", "-c", "grep -c '^proc /proc ' /proc/mounts"); got != "1" {
		t.Errorf("/proc is mounted %s times after the node got power again", got)
	}
}

// A process that is spawned in a node is known by its pid outside, and orphans inside are
// reaped.
func TestSpawnInNode(t *testing.T) {
	c := upCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(c.NodeDir("node-1"), "x.lock")
	pid, err := Spawn(ctx, Process{
		Name: "test process", LockFile: lock, Log: filepath.Join(c.NodeDir("node-1"), "x.log"), PIDNamespace: c.PIDNamespace("node-1"),
		Argv: []string{exe, c.PinDir("node-1"), c.SystemCgroup("node-1"), "env", childEnv + "=daemon", exe, lock},
		Env:  append(os.Environ(), childEnv+"=enter"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := datadir.Running(lock); !ok || got != pid {
		t.Errorf("the lock is held by %d, %v; want %d", got, ok, pid)
	}
	run(t, c, "node-1", "sh", "-c", "sh -c 'sleep 0.1 & exit'")
	err = waitFor(ctx, func() (bool, error) {
		return run(t, c, "node-1", "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l") == "0", nil
	})
	if err != nil {
		t.Errorf("orphans are not reaped: %v", err)
	}
	if err := Stop(ctx, lock, testLimit); err != nil {
		t.Error(err)
	}
	if !c.Host().power("node-1").on() {
		t.Error("the first process ended with another one")
	}
}

func readLink(t *testing.T, name string) string {
	t.Helper()
	to, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return to
}
