package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError means that another process holds a lock file.
type LockedError struct {
	File string
	PID  int // 0 when the holder has not written it yet
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by process %d, which is already running", e.File, e.PID)
}

// Lock takes an exclusive flock on file (made with mode 0600) and writes the caller's process id into it. It does not
// wait: when another process holds the lock, the error is a *LockedError. The lock ends with the process, or with
// release.
func Lock(file string) (release func() error, err error) {
	f, err := lock(file)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// LockForExec is Lock for the program with which this process is about to replace itself: the lock ends with the
// process.
func LockForExec(file string) error {
	f, err := lock(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// The lock belongs to the open file, which the duplicate keeps open. Exec does not close the duplicate.
	if _, err := unix.Dup(int(f.Fd())); err != nil {
		return fmt.Errorf("keep the lock on %s: %w", file, err)
	}
	return nil
}

func lock(file string) (*os.File, error) {
	for {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open a lock file: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			pid := pidIn(file)
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &LockedError{File: file, PID: pid}
			}
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		current, err := isFile(f, file)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if !current {
			f.Close() // its last holder deleted it between our open and our lock
			continue
		}
		if err := writePID(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("write the lock file %s: %w", file, err)
		}
		return f, nil
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(ownPID()+"\n"), 0)
	return err
}

// PIDVariable tells a process in a PID namespace of its own which pid it has outside, for readers of its lock files:
// "7=4711" for the process whose pid inside is 7. Children inherit the variable, but have other pids.
const PIDVariable = "EVERYNODE_PID"

// ownPID is the pid that this process writes to its lock files.
func ownPID() string {
	own := strconv.Itoa(os.Getpid())
	if inside, outside, ok := strings.Cut(os.Getenv(PIDVariable), "="); ok && inside == own {
		return outside
	}
	return own
}

// isFile reports whether path still names the open file f.
func isFile(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// pidIn reads the process id in a lock file; 0 when there is none.
func pidIn(file string) int {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

// Running reports whether a process holds the lock file, and which. The content of the file is not enough, because
// process ids are reused: the process must hold a lock on this very file. Running never takes the lock, so it never
// disturbs a process that is about to.
func Running(lockFile string) (pid int, ok bool) {
	pid = pidIn(lockFile)
	if pid == 0 || !Holds(pid, lockFile) {
		return 0, false
	}
	return pid, true
}

// Stopped reports whether it is certain that no process holds the lock file. If that cannot be determined, because
// the file or the process is another user's, it returns false.
func Stopped(lockFile string) bool {
	if _, err := os.ReadFile(lockFile); err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	pid := pidIn(lockFile)
	if pid == 0 {
		return true
	}
	if Holds(pid, lockFile) {
		return false
	}
	_, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return err == nil || errors.Is(err, os.ErrNotExist) || isZombie(pid)
}

// isZombie reports whether the process has ended and only waits to be reaped. It no longer holds anything, and only
// root may look at its files.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The state follows the program's name, which may contain anything but the last ")".
	return err == nil && strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " Z ")
}

// looks is how often Holds looks for a lock before it says that there is none. Each look can fall into such a moment.
const looks = 4

// Holds reports whether the process has a flock on file. While a thread of it executes another program, the process looks
// for a moment as if it had no files: the thread that gave it its id has ended, and the other one has not got that id yet.
// So the threads are asked as well, and all of them again.
func Holds(pid int, file string) bool {
	want, err := os.Stat(file)
	if err != nil {
		return false
	}
	process := fmt.Sprintf("/proc/%d", pid)
	for range looks {
		threads, err := filepath.Glob(process + "/task/*")
		if err != nil {
			return false
		}
		if slices.ContainsFunc(append([]string{process}, threads...), func(dir string) bool { return holds(dir, want) }) {
			return true
		}
	}
	return false
}

// holds is Holds for a folder of /proc, and the file as it is.
func holds(dir string, want fs.FileInfo) bool {
	fds, err := filepath.Glob(dir + "/fd/*")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd string) bool {
		st, err := os.Stat(fd)
		if err != nil || !os.SameFile(st, want) {
			return false
		}
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", filepath.Base(fd)))
		return err == nil && strings.Contains(string(info), "FLOCK")
	})
}
