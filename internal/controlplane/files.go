package controlplane

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"everynode/internal/atomicfile"
)

// writeFile replaces path by data, whole or not at all, with mode 0600. The
// data and its name are on disk when it returns.
func writeFile(path string, data []byte) error {
	if err := atomicfile.Write(path, data); err != nil {
		return describeWriteError(err)
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

// makeDir makes a directory that only its owner can enter, or takes the
// rights of others away from one that is there.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the directory %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("make the directory %s private: %w", path, err)
	}
	return nil
}

// KeyFiles are patterns of all files below pki/ that a server makes or is given.
func KeyFiles() []string {
	patterns := append(sharedFiles(), encryptionFile, clusterAuthorities, crossFile, namedCA+"*.crt", namedCA+"*.key", kubeletAuthorities)
	for _, name := range []string{kubeletCA, kubeletCA + "-*"} {
		patterns = append(patterns, name+".crt", name+".key")
	}
	for _, name := range leafNames() {
		patterns = append(patterns, name+".crt", name+".key", name+".kubeconfig")
	}
	return patterns
}

// PlainFiles are the files that a server makes in its data directory itself.
func PlainFiles() []string {
	return []string{"version", "admin.kubeconfig", admissionFile, authenticationFile}
}
