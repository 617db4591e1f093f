package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// A node's first process is PID 1 of its PID namespace (runtime/node-init). Orphans of the node become its children.
// When it ends, the kernel ends every other process of the node, as when a machine loses its power. It stays while
// agents come and go.

// initLimit bounds how long a first process may take to be ready.
const initLimit = 30 * time.Second

// initLock is the file that the node's first process holds a lock on.
func (c *Cluster) initLock(name string) string { return filepath.Join(c.NodeDir(name), "init.lock") }

// hasPower reports whether the node's first process runs.
func (c *Cluster) hasPower(name string) bool {
	_, ok := datadir.Running(c.initLock(name))
	return ok
}

// ensureInit starts the node's first process, if it does not run. Its other namespaces must be pinned.
func (c *Cluster) ensureInit(ctx context.Context, name string) error {
	if c.hasPower(name) {
		return nil
	}
	pin := pidPin(c.PinDir(name))
	if err := pin.release(); err != nil {
		return err
	}
	first, err := c.startInit(name)
	if err != nil {
		return fmt.Errorf("start its first process: %w", err)
	}
	defer unix.Close(first.pidfd)
	err = errors.Join(joinCgroup(c.SystemCgroup(name), first.pid), pin.set(fmt.Sprintf("/proc/%d/ns/pid", first.pid)))
	if err == nil {
		err = c.awaitInit(ctx, name, first)
	}
	if err != nil {
		if kill := unix.PidfdSendSignal(first.pidfd, unix.SIGKILL, nil, 0); !errors.Is(kill, unix.ESRCH) {
			err = errors.Join(err, kill)
		}
		return fmt.Errorf("start its first process: %w", errors.Join(err, pin.release()))
	}
	return nil
}

// firstProcess is one that was just started.
type firstProcess struct {
	pid, pidfd int
	reaped     chan error // how it ended
}

// startInit starts the first process in a new PID namespace and in the node's pinned others. It is not in its cgroup yet.
func (c *Cluster) startInit(name string) (first firstProcess, err error) {
	log, err := os.OpenFile(c.initLog(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return first, fmt.Errorf("open its log: %w", err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return first, err
	}
	defer null.Close()
	err = inNamespaces(pinsIn(c.PinDir(name)), func() error {
		// Not os/exec: before its first process it starts another one, to see what pidfds can do.
		first.pid, err = syscall.ForkExec(c.InitProgram, []string{c.InitProgram, c.initLock(name)}, &syscall.ProcAttr{
			Dir: "/", Env: []string{}, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
			Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID, PidFD: &first.pidfd},
		})
		return err
	})
	if err != nil {
		return first, fmt.Errorf("%s: %w; it is built with everynode (make build)", c.InitProgram, err)
	}
	first.reaped = make(chan error, 1)
	go func() { first.reaped <- reap(first.pid) }()
	return first, nil
}

func (c *Cluster) initLog(name string) string { return filepath.Join(c.NodeDir(name), "init.log") }

// awaitInit waits until the first process is ready, and writes its number into its lock file: of its own numbers, it
// knows the one inside only.
func (c *Cluster) awaitInit(ctx context.Context, name string, first firstProcess) error {
	ctx, cancel := context.WithTimeout(ctx, initLimit)
	defer cancel()
	err := waitFor(ctx, func() (bool, error) {
		select {
		case how := <-first.reaped:
			return false, exitError(how, c.initLog(name), 0)
		default:
			return datadir.Holds(first.pid, c.initLock(name)), nil
		}
	})
	if err != nil {
		return err
	}
	return os.WriteFile(c.initLock(name), []byte(strconv.Itoa(first.pid)+"\n"), 0o600)
}

// reap waits for the end of a child of this process, so that nothing is left of it, and says how it ended. A PID
// namespace is not gone before the processes in it that have parents outside are.
func reap(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case status.Signaled():
			return fmt.Errorf("it was ended by the signal %v", status.Signal())
		}
		return fmt.Errorf("it ended with status %d", status.ExitStatus())
	}
}
