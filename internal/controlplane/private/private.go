// Package private writes files and folders that only their owner can read: keys, and what is stored beside them.
package private

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"

	"everynode/internal/atomicfile"
)

// WriteFile replaces the file at path with data, whole or not at all, with mode 0600.
// The data and the file's name are on disk when it returns.
func WriteFile(path string, data []byte) error {
	if err := atomicfile.Write(path, data); err != nil {
		return describeWriteError(err)
	}
	return nil
}

// WriteIfChanged is WriteFile, unless the file already has this content. Then a full
// disk does not matter.
func WriteIfChanged(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return WriteFile(path, data)
}

// MakeDir makes a directory that only its owner can enter. If the directory exists,
// MakeDir takes the rights of others away.
func MakeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the directory %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("make the directory %s private: %w", path, err)
	}
	return nil
}

// describeWriteError adds what to do to an error that names its file.
func describeWriteError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is full: free space on it, then start again: %w", err)
	}
	return fmt.Errorf("the data directory is not writable: %w", err)
}
