package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scratch is a folder for files that are not finished. Others may be able to write to the folder that it is in, and
// could put another one in its place. So files are reached through the open folder, not through its name. While it is
// in use, it is locked: one that is not was left by a process that was killed.
type scratch struct {
	dir  *os.File
	path string // its name when it was made
}

// newScratch makes a folder in parent. Only the user of this process may read it.
func newScratch(parent, pattern string) (*scratch, error) {
	path, err := os.MkdirTemp(parent, pattern) // 0700
	if err != nil {
		return nil, err
	}
	s, err := openScratch(path)
	if err != nil {
		return nil, err
	}
	_ = s.lock() // not every disk has locks; on those, leftovers stay
	return s, nil
}

// openScratch opens a folder that newScratch has made.
func openScratch(path string) (*scratch, error) {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, errors.Join(&os.PathError{Op: "stat", Path: path, Err: err}, dir.Close())
	}
	if st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0 {
		return nil, errors.Join(fmt.Errorf("somebody has put another folder in the place of %s: choose a folder that only you can write to", path), dir.Close())
	}
	return &scratch{dir, path}, nil
}

func (s *scratch) lock() error { return unix.Flock(int(s.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// file returns a path of the file with this name.
func (s *scratch) file(name string) string {
	return filepath.Join("/proc/self/fd", strconv.FormatUint(uint64(s.dir.Fd()), 10), name)
}

// remove removes the folder and its files. What somebody put in its place stays.
func (s *scratch) remove() error {
	names, err := s.dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, os.Remove(s.file(name)))
	}
	return errors.Join(append(errs, s.dir.Close(), os.Remove(s.path))...)
}

// scratchName returns the name of the file for which a folder was made, by its pattern ".NAME.*"; "" if none was.
func scratchName(folder string) string {
	name, random := strings.TrimPrefix(folder, "."), strings.TrimPrefix(filepath.Ext(folder), ".")
	if _, err := strconv.ParseUint(random, 10, 32); err != nil || name == folder {
		return ""
	}
	return strings.TrimSuffix(name, "."+random)
}

// removeLeft removes what killed processes have left in parent while they made files whose names are ours.
func removeLeft(parent string, ours func(name string) bool) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !e.IsDir() || !ours(scratchName(e.Name())) {
			continue
		}
		s, err := openScratch(filepath.Join(parent, e.Name()))
		if err != nil {
			continue // another user's, or just gone
		}
		if s.lock() != nil {
			errs = append(errs, s.dir.Close()) // in use
			continue
		}
		errs = append(errs, s.remove())
	}
	return errors.Join(errs...)
}
