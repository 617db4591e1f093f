// Package logfile limits the size of logs while processes that run for months write them.
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
	// Limit is the size in bytes above which a log is set aside.
	Limit = 16 << 20
	// lookEvery is how often that is checked. It bounds how far a log that grows fast exceeds
	// Limit.
	lookEvery = 10 * time.Second
)

// SetAside moves the content of a log to NAME.1, in place of what is there, if it is larger
// than Limit. The program that writes the log must append to it (O_APPEND), and continues in
// the same file. What it writes between copying and emptying is lost. A missing log is not an
// error.
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

// copyFile replaces the content of the file to. It frees the disk space of the old content
// before it writes the new one, so that a full disk has room for it.
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

// Keep sets a log aside whenever it exceeds Limit, until stop is called. It retries failures,
// and logs only the first of several in a row.
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

// KeepOwn is Keep for this process's own log, to which it writes through f, if f is the file at
// path. If not, somebody has redirected the output, and KeepOwn does not touch that file.
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
