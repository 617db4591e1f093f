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

// The environment that makes the test binary a controller, and nothing else:
// which one, and where its API server is.
const (
	controllerEnv = "EVERYNODE_COMPAT_CONTROLLER"
	serverEnv     = "EVERYNODE_COMPAT_SERVER"
)

// controllerMain returns a controller as a process of its own, until it is killed.
// No leader election: nothing but the test keeps two from running at once.
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

// process is a controller that runs.
type process struct {
	name string
	gate *gate
	pid  int
	log  string        // the file with what it says
	dead chan struct{} // closed when it is gone
}

// spawn starts a controller behind a gate of its own.
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

// launch starts a program whose way to the API server is that gate.
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

// live starts the process and waits for its end. The kernel ends it with the
// thread that started it, should the test die.
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

// kill ends the process without a chance to do anything more, and waits until
// it is gone. Nothing that it has asked for passes the gate from then on, but
// what has passed is carried out.
func (p *process) kill() {
	p.gate.shut()
	p.signal(syscall.SIGKILL)
	<-p.dead
}

// signal sends one to the process, if that is still there.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.dead:
	default:
		_ = syscall.Kill(p.pid, s)
	}
}

// said returns the end of what the process has logged.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
