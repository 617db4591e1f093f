package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func remover(t *testing.T, dir string) *Remover {
	t.Helper()
	r, err := Remove(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{
		"nodes/a/deep/er/file": "", "nodes/b": "", "pki/ca.key": "", "pki/.ca.key.123": "", "pki/mine.pem": "", "pki/ca.key.d/": "", "empty/": "", "version": "",
	})
	r := remover(t, dir)
	err := errors.Join(r.Tree("nodes/a"), r.Tree("nodes/none"), r.Tree("none/at/all"), r.Files("pki", "ca.*", "none"), r.Files("none", "*"),
		r.Files(".", "version"), r.Folder("pki"), r.Folder("empty"), r.Folder("none"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"nodes/a": false, "nodes/b": true, "pki/ca.key": false, "pki/.ca.key.123": false, "pki/mine.pem": true, "pki/ca.key.d": true, "empty": false, "version": false,
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
	if left, err := r.Left(); err != nil || !slices.Equal(left, []string{"nodes", "pki"}) {
		t.Errorf("left %v, %v", left, err)
	}
}

// What a link leads to is not everynode's: the link is deleted with the tree that it is in, and its target
// stays.
func TestRemoveFollowsNoLink(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	fill(t, other, map[string]string{"precious": "x", "ca.key": "x"})
	fill(t, dir, map[string]string{"tree/": ""})
	if err := errors.Join(os.Symlink(other, filepath.Join(dir, "tree", "link")), os.Symlink(other, filepath.Join(dir, "pki"))); err != nil {
		t.Fatal(err)
	}
	r := remover(t, dir)
	if err := r.Tree("tree"); err != nil {
		t.Error(err)
	}
	wantError(t, r.Files("pki", "ca.key"), "not a folder that everynode made")
	wantError(t, r.Tree("pki/precious"), "not a folder that everynode made")
	for _, name := range []string{"precious", "ca.key"} {
		if _, err := os.Stat(filepath.Join(other, name)); err != nil {
			t.Error("deleted through a link:", err)
		}
	}
}

// A bind mount of the same disk has the same device number, but is not everynode's.
func TestRemoveEntersNoMount(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "other")
	tmpfs(t, filepath.Join(dir, "tree", "disk"), 0, "")
	fill(t, filepath.Join(dir, "tree", "disk"), map[string]string{"precious": "x"})
	fill(t, other, map[string]string{"precious": "x"})
	fill(t, dir, map[string]string{"tree/bound/": "", "tree/ours": ""})
	if err := unix.Mount(other, filepath.Join(dir, "tree", "bound"), "", unix.MS_BIND, ""); err != nil {
		t.Skip("bind mounts do not work here:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Join(dir, "tree", "bound"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := remover(t, dir)
	err := r.Tree("tree")
	for _, at := range []string{"disk", "bound"} {
		wantError(t, err, filepath.Join(dir, "tree", at)+" is a mount")
		if _, err := os.Stat(filepath.Join(dir, "tree", at, "precious")); err != nil {
			t.Error("deleted through a mount:", err)
		}
	}
}
