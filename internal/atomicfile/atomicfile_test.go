package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// only checks that a folder holds these files and nothing that was left on the way.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range list {
		have = append(have, e.Name())
	}
	if strings.Join(have, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %q, want %q", have, names)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	for _, text := range []string{"first", "", "third"} {
		if err := Write(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, file); got != text {
			t.Errorf("the file says %q, want %q", got, text)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, []byte("a key")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file that others could read has the mode %v afterwards (%v)", info.Mode(), err)
	}
	only(t, dir, "a")
}

// A reader never sees half a file, whoever else is writing it.
func TestReadersSeeOneOrTheOther(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	texts := []string{strings.Repeat("x", 1<<16), strings.Repeat("y", 1<<15)}
	if err := Write(file, []byte(texts[0])); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, text := range texts {
		writers.Go(func() {
			for range 20 {
				if err := Write(file, []byte(text)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		select {
		case <-done:
			only(t, dir, "a")
			return
		default:
			if got := content(t, file); got != texts[0] && got != texts[1] {
				t.Fatalf("%d bytes, of neither", len(got))
			}
		}
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "a"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	only(t, dir, "taken")
}

// A disk that is full leaves the old content, and nothing beside it.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small disk can be had here: %v", err)
	}
	defer unix.Unmount(dir, 0)
	file := filepath.Join(dir, "a")
	if err := Write(file, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, make([]byte, 1<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want that the disk is full", err)
	}
	if got := content(t, file); got != "old" {
		t.Errorf("the file says %q afterwards", got)
	}
	only(t, dir, "a")
}

func TestCommitNew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	for i, want := range []error{nil, fs.ErrExist} {
		f, err := Create(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "writer %d", i)
		if err := f.CommitNew(); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("writer %d: %v, want %v", i, err, want)
		}
		if err := f.Discard(); err != nil {
			t.Errorf("discard after the end: %v", err)
		}
	}
	if got := content(t, file); got != "writer 0" {
		t.Errorf("the file is that of %s", got)
	}
	only(t, dir, "a")
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Discard(), f.Discard()); err != nil {
		t.Error(err)
	}
	only(t, dir)
}
