package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"everynode/internal/logfile"
)

const (
	// stopGrace is how long a child may take to end after SIGTERM.
	stopGrace = 5 * time.Second
	// logTail is how many bytes of a log are searched for the reason of an exit.
	logTail = 8 << 10
)

// process is one child program. Its output goes to a log file of its own.
type process struct {
	path string
	args []string
	env  []string
	log  string       // path of the log file
	tell *slog.Logger // gets what is wrong with the log file; nil: nothing is logged
}

// run starts the program and waits for it. When ctx ends, the program gets
// SIGTERM and, after stopGrace, SIGKILL; run then returns nil. Otherwise the
// error says how the program ended and what it said last.
//
// The kernel sends the parent death signal when the thread that started the
// child ends, so that thread is kept for as long as the child lives.
func (p process) run(ctx context.Context) error {
	out, err := openLog(p.log)
	if err != nil {
		return err
	}
	defer out.Close()
	start, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", p.log, err)
	}
	defer logfile.Keep(p.log, cmp.Or(p.tell, slog.New(slog.DiscardHandler)))()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace

	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	}()
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	return describeExit(err, p.log, start)
}

// describeExit adds to how a child ended the last thing that it complained about in
// its own part of the log, which begins at start. A child that was killed did not
// say why.
func describeExit(err error, log string, start int64) error {
	if err == nil {
		err = errors.New("ended by itself")
	}
	exit := (*exec.ExitError)(nil)
	killed := errors.As(err, &exit) && !exit.Exited()
	if line := lastComplaint(log, start); line != "" && !killed {
		return fmt.Errorf("%w: %s (log: %s)", err, line, log)
	}
	return fmt.Errorf("%w (log: %s)", err, log)
}

// openLog opens a log for appending, after setting a large one aside as NAME.1.
func openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	if info, err := os.Stat(name); err == nil && info.Size() > logfile.Limit {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("rotate the old log: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// lastComplaint returns the last line of a log, from offset start on, that
// reports an error, or else its last line.
func lastComplaint(name string, start int64) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	if start > info.Size() { // the log was rotated meanwhile
		start = 0
	}
	start = max(start, info.Size()-logTail)
	tail, err := io.ReadAll(io.NewSectionReader(f, start, logTail))
	if err != nil {
		return ""
	}
	last := ""
	lines := bytes.Split(bytes.TrimSpace(tail), []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(string(lines[i]))
		if last == "" {
			last = line
		}
		if isComplaint(line) {
			return line
		}
	}
	return last
}

// isComplaint reports whether a line of one of our children is an error: klog's E
// and F lines, logrus' levels, and the words of cobra and the Go runtime.
func isComplaint(line string) bool {
	if len(line) > 5 && (line[0] == 'E' || line[0] == 'F') && strings.Trim(line[1:5], "0123456789") == "" {
		return true
	}
	for _, mark := range []string{"level=error", "level=fatal", "level=panic", "containerd: "} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return strings.HasPrefix(line, "Error: ") || strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "panic: ")
}
