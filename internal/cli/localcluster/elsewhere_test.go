package localcluster

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"everynode/internal/cli/console"
	"everynode/internal/local"
)

func TestElsewhereDir(t *testing.T) {
	for _, c := range []struct {
		uid  int
		env  map[string]string
		want string
	}{
		{0, map[string]string{"HOME": "/h"}, "/var/lib/everynode-elsewhere"},
		{0, map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/everynode/clusters"},
		{1000, map[string]string{"HOME": "/h"}, "/h/.local/state/everynode/clusters"},
		{1000, map[string]string{"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/everynode/clusters"},
		{1000, nil, ""},
	} {
		if got := elsewhereDir(c.uid, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("uid %d, %v: %q, want %q", c.uid, c.env, got, c.want)
		}
	}
}

// A cluster outside the directories of names is found until it is purged or its
// directory is gone.
func TestElsewhere(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("EVERYNODE_DATA_DIR", filepath.Join(t.TempDir(), "none"))
	there := func(want ...string) {
		t.Helper()
		got, err := Remembered(Elsewhere())
		if slices.Sort(want); err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("found are %v, %v; want %v", got, err, want)
		}
	}
	there()
	made := func() (*Cluster, string) {
		dir := filepath.Join(t.TempDir(), "data")
		c, err := local.Create(dir, local.Options{Loopback: true})
		if err != nil {
			t.Fatal(err)
		}
		m := &Cluster{Cluster: c}
		for range 2 { // each `up` calls it
			if err := Remember(c); err != nil {
				t.Fatal(err)
			}
		}
		return m, dir
	}
	last, kept := made()
	first, purged := made()
	_, lost := made()
	there(kept, purged, lost)
	purge := func(m *Cluster) error { return m.Purge(console.NewProgress(io.Discard), io.Discard) }
	if err := purge(first); err != nil {
		t.Error(err)
	}
	if links, err := os.ReadDir(Elsewhere()); err != nil || len(links) != 2 {
		t.Errorf("after the purge there are %v, %v", links, err)
	}
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	there(kept)
	there(kept)
	if links, err := os.ReadDir(Elsewhere()); err != nil || len(links) != 1 {
		t.Errorf("a link to where nothing is has stayed: %v, %v", links, err)
	}
	if err := purge(last); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(Elsewhere()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder stays after the last: %v", err)
	}
}

// A directory that is found in two ways is listed once.
func TestDirs(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	dirs := Dirs([]string{dir, link, dir})
	if n := len(slices.DeleteFunc(dirs, func(d string) bool { return d != dir && d != link })); n != 1 {
		t.Errorf("%v has it %d times", dirs, n)
	}
}
