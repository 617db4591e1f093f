package logfile

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writer appends to a log, as a child process does.
func writer(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// However long a process runs, the sizes of its log and of the one before it are
// bounded, the newest lines are there, and nobody else can read them.
func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.log")
	f := writer(t, path)
	big := strings.Repeat("x", Limit)
	synctest.Test(t, func(t *testing.T) {
		stop := Keep(path, slog.New(slog.DiscardHandler))
		write(t, f, big)
		time.Sleep(2 * lookEvery)
		if got := read(t, path); len(got) != Limit {
			t.Errorf("a log at its limit has %d bytes", len(got))
		}
		for _, line := range []string{"first\n", "second\n"} {
			write(t, f, big[:Limit-1]+line)
			time.Sleep(2 * lookEvery)
			write(t, f, "after the "+line)
			if got := read(t, path); got != "after the "+line {
				t.Errorf("the log has %d bytes", len(got))
			}
			if got := read(t, path+".1"); !strings.HasSuffix(got, line) {
				t.Errorf("what was set aside ends with %q", got[max(0, len(got)-20):])
			}
		}
		stop()
		write(t, f, big)
		time.Sleep(2 * lookEvery)
		if got := read(t, path); len(got) <= Limit {
			t.Error("it was set aside after the end")
		}
	})
	if info, err := os.Stat(path + ".1"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A failure is logged once, and nothing is lost.
func TestKeepFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.log")
	f := writer(t, path)
	if err := os.Mkdir(path+".1", 0o700); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		stop := Keep(path, slog.New(slog.NewTextHandler(&told, nil)))
		write(t, f, strings.Repeat("x", Limit+1))
		time.Sleep(5 * lookEvery)
		stop()
	})
	if n := strings.Count(told.String(), "\n"); n != 1 || !strings.Contains(told.String(), "is a directory") {
		t.Errorf("%d lines: %s", n, told.String())
	}
	if got := read(t, path); len(got) != Limit+1 {
		t.Errorf("%d bytes are left", len(got))
	}
}

func TestKeepOwn(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "server.log"), filepath.Join(dir, "mine")
	f, elsewhere := writer(t, path), writer(t, other)
	synctest.Test(t, func(t *testing.T) {
		for _, stop := range []func(){KeepOwn(elsewhere, path, nil), KeepOwn(f, filepath.Join(dir, "none"), nil)} {
			defer stop()
		}
		write(t, f, strings.Repeat("x", Limit+1))
		write(t, elsewhere, strings.Repeat("x", Limit+1))
		time.Sleep(2 * lookEvery)
		if len(read(t, path)) <= Limit || len(read(t, other)) <= Limit {
			t.Error("what is not its own log was set aside")
		}
		defer KeepOwn(f, path, slog.New(slog.DiscardHandler))()
		time.Sleep(2 * lookEvery)
		if got := read(t, path); got != "" {
			t.Errorf("its own log has %d bytes", len(got))
		}
	})
	if err := SetAside(filepath.Join(dir, "none")); err != nil {
		t.Error("a log that is not there: ", err)
	}
	if _, err := os.Stat(other + ".1"); err == nil || !os.IsNotExist(err) {
		t.Error(fs.ErrExist)
	}
}
