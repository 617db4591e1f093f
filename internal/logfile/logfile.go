// Package logfile keeps logs of processes that run for months below a size, while they
// are written.
package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// Limit is the size in bytes from which a log is set aside.
	Limit = 16 << 20
	// lookEvery bounds how far a log that grows fast exceeds that.
	lookEvery = 10 * time.Second
)

// SetAside moves what a log holds to NAME.1, whose former content is gone, if it is larger than
// Limit. Whoever writes the log must append to it (O_APPEND), and continues in the same file.
// What is written between copying and emptying is lost. A missing log is not an error.
func SetAside(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= Limit {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the log: %w", err)
	}
	if err := copyFile(path, path+".1"); err != nil {
		return fmt.Errorf("rotate the log: %w", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		return fmt.Errorf("empty the rotated log: %w", err)
	}
	return nil
}

// copyFile replaces the content of a file. What the old one took of the disk is free
// before the new one is written, so that a full disk has room for it.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Keep sets a log aside whenever it has grown, until stop is called. Failures are retried, and
// logged once in a row.
func Keep(path string, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { keep(ctx, path, log) })
	return func() { cancel(); done.Wait() }
}

func keep(ctx context.Context, path string, log *slog.Logger) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := SetAside(path)
		if err != nil && !failed {
			log.Warn("a log has no size limit: it cannot be rotated", "file", path, "err", err)
		}
		failed = err != nil
	}
}

// KeepOwn is Keep for the log that this process itself writes to by way of f, if that is
// the file at path. What somebody has redirected elsewhere is not ours to cut.
func KeepOwn(f *os.File, path string, log *slog.Logger) (stop func()) {
	own, err := f.Stat()
	if err != nil {
		return func() {}
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(own, there) {
		return func() {}
	}
	return Keep(path, log)
}
