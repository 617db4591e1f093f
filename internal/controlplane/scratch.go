package controlplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// scratch is a folder for files that are not finished. Others may be able to write to the folder that it is in, and
// could put another one in its place. So files are reached through the open folder, not through its name.
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
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
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
