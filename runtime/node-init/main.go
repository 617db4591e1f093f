// Command node-init is the first process of a node of `everynode up`: PID 1 of the node's PID namespace. It mounts the
// node's /proc, reaps orphans, and stays for as long as the node has power. When it ends, the kernel ends every other
// process of the node. It is a program of its own because there is one per node, and everynode itself is large.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"everynode/runtime/orphans"
)

// The signals that programs send to the first process of a machine to switch it off, halt it or restart it, as systemd
// defines them.
const (
	halt     = syscall.Signal(34 + 3)
	powerOff = syscall.Signal(34 + 4)
	reboot   = syscall.Signal(34 + 5)
)

func main() {
	debug.SetGCPercent(-1) // the heap never grows
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "error: usage: node-init LOCKFILE")
		os.Exit(2)
	}
	signals := listen()
	if err := begin(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	orphans.Wait(signals)
}

// listen returns the signals that matter from now on. It ignores other signals that end a program: nothing in a node
// may end its first process by accident.
func listen() <-chan os.Signal {
	signal.Ignore(syscall.SIGHUP, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGPWR, halt, powerOff, reboot)
	return signals
}

// begin mounts the node's /proc, and then takes the lock that shows that the node has power.
func begin(lockFile string) error {
	if os.Getpid() != 1 {
		return errors.New("this is the first process of a node, which `everynode up` starts, and nothing else")
	}
	if err := mountProc(); err != nil {
		return err
	}
	fd, err := syscall.Open(lockFile, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", lockFile, err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s, which another first process of this node may hold: %w", lockFile, err)
	}
	return nil
}

// mountProc replaces the existing /proc with one of this PID namespace. The existing one is the machine's, or the one
// that the node had before it lost power.
func mountProc() error {
	const procMagic = 0x9fa0
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs("/proc", &st); err != nil {
			return fmt.Errorf("look at /proc: %w", err)
		}
		if st.Type != procMagic {
			break
		}
		if err := syscall.Unmount("/proc", syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the machine's /proc in the node: %w", err)
		}
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the node's /proc: %w", err)
	}
	return nil
}
