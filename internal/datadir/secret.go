package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// What users other than its owner may do with a file.
const (
	othersAny   fs.FileMode = 0o077
	othersWrite fs.FileMode = 0o022
)

// CheckSecret refuses a file with a secret that users other than its owner can read or change, or
// that belongs to another user. It fails as os.Stat does for a missing file.
func CheckSecret(path string) error {
	mode, err := fileMode(path)
	if err != nil {
		return err
	}
	if mode&othersAny != 0 {
		return fmt.Errorf("%s contains a secret, and users other than its owner can read or change it (mode %04o): chmod 600 %s; if somebody may have read it, replace the secret as well", path, mode, path)
	}
	return checkFileOwner(path, "contains a secret")
}

// CheckTrusted refuses a file that users other than its owner can change, or that belongs to
// another user: they could decide what is done with it.
func CheckTrusted(path string) error {
	mode, err := fileMode(path)
	if err != nil {
		return err
	}
	if mode&othersWrite != 0 {
		return fmt.Errorf("%s says who may do what, and users other than its owner can change it (mode %04o): chmod go-w %s", path, mode, path)
	}
	return checkFileOwner(path, "says who may do what")
}

// checkFileOwner refuses a regular file unless it belongs to root, to the user that this process
// runs as, or to the user who called it with sudo: the mode of a file says nothing about what its
// owner may do.
func checkFileOwner(path, what string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	us := uint32(os.Geteuid())
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if !regular || st.Uid == 0 || st.Uid == us || strconv.FormatUint(uint64(st.Uid), 10) == os.Getenv("SUDO_UID") {
		return nil
	}
	return fmt.Errorf("%s %s, but belongs to uid %d, who can read and change it, and not to uid %d, as which this runs: chown %d %s", path, what, st.Uid, us, us, path)
}

// fileMode returns the permissions of a regular file, and 0 for anything else: a pipe or a
// terminal stores nothing.
func fileMode(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, nil
	}
	return info.Mode().Perm(), nil
}

// CheckSecrets checks those files of a directory that match one of the patterns, and
// reports all that others can read or change. Certificates and public keys (*.crt,
// *.pub) are not secrets.
func CheckSecrets(dir string, patterns ...string) error {
	var errs []error
	for _, pattern := range patterns {
		if ext := filepath.Ext(pattern); ext == ".crt" || ext == ".pub" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, file := range files {
			if err := CheckSecret(file); !errors.Is(err, fs.ErrNotExist) { // renewed just now
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
