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
// agents start and stop.

// initLimit is how long a first process may take to be ready.
const initLimit = 30 * time.Second

// power is the power switch of a node: its first process.
type power struct {
	dir, pins string // of the node and of its namespaces
	cgroup    string // of the node's own processes
	program   string
}

// lock is the file that the node's first process holds a lock on.
func (p power) lock() string { return filepath.Join(p.dir, "init.lock") }

// on reports whether the node's first process runs.
func (p power) on() bool {
	_, ok := datadir.Running(p.lock())
	return ok
}

// ensure starts the node's first process, if it does not run. The node's other namespaces must be pinned.
func (p power) ensure(ctx context.Context) error {
	if p.on() {
		return nil
	}
	pin := pidPin(p.pins)
	if err := pin.release(); err != nil {
		return err
	}
	first, err := p.start()
	if err != nil {
		return fmt.Errorf("start its first process: %w", err)
	}
	defer unix.Close(first.pidfd)
	err = errors.Join(joinCgroup(p.cgroup, first.pid), pin.set(fmt.Sprintf("/proc/%d/ns/pid", first.pid)))
	if err == nil {
		err = p.await(ctx, first)
	}
	if err != nil {
		if kill := unix.PidfdSendSignal(first.pidfd, unix.SIGKILL, nil, 0); !errors.Is(kill, unix.ESRCH) {
			err = errors.Join(err, kill)
		}
		return fmt.Errorf("start its first process: %w", errors.Join(err, pin.release()))
	}
	return nil
}

// firstProcess is a first process that was just started.
type firstProcess struct {
	pid, pidfd int
	reaped     chan error // how it ended
}

// start starts the first process in a new PID namespace and in the node's other, pinned namespaces. It is not in its
// cgroup yet.
func (p power) start() (first firstProcess, err error) {
	log, err := os.OpenFile(p.log(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return first, fmt.Errorf("open its log: %w", err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return first, err
	}
	defer null.Close()
	err = inNamespaces(pinsIn(p.pins), func() error {
		// Not os/exec: before its first start it starts another process, to find out what pidfds can do.
		first.pid, err = syscall.ForkExec(p.program, []string{p.program, p.lock()}, &syscall.ProcAttr{
			Dir: "/", Env: []string{}, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
			Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID, PidFD: &first.pidfd},
		})
		return err
	})
	if err != nil {
		return first, fmt.Errorf("%s: %w; it is built with everynode (make build)", p.program, err)
	}
	first.reaped = make(chan error, 1)
	go func() { first.reaped <- reap(first.pid) }()
	return first, nil
}

func (p power) log() string { return filepath.Join(p.dir, "init.log") }

// await waits until the first process is ready, and writes its pid on the machine into its lock file: the process
// itself knows only its pid inside.
func (p power) await(ctx context.Context, first firstProcess) error {
	ctx, cancel := context.WithTimeout(ctx, initLimit)
	defer cancel()
	err := waitFor(ctx, func() (bool, error) {
		select {
		case how := <-first.reaped:
			return false, exitError(how, p.log(), 0)
		default:
			return datadir.Holds(first.pid, p.lock()), nil
		}
	})
	if err != nil {
		return err
	}
	return os.WriteFile(p.lock(), []byte(strconv.Itoa(first.pid)+"\n"), 0o600)
}

// reap waits for the end of a child of this process, so that it leaves no zombie, and returns how it ended. A PID
// namespace exists until its processes with parents outside have been reaped.
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
