package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// agentStopsWithin is how long an agent may take to end: it waits for each of its children.
const agentStopsWithin = time.Minute

// kubeletHealth is where every kubelet answers on its machine.
const kubeletHealth = "127.0.0.1:10248"

func (l *leaver) lockFile() string { return l.cfg.files().path("agent.lock") }

// stopAgent stops the agent, and its children with it. If the agent is a systemd service,
// systemd has to stop it. Otherwise systemd would start it again.
func (l *leaver) stopAgent(ctx context.Context) error {
	pid, runs := datadir.Running(l.lockFile())
	if !runs {
		return nil
	}
	done := l.Step()
	unit, err := serviceOf(ctx, pid)
	if err != nil {
		return err
	}
	if unit == "" {
		err = terminate(ctx, pid, l.lockFile())
	} else {
		l.Warn("the agent is the service %s, which starts with the machine: systemctl disable %s, and delete its unit file", unit, unit)
		var out []byte
		if out, err = exec.CommandContext(ctx, "systemctl", "stop", unit).CombinedOutput(); err != nil {
			err = fmt.Errorf("systemctl stop %s: %w: %s", unit, err, strings.TrimSpace(string(out)))
		}
	}
	if err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	done("agent stopped")
	return nil
}

// lock keeps agents, and other calls of leave, out of the data directory.
func (l *leaver) lock() (release func() error, err error) {
	release, err = datadir.Lock(l.lockFile())
	var locked *datadir.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("process %d uses %s again: stop whatever starts the agent (such as its service), then run everynode agent leave again", locked.PID, l.cfg.DataDir)
	}
	if err != nil {
		return nil, err
	}
	// This node's kubelet has ended. The pods and folders of another one cannot be
	// distinguished from this node's.
	if conn, err := net.Dial("tcp4", kubeletHealth); err == nil {
		conn.Close()
		return nil, errors.Join(fmt.Errorf("another kubelet runs on this machine (%s answers), and its pods would be killed: stop it, then run everynode agent leave again", kubeletHealth), release())
	}
	return release, nil
}

// serviceOf returns the systemd unit whose main process is pid; "" if systemd did not start
// it.
func serviceOf(ctx context.Context, pid int) (string, error) {
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", nil // it has ended
	}
	unit := unitIn(string(membership))
	if unit == "" {
		return "", nil
	}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=MainPID", "--value", unit).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask systemd about the agent's service %s: %w", unit, err)
	}
	if strings.TrimSpace(string(out)) != strconv.Itoa(pid) {
		return "", nil // it was started by a shell in that service, such as sshd's
	}
	return unit, nil
}

// unitIn finds the service in the text of /proc/PID/cgroup.
func unitIn(membership string) string {
	for line := range strings.Lines(membership) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		if unit := path.Base(fields[2]); strings.HasPrefix(fields[2], "/system.slice/") && strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// terminate sends SIGTERM to the process that holds a lock, and SIGKILL if that
// does not end it. Its children die with it either way.
func terminate(ctx context.Context, pid int, lock string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// Another process may have the pid by now.
	if !datadir.Holds(pid, lock) {
		return nil
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
		if ended, err := waitForExit(ctx, fd, agentStopsWithin); ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// waitForExit reports whether the process ends within a time.
func waitForExit(ctx context.Context, pidfd int, within time.Duration) (bool, error) {
	const look = 100 * time.Millisecond
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		n, err := unix.Poll(fds, int(look.Milliseconds()))
		if n > 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return false, nil
}
