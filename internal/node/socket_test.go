package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// answering answers each line that it gets at a socket with its name, until the
// test or stop ends it.
func answering(t *testing.T, path, name string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					fmt.Fprintln(conn, name, lines.Text())
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return func() { l.Close() }
}

// ask sends a line, closes its side, and returns the answer.
func ask(path string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// answers waits until a line to the socket gets that answer.
func answers(t *testing.T, path, want string) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		got, err := ask(path)
		if err == nil && got == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s answers %q, %v; want %q", path, got, err, want)
		}
	}
}

// serve runs a second socket; the returned function stops it and waits.
func serve(t *testing.T, s secondSocket) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the socket's end: %v", err)
		}
	}
}

func TestSecondSocket(t *testing.T) {
	dir := t.TempDir()
	s := secondSocket{path: filepath.Join(dir, "run", "usual.sock"), to: filepath.Join(dir, "own.sock"), log: discard()}
	stopFirst := answering(t, s.to, "first")
	stop := serve(t, s)
	answers(t, s.path, "first hello\n")
	before, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := before.Mode().Perm(); got != 0o660 {
		t.Errorf("its mode is %o; want 660: who reaches it is root on this machine", got)
	}

	// containerd is restarted: a program that has mounted the socket reaches the
	// new one.
	stopFirst()
	answering(t, s.to, "second")
	answers(t, s.path, "second hello\n")
	if after, err := os.Stat(s.path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket is another one now, %v", err)
	}
	stop()
	if _, err := os.Lstat(s.path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestSecondSocketAfterKill(t *testing.T) {
	dir := t.TempDir()
	s := secondSocket{path: filepath.Join(dir, "usual.sock"), to: filepath.Join(dir, "own.sock"), log: discard()}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	answering(t, s.to, "ours")
	defer serve(t, s)()
	answers(t, s.path, "ours hello\n")
}

// Another program's socket at the path stays, whether it was there before or came
// later.
func TestSecondSocketOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := secondSocket{path: filepath.Join(dir, "usual.sock"), to: filepath.Join(dir, "own.sock"), log: discard()}
	answering(t, s.to, "ours")

	stopTheirs := answering(t, s.path, "theirs")
	stop := serve(t, s)
	answers(t, s.path, "theirs hello\n")
	stop()
	answers(t, s.path, "theirs hello\n")
	stopTheirs()

	stop = serve(t, s)
	answers(t, s.path, "ours hello\n")
	if err := os.Remove(s.path); err != nil { // as containerd does when it starts
		t.Fatal(err)
	}
	answering(t, s.path, "theirs")
	stop()
	answers(t, s.path, "theirs hello\n")

	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context()); err == nil {
		t.Error("a file at the path is not an error")
	}
	if content, err := os.ReadFile(s.path); err != nil || string(content) != "a file" {
		t.Errorf("the file is %q now, %v", content, err)
	}
}

func TestOwnsUsualSocket(t *testing.T) {
	installed, runtime := t.TempDir(), t.TempDir()
	for _, dir := range []string{installed, runtime} {
		if err := os.WriteFile(filepath.Join(dir, "containerd"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		cfg  Config
		path string
		want bool
	}{
		"a machine without containerd":          {Config{RuntimeDir: runtime}, t.TempDir(), true},
		"a machine whose containerd is ours":    {Config{RuntimeDir: runtime}, runtime, true},
		"a machine with containerd":             {Config{RuntimeDir: runtime}, installed, false},
		"a node on such a machine":              {Config{RuntimeDir: runtime, Local: true}, installed, true},
		"a machine that has its own runtime":    {Config{RuntimeDir: runtime, ContainerRuntimeEndpoint: "unix:///run/crio.sock"}, t.TempDir(), false},
		"a local node with a runtime elsewhere": {Config{RuntimeDir: runtime, Local: true, ContainerRuntimeEndpoint: "unix:///run/x.sock"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			if got := c.cfg.ownsUsualSocket(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
