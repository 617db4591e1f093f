// Package atomicfile replaces files. Whoever reads such a file, even after a crash or the loss of
// power, finds the old content or the new one, and never half of it.
//
// The new content is written to a file beside the one that it is for, with the name
// .NAME.RANDOM, and reaches the disk before it gets its name. The name reaches the
// disk as well: a certificate that others trust already must not be lost with the
// power. A crash may leave a file .NAME.RANDOM behind.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Write replaces name by a file with this content and mode 0600, or makes it.
func Write(name string, content []byte) error {
	f, err := Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

// File is a file that does not have its name yet. It ends with Commit, CommitNew or Discard.
type File struct {
	*os.File
	name  string
	ended bool
}

// Create begins a file of mode 0600 that is to replace name.
func Create(name string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // 0600
	if err != nil {
		return nil, err
	}
	return &File{File: f, name: name}, nil
}

// Commit gives the file its name, and replaces a file that had it. If it fails before that, the
// file is discarded.
func (f *File) Commit() error { return f.commit(os.Rename) }

// CommitNew is Commit, unless there is something of that name: then the error is
// fs.ErrExist, and the file is discarded.
func (f *File) CommitNew() error { return f.commit(RenameNew) }

func (f *File) commit(rename func(from, to string) error) error {
	err := f.Sync()
	if err = errors.Join(err, f.Close()); err == nil {
		err = rename(f.File.Name(), f.name)
	}
	f.ended = true
	if err != nil {
		return errors.Join(err, os.Remove(f.File.Name()))
	}
	return SyncDir(filepath.Dir(f.name))
}

// Discard deletes the file. After a Commit it does nothing, so that it can be deferred.
func (f *File) Discard() error {
	if f.ended {
		return nil
	}
	f.ended = true
	return errors.Join(f.Close(), os.Remove(f.File.Name()))
}

// RenameNew renames a file or folder without replacing another: if there is something
// of that name, the error is fs.ErrExist. SyncDir makes the new name last.
func RenameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
	// This file system cannot refuse by itself: check first.
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// SyncDir makes the names in a folder as lasting as the files.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
