package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a child may take to end after SIGTERM.
const stopGrace = 20 * time.Second

// Child is a process that this program started. It dies with this program.
type Child struct {
	Name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has ended
	err   error         // how it ended; only read it after ended is closed
}

// Start starts a program. Its output goes to dir/name.log. The kernel sends the
// parent death signal when the thread that started a child ends, so that thread
// waits for the child.
func Start(name, dir string, files []*os.File, program string, args ...string) (*Child, error) {
	c := &Child{Name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer out.Close()
	c.cmd = exec.Command(program, args...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.ExtraFiles = out, out, files
	// It gets its own process group: Ctrl-C is for us, and we stop children in
	// order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// StartRole starts this program in another role.
func StartRole(role, name, dir string, files []*os.File, args ...string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return Start(name, dir, files, self, append([]string{role}, args...)...)
}

func (c *Child) PID() int { return c.cmd.Process.Pid }

// Over reports whether the child has ended.
func (c *Child) Over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// Signal sends SIGTERM, and returns when the child has ended.
func (c *Child) Signal(ctx context.Context) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.Name, err)
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", c.Name, ctx.Err())
	}
}

// Stop ends the child with SIGTERM, and kills it if that does not work.
func (c *Child) Stop() {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if c.Signal(ctx) == nil {
		return
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return // it has ended or cannot be killed, so waiting is useless
	}
	<-c.ended
}

// Tail returns the last lines of the child's log, for an error message.
func (c *Child) Tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
