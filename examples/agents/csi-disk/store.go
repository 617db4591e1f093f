package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// sizeUnit is what sizes are rounded up to, in bytes.
	sizeUnit = 1 << 20
	// minSize is enough for an ext4 with a journal, in bytes.
	minSize = 16 << 20
	// defaultSize is the size of a volume whose claim does not ask for a size, in bytes.
	defaultSize = 1 << 30
	// unfinished is the prefix of files that are not volumes yet.
	unfinished = ".new-"
	suffix     = ".img"
	maxName    = 128
)

var errOtherSize = errors.New("there is a volume of that name and another size")

// store keeps volumes as files below a directory. A file has all its blocks allocated from the start: a file system
// on a disk that can run out of blocks loses data.
type store struct{ dir string }

// openStore makes the directory if it is missing, and removes what a driver that was killed has left unfinished.
func openStore(dir string) (store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return store{}, fmt.Errorf("make the directory of the volumes: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	if err != nil {
		return store{}, fmt.Errorf("look for unfinished volumes: %w", err)
	}
	for _, file := range left {
		if err := os.Remove(file); err != nil {
			return store{}, fmt.Errorf("remove an unfinished volume: %w", err)
		}
	}
	return store{dir}, nil
}

// validName reports whether a volume can have that name, which becomes part of a file's name.
func validName(name string) bool {
	if name == "" || len(name) > maxName || strings.HasPrefix(name, ".") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("-_.", r)
	})
}

// file returns the path of a volume with a valid name.
func (s store) file(name string) string { return filepath.Join(s.dir, name+suffix) }

// has returns whether there is a volume of that name.
func (s store) has(name string) (bool, error) {
	if !validName(name) {
		return false, nil
	}
	_, err := os.Stat(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// create makes a volume of size bytes, or finds one of at least least bytes, and at most limit if that is not 0. It
// returns how large it is. If the disk has no room, the error is unix.ENOSPC.
func (s store) create(name string, least, size, limit int64) (int64, error) {
	st, err := os.Stat(s.file(name))
	if err == nil {
		if st.Size() < least || limit > 0 && st.Size() > limit {
			return 0, errOtherSize
		}
		return st.Size(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look for the volume: %w", err)
	}
	// A file gets its own name only when it is complete.
	made, err := s.allocate(size)
	if err != nil {
		return 0, err
	}
	if err := os.Rename(made, s.file(name)); err != nil {
		return 0, errors.Join(fmt.Errorf("name the volume: %w", err), os.Remove(made))
	}
	return size, s.sync()
}

// allocate creates a file of size bytes with all its blocks, and returns its path.
func (s store) allocate(size int64) (_ string, err error) {
	f, err := os.CreateTemp(s.dir, unfinished)
	if err != nil {
		return "", fmt.Errorf("make the volume's file: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	for {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("reserve %d bytes in %s: %w", size, s.dir, err)
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("write the volume's file: %w", err)
	}
	return f.Name(), nil
}

// remove deletes a volume. A volume that is still mounted can be used until it is unmounted, which frees its blocks.
func (s store) remove(name string) error {
	err := os.Remove(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete the volume's file: %w", err)
	}
	return s.sync()
}

// sync makes sure that created, renamed and deleted files survive a loss of power.
func (s store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("open the directory of the volumes: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write the directory of the volumes: %w", err)
	}
	return nil
}

// free returns how many bytes are available for new volumes.
func (s store) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("ask how much room %s has: %w", s.dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
