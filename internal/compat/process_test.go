package compat

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"

	"everynode/internal/engine"
)

// Environment variables that make the test binary only run a controller: which
// one, and where its API server is.
const (
	controllerEnv = "EVERYNODE_COMPAT_CONTROLLER"
	serverEnv     = "EVERYNODE_COMPAT_SERVER"
)

// controllerMain runs a controller as a process of its own, until it is killed.
// There is no leader election: only the test keeps two from running at the same
// time.
func controllerMain(name string) int {
	if err := quiet(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	config := &rest.Config{Host: os.Getenv(serverEnv), QPS: -1, UserAgent: name}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	var err error
	switch name {
	case ours.name:
		err = engine.Run(ctx, engine.Config{Client: config, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	case assists:
		config.Impersonate = account()
		err = engine.Run(ctx, engine.Config{Client: config, Assist: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	case upstream.name:
		err = runUpstream(ctx, nil, config)
	default:
		err = fmt.Errorf("there is no controller %q", name)
	}
	fmt.Fprintln(os.Stderr, "the controller ended by itself:", err)
	return 1
}

// process is a running controller.
type process struct {
	name string
	gate *gate
	pid  int
	log  string        // the file with its output
	dead chan struct{} // closed when it has ended
}

// spawn starts a controller behind its own gate.
func spawn(t *testing.T, c controller, g *gate, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), controllerEnv+"="+c.name, serverEnv+"="+g.url)
	return launch(t, cmd, g, dir)
}

// launch starts a program that reaches the API server through that gate.
func launch(t *testing.T, cmd *exec.Cmd, g *gate, dir string) *process {
	t.Helper()
	p := &process{name: g.name, gate: g, log: filepath.Join(dir, strings.ReplaceAll(g.name, " ", "-")+".log"), dead: make(chan struct{})}
	started := make(chan error)
	go p.live(cmd, started)
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	g.attach(p.kill)
	return p
}

// live starts the process and waits for its end. If the test dies, the kernel ends
// the process together with the thread that started it.
func (p *process) live(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.dead)
	log, err := os.Create(p.log)
	if err != nil {
		started <- err
		return
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	_ = cmd.Wait() // how it ended is known: by a signal of ours, or see ended
}

// kill ends the process at once, and waits until it is gone. From then on nothing
// that it has sent passes the gate, but requests that have passed are carried out.
func (p *process) kill() {
	p.gate.shut()
	p.signal(syscall.SIGKILL)
	<-p.dead
}

// signal sends a signal to the process, if that is still running.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.dead:
	default:
		_ = syscall.Kill(p.pid, s)
	}
}

// said returns the last lines of the process's log.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
