package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pin is a file that keeps a namespace alive: the namespace is bind-mounted over it.
type pin struct {
	kind string // as in /proc/PID/ns: net, uts, ipc, mnt, pid
	flag int    // CLONE_NEW...
	file string
}

// pinsIn lists the pins of a node whose pin directory is dir, except the one of its PID namespace. The mount
// namespace is last: a thread that is inside sees other files.
func pinsIn(dir string) []pin {
	return []pin{
		{"net", unix.CLONE_NEWNET, filepath.Join(dir, "net")},
		{"uts", unix.CLONE_NEWUTS, filepath.Join(dir, "uts")},
		{"ipc", unix.CLONE_NEWIPC, filepath.Join(dir, "ipc")},
		{"mnt", unix.CLONE_NEWNS, filepath.Join(dir, "mnt")},
	}
}

// pidPin is the pin of a node's PID namespace, which is a new one each time the node gets power. No thread joins it:
// a process stays in the PID namespace in which it was started.
func pidPin(dir string) pin { return pin{"pid", unix.CLONE_NEWPID, filepath.Join(dir, "pid")} }

// pinned reports whether a namespace is mounted over the pin's file.
func (p pin) pinned() (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(p.file, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the pin %s: %w", p.file, err)
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// errPinOrder means that the kernel took a mount namespace for older than the one of this process.
var errPinOrder = errors.New("the kernel does not let a mount namespace be mounted in a younger one")

// set pins a namespace; source is its file in /proc. To pin a mount namespace, the calling thread must be outside of
// it.
func (p pin) set(source string) error {
	f, err := os.OpenFile(p.file, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return fmt.Errorf("make the pin of the %s namespace: %w", p.kind, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make the pin of the %s namespace: %w", p.kind, err)
	}
	err = unix.Mount(source, p.file, "", unix.MS_BIND, "")
	if p.flag == unix.CLONE_NEWNS && errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("pin the %s namespace at %s: %w", p.kind, p.file, errPinOrder)
	}
	if err != nil {
		return fmt.Errorf("pin the %s namespace at %s: %w", p.kind, p.file, err)
	}
	return nil
}

// release unmounts and deletes the pin. Deleting the file also removes the mount from every other mount namespace
// that has a copy of it, so that none of them keeps the namespace alive.
func (p pin) release() error {
	for {
		is, err := p.pinned()
		if err != nil {
			return err
		}
		if !is {
			break
		}
		if err := unix.Unmount(p.file, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("release the pin %s: %w", p.file, err)
		}
	}
	if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the pin %s: %w", p.file, err)
	}
	return nil
}
