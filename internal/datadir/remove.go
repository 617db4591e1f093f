package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Remover deletes what is in one directory, by names relative to it. It follows no symbolic link and enters no mount,
// not even a bind mount of the same disk: what is behind either is not ours.
type Remover struct{ dir *os.File }

// Remove returns a Remover for dir.
func Remove(dir string) (*Remover, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s to delete in it: %w", dir, err)
	}
	return &Remover{f}, nil
}

// Close closes the directory.
func (r *Remover) Close() error { return r.dir.Close() }

// Tree deletes a file, or a folder with everything in it. A missing one is not an error.
func (r *Remover) Tree(name string) error {
	return r.in(filepath.Dir(name), func(parent *os.File) error { return removeAt(parent, filepath.Base(name)) })
}

// Files deletes the files of folder whose names match one of the patterns, and the temporary files that were to become
// them. Folders and links stay.
func (r *Remover) Files(folder string, patterns ...string) error {
	return r.in(folder, func(dir *os.File) error {
		entries, err := dir.ReadDir(-1)
		if err != nil {
			return fmt.Errorf("list %s: %w", dir.Name(), err)
		}
		var errs []error
		for _, e := range entries {
			if e.Type().IsDir() || e.Type()&fs.ModeSymlink != 0 || !matchesAny(e.Name(), patterns) {
				continue
			}
			errs = append(errs, unlink(dir, e.Name(), 0))
		}
		return errors.Join(errs...)
	})
}

// Folder deletes a folder if nothing is in it.
func (r *Remover) Folder(name string) error {
	return r.in(filepath.Dir(name), func(parent *os.File) error {
		err := unlink(parent, filepath.Base(name), unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
			return nil // it, or what is in it, is not ours
		}
		return err
	})
}

// Left lists what is in the directory.
func (r *Remover) Left() ([]string, error) {
	entries, err := os.ReadDir(r.dir.Name())
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.dir.Name(), err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// in calls do with the folder, if it exists.
func (r *Remover) in(folder string, do func(*os.File) error) error {
	if filepath.Clean(folder) == "." {
		folder = "."
	}
	dir, err := openFolder(r.dir, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(do(dir), dir.Close())
}

// matchesAny reports whether name, or the name that a temporary file was to get (.NAME.RANDOM), matches a pattern.
func matchesAny(name string, patterns []string) bool {
	final := name
	if rest, ok := strings.CutPrefix(name, "."); ok {
		if i := strings.LastIndexByte(rest, '.'); i > 0 {
			final = rest[:i]
		}
	}
	for _, p := range patterns {
		for _, n := range []string{name, final} {
			if ok, err := filepath.Match(p, n); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// removeAt deletes name, which is in parent, and what is in it.
func removeAt(parent *os.File, name string) error {
	err := unlink(parent, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	dir, err := openFolder(parent, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, removeAt(dir, n))
	}
	if err := errors.Join(append(errs, dir.Close())...); err != nil {
		return err
	}
	return unlink(parent, name, unix.AT_REMOVEDIR)
}

// unlink deletes a name. A missing one is not an error.
func unlink(parent *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(parent.Fd()), name, flags)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("delete %s: %w", filepath.Join(parent.Name(), name), err)
}

// openFolder opens a folder inside parent. Its path may lead only through real folders of the same mount.
func openFolder(parent *os.File, name string) (*os.File, error) {
	path := filepath.Join(parent.Name(), name)
	fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("%s is a mount, and what is mounted there is not everynode's: unmount it (umount %s), then try again", path, path)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s is not a folder that everynode made: move it away, then try again (%w)", path, err)
	case errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("this kernel cannot restrict a deletion to one file system (%w): delete %s by hand", err, path)
	case err != nil:
		return nil, fmt.Errorf("open %s to delete in it: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
