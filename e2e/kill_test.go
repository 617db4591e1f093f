package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// stopTime is how long a process that was told to end may take.
const stopTime = 45 * time.Second

// kill9 ends processes of the script's cluster with SIGKILL, as a crash does,
// and returns when they are gone.
func kill9(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: kill9 server|agents|all, or kill9 NODE kubelet|kube-proxy|containerd")
	}
	c := clusterOf(ts)
	var pids []int
	var err error
	switch {
	case len(args) == 2:
		var pid int
		pid, err = c.child(args[0], args[1])
		pids = []int{pid}
		c.killed(args[0], args[1], pid)
	case args[0] == "server":
		pids, err = c.holders("server.lock")
	case args[0] == "agents":
		pids, err = c.holders("nodes/*/agent.lock")
	case args[0] == "all":
		ts.Check(c.killEverything())
		return
	default:
		ts.Fatalf("kill9 %s: kill what?", args[0])
	}
	ts.Check(err)
	if len(pids) == 0 {
		ts.Fatalf("nothing to kill")
	}
	ts.Check(killAndWait(pids))
	ts.Logf("killed %v", pids)
}

// killEverything looks again after each round: a process that is being killed may have
// been starting another.
func (c *cluster) killEverything() error {
	for range 10 {
		pids, err := c.everything()
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := killAndWait(pids); err != nil {
			return err
		}
	}
	return errors.New("processes of the cluster come back after they were killed")
}

// killed remembers which process was killed, for `restarted`.
func (c *cluster) killed(node, program string, pid int) {
	if c.dead == nil {
		c.dead = map[string]int{}
	}
	c.dead[node+" "+program] = pid
}

func restarted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: restarted DURATION NODE PROGRAM")
	}
	c := clusterOf(ts)
	old, ok := c.dead[args[1]+" "+args[2]]
	if !ok {
		ts.Fatalf("%s of %s was not killed", args[2], args[1])
	}
	poll(ts, args[0], func(context.Context) (string, error) {
		pid, err := c.child(args[1], args[2])
		if err == nil && pid == old {
			err = fmt.Errorf("process %d still runs", pid)
		}
		return "", err
	})
}

// holders returns the processes that hold the lock files matching pattern.
func (c *cluster) holders(pattern string) ([]int, error) {
	files, err := filepath.Glob(filepath.Join(c.dataDir, pattern))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%s names no process: %w", file, err)
		}
		if c.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// child returns the process of a program that is a child of the node's agent.
func (c *cluster) child(node, program string) (int, error) {
	agents, err := c.holders("nodes/" + node + "/agent.lock")
	if err != nil {
		return 0, err
	}
	if len(agents) != 1 {
		return 0, fmt.Errorf("the agent of %s does not run", node)
	}
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for _, pid := range all {
		args := arguments(pid)
		runs := len(args) > 0 && filepath.Base(args[0]) == program || len(args) > 1 && args[1] == program
		if runs && parent(pid) == agents[0] {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s of %s does not run", program, node)
}

// everything returns all processes of the cluster: ours, shims and containers.
func (c *cluster) everything() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var ours []int
	for _, pid := range all {
		if c.owns(pid) {
			ours = append(ours, pid)
		}
	}
	return ours, nil
}

// owns reports whether a process belongs to the script: it, or one of its ancestors
// such as a container's shim, has the cluster's data directory or the script's folder
// in its arguments.
func (c *cluster) owns(pid int) bool {
	for range 64 { // a chain of parents is never that long
		if pid <= 1 || pid == os.Getpid() {
			return false
		}
		for _, arg := range arguments(pid) {
			if strings.Contains(arg+"/", c.dataDir+"/") || strings.Contains(arg+"/", c.workDir+"/") {
				return true
			}
		}
		pid = parent(pid)
	}
	return false
}

// processes lists all processes of the machine.
func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// arguments returns the arguments of a process; none if it has ended.
func arguments(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// parent returns the parent of a process; 0 if it has ended.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; after it come state and parent.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return ppid
}

func killAndWait(pids []int) error { return signalAndWait(pids, unix.SIGKILL) }

// signalAndWait signals through file descriptors of the processes, so that no
// other process can be hit, and waits until they have ended.
func signalAndWait(pids []int, signal unix.Signal) error {
	var fds []unix.PollFd
	defer func() {
		for _, fd := range fds {
			unix.Close(int(fd.Fd))
		}
	}()
	var errs []error
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	for i := range fds {
		if err := waitForEnd(fds[i], stopTime); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// waitForEnd waits until the process of a pidfd has ended.
func waitForEnd(fd unix.PollFd, limit time.Duration) error {
	for {
		n, err := unix.Poll([]unix.PollFd{fd}, int(limit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for a process to end: %w", err)
		case n == 0:
			return fmt.Errorf("a process that was told to end has not after %s", limit)
		default:
			return nil
		}
	}
}
