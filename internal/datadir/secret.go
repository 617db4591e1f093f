package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// What others than its owner may do with a file.
const (
	othersAny   fs.FileMode = 0o077
	othersWrite fs.FileMode = 0o022
)

// CheckSecret refuses a file with a secret that others than its owner can read or
// change. It fails as os.Stat does for a file that is not there.
func CheckSecret(path string) error {
	mode, err := fileMode(path)
	if err != nil {
		return err
	}
	if mode&othersAny != 0 {
		return fmt.Errorf("%s holds a secret, and others than its owner can read or change it (mode %04o): chmod 600 %s; if somebody may have read it, replace the secret as well", path, mode, path)
	}
	return nil
}

// CheckTrusted refuses a file that others than its owner can change, and so decide
// what is done by it.
func CheckTrusted(path string) error {
	mode, err := fileMode(path)
	if err != nil {
		return err
	}
	if mode&othersWrite != 0 {
		return fmt.Errorf("%s says who may do what, and others than its owner can change it (mode %04o): chmod go-w %s", path, mode, path)
	}
	return nil
}

// fileMode returns the permissions of a regular file, and 0 for what is none: a pipe
// or a terminal keeps nothing.
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
