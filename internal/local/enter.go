package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"everynode/internal/datadir"
)

// Enter replaces the calling process with argv, inside a node: in the namespaces whose pins are in pinDir
// (Cluster.PinDir) and in the cgroup at that path (Cluster.SystemCgroup; "" for none). The process must have been
// started in the node's PID namespace, or the node's /proc does not show it. Enter returns only if it fails, and the
// process must then end: one of its threads may be in the node already. argv[0] is looked up inside the node.
func Enter(pinDir, cgroup string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("enter a node: no command was given")
	}
	runtime.LockOSThread()
	if cgroup != "" {
		// 0 means the process that writes, whatever its pid is.
		if err := joinCgroup(cgroup, 0); err != nil {
			return err
		}
	}
	outside, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("enter a node: find this process's pid on the machine: %w", err)
	}
	if err := os.Setenv(datadir.PIDVariable, fmt.Sprintf("%d=%s", os.Getpid(), outside)); err != nil {
		return fmt.Errorf("enter a node: %w", err)
	}
	if err := joinNamespaces(pinsIn(pinDir)); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter a node: %w", err)
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("enter a node: %w", err)
	}
	// The calling thread, which is in the node, becomes the only thread of the new program.
	if err := syscall.Exec(program, argv, os.Environ()); err != nil {
		return fmt.Errorf("enter a node: start %s: %w", program, err)
	}
	return nil
}
