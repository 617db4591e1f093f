package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// maxLogTail is how many bytes of a failed process's log are searched for its error.
const maxLogTail = 64 << 10

// Process describes a detached process.
type Process struct {
	Name     string   // for messages: "agent of node-1"
	Argv     []string // program and arguments
	Env      []string // KEY=value; nil: the caller's
	Log      string   // file that standard output and error are appended to (mode 0600)
	LockFile string   // the process takes a Lock on it when it starts

	// PIDNamespace is the pinned PID namespace in which it is started; "": the caller's.
	PIDNamespace string
}

// Spawn starts a process that outlives the caller: in a session of its own, with / as its working directory and
// without TMPDIR, whose folder may be the caller's alone. It returns when the process holds its lock. If the process
// ends before that, the error contains the last line of its log that begins with "error:". If ctx ends first, Spawn
// kills the process.
func Spawn(ctx context.Context, p Process) (pid int, err error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("start the %s: %w", p.Name, err) }
	if len(p.Argv) == 0 {
		return fail(errors.New("no command was given"))
	}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fail(fmt.Errorf("open its log: %w", err))
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fail(fmt.Errorf("open its log: %w", err))
	}
	pidfd := -1
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", lasting(p.Env), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if err := startIn(p.PIDNamespace, cmd); err != nil {
		return fail(err)
	}
	if pidfd < 0 {
		return fail(errors.Join(errors.New("this kernel has no pidfds: everynode needs Linux 5.3 or newer"), cmd.Process.Kill(), cmd.Wait()))
	}
	defer unix.Close(pidfd)
	running := func() bool { got, ok := datadir.Running(p.LockFile); return ok && got == cmd.Process.Pid }
	for !running() {
		exited, err := pollExit(pidfd, pollEvery)
		if err == nil && exited {
			return fail(exitError(cmd.Wait(), p.Log, start))
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			// Its exit status would say only that it was killed here.
			err = errors.Join(err, cmd.Process.Kill())
			_ = cmd.Wait()
			return fail(fmt.Errorf("it took no lock on %s: %w; its log: %s", p.LockFile, err, p.Log))
		}
	}
	// It is reaped when it ends, if the caller still exists. How it ended is in its log.
	go func() { _ = cmd.Wait() }()
	return cmd.Process.Pid, nil
}

// startIn starts a command in a PID namespace; "": the caller's.
func startIn(pidNamespace string, cmd *exec.Cmd) error {
	if pidNamespace == "" {
		return cmd.Start()
	}
	ns, err := os.Open(pidNamespace)
	if err != nil {
		return fmt.Errorf("open the PID namespace: %w; the node is not set up, run: everynode up", err)
	}
	defer ns.Close()
	return onThread(func() error {
		// The thread itself stays where it is; its children start in the namespace.
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("join the PID namespace %s: %w", pidNamespace, err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("%w; if the node has lost its power: everynode node start", err)
		}
		return nil
	})
}

// lasting is the environment of a process that outlives the caller; nil: the caller's.
func lasting(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "TMPDIR=") })
}

// Become replaces the calling process with argv, which from then on holds the lock on lockFile. It returns only if
// it fails, and the process must end then.
func Become(lockFile string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("no program was given")
	}
	if err := datadir.LockForExec(lockFile); err != nil {
		return err
	}
	if err := syscall.Exec(argv[0], argv, os.Environ()); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	return nil
}

// exitError makes an error of how a process ended and what it logged since offset start.
func exitError(wait error, log string, start int64) error {
	how := "it ended at once"
	if wait != nil {
		how = wait.Error()
	}
	if line := lastError(log, start); line != "" {
		return fmt.Errorf("%s (%s; log: %s)", line, how, log)
	}
	return fmt.Errorf("%s, without a message; its log: %s", how, log)
}

// lastError returns the last line that begins with "error:", without that word, or else the last line.
func lastError(log string, start int64) string {
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size()-start > maxLogTail {
		start = st.Size() - maxLogTail
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, start, maxLogTail))
	if err != nil {
		return ""
	}
	last, found := "", ""
	for line := range bytes.Lines(raw) {
		text := strings.TrimSpace(string(line))
		if rest, ok := strings.CutPrefix(text, "error:"); ok {
			found = strings.TrimSpace(rest)
		}
		if text != "" {
			last = text
		}
	}
	if found != "" {
		return found
	}
	return last
}

// Stop ends the process that holds lockFile: with SIGTERM, and with SIGKILL if it still exists after grace. It
// returns when the process is gone, and at once if none holds the lock. If ctx ends first, it leaves the process
// running.
func Stop(ctx context.Context, lockFile string, grace time.Duration) error {
	pid, ok := datadir.Running(lockFile)
	if !ok {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// Checked again now that the pidfd pins the pid: another process may have got it in between.
	if !datadir.Holds(pid, lockFile) {
		return nil
	}
	if err := signalAndWait(ctx, fd, unix.SIGTERM, grace); errors.Is(err, errStillThere) {
		err = signalAndWait(ctx, fd, unix.SIGKILL, killLimit)
		if err != nil {
			return fmt.Errorf("kill process %d, which ignored SIGTERM for %v: %w", pid, grace, err)
		}
	} else if err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	// A child of this process would stay as a zombie. ECHILD: it is not a child of this process, so others reap it.
	if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("reap process %d: %w", pid, err)
	}
	return nil
}

// errStillThere means that a process did not end in the time that it was given.
var errStillThere = errors.New("it is still there")

// signalAndWait sends a signal and waits until the process ends, for at most limit.
func signalAndWait(ctx context.Context, pidfd int, sig unix.Signal, limit time.Duration) error {
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	deadline := time.Now().Add(limit)
	for {
		if exited, err := pollExit(pidfd, 10*pollEvery); err != nil || exited {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !time.Now().Before(deadline) {
			return errStillThere
		}
	}
}

// WaitExit waits until no process holds lockFile, or until ctx ends. It does not touch the process: it shows whether
// the process ends by itself.
func WaitExit(ctx context.Context, lockFile string) error {
	return waitFor(ctx, func() (bool, error) {
		_, ok := datadir.Running(lockFile)
		return !ok, nil
	})
}

// pollExit waits for at most limit, and reports whether the process has ended.
func pollExit(pidfd int, limit time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(limit.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}
