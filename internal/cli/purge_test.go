package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// place writes files below dir.
func place(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func isThere(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// madeCluster makes the record of a cluster on loopback, and the files that a
// server keeps in its data directory.
func madeCluster(t *testing.T, dir string) {
	t.Helper()
	if _, err := local.Create(dir, local.Options{Loopback: true}); err != nil {
		t.Fatal(err)
	}
	place(t, dir, "pki/ca.key", "pki/ca.crt", "pki/.ca.key.123", "pki/controller-manager.kubeconfig", "pki/service-account.pub", "audit/audit.log", "audit/audit-2026-11-27T06-00-00.000.log.gz", "audit/policy.yaml", "etcd/data/member/snap/db", "etcd/etcd.sock",
		"images/busybox.tar", "version", "admin.kubeconfig", "server.lock", "server.log", "simulate.json", "simulator.lock", "change.lock")
}

// purgeIn runs `down --purge`.
func purgeIn(t *testing.T, dir string) (said string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := downCommand{&console.Console{In: &bytes.Buffer{}, Out: &out, Err: &out, Program: console.Everynode}, &target{dir, &out}}
	err = cmd.run(t.Context(), true)
	return out.String(), err
}

func TestPurge(t *testing.T) {
	made := filepath.Join(t.TempDir(), "made")
	madeCluster(t, made)
	if said, err := purgeIn(t, made); err != nil || isThere(made) || !strings.Contains(said, "deleted "+made) {
		t.Errorf("a directory of ours: %v, said %q", err, said)
	}
	if said, err := purgeIn(t, made); err != nil || !strings.Contains(said, "nothing to stop") {
		t.Errorf("a second time: %v, said %q", err, said)
	}

	given := t.TempDir()
	madeCluster(t, given)
	if said, err := purgeIn(t, given); err != nil || !strings.Contains(said, "emptied") {
		t.Errorf("a directory that was given: %v, said %q", err, said)
	}
	if left, err := os.ReadDir(given); err != nil || len(left) != 0 {
		t.Errorf("it holds %v (%v)", left, err)
	}
}

// A purge leaves what people have put into a cluster's folders.
func TestPurgeLeavesWhatIsNotOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	madeCluster(t, dir)
	theirs := []string{"notes.txt", "images/holiday.jpg", "pki/tls/ca-bundle.crt", "etcd.old/data/db", "nodes/notes.txt", "nodes/else/file"}
	place(t, dir, theirs...)
	_, err := purgeIn(t, dir)
	if err == nil || !strings.Contains(err.Error(), "holds files that are not everynode's, and was kept: etcd.old, images, nodes, notes.txt, pki") {
		t.Errorf("the error is %v", err)
	}
	for _, name := range theirs {
		if !isThere(filepath.Join(dir, name)) {
			t.Errorf("%s was deleted", name)
		}
	}
	for _, name := range []string{"pki/ca.key", "etcd", "cluster.json", datadir.MarkName} {
		if isThere(filepath.Join(dir, name)) {
			t.Errorf("%s is still there", name)
		}
	}
}

// A cluster is never made in a folder with other files, so a purge cannot delete
// them.
func TestNoClusterOverOthersFiles(t *testing.T) {
	dir := t.TempDir()
	theirs := []string{"images/holiday.jpg", "nodes/notes.txt", "etcd/member/snap/db", "pki/tls/certs/ca-bundle.crt", "version"}
	place(t, dir, theirs...)
	const want = "which everynode did not make"
	if _, err := local.PreflightLoopback(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("preflight: %v", err)
	}
	if _, err := local.Create(dir, local.Options{Loopback: true}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("create: %v", err)
	}
	if said, err := purgeIn(t, dir); err != nil || !strings.Contains(said, "nothing to stop") {
		t.Errorf("purge: %v, said %q", err, said)
	}
	for _, name := range theirs {
		if !isThere(filepath.Join(dir, name)) {
			t.Errorf("%s was deleted", name)
		}
	}
}

// A purge that was killed can be continued, and a lost or broken record does not
// keep it from deleting the cluster.
func TestPurgeAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("without a record nobody knows that a cluster needs no root")
	}
	for name, spoil := range map[string]func(record string) error{
		"lost":   os.Remove,
		"broken": func(record string) error { return os.WriteFile(record, []byte(`{"version":1,`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			madeCluster(t, dir)
			if err := spoil(filepath.Join(dir, "cluster.json")); err != nil {
				t.Fatal(err)
			}
			if said, err := purgeIn(t, dir); err != nil || isThere(dir) {
				t.Errorf("%v, said %q", err, said)
			}
		})
	}
}

// A purge deletes nothing of a server that `up` did not make.
func TestPurgeOfServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := datadir.Claim(dir, datadir.Server); err != nil {
		t.Fatal(err)
	}
	place(t, dir, "version", "pki/ca.key")
	if said, err := purgeIn(t, dir); err != nil || !strings.Contains(said, "nothing to stop") || !isThere(filepath.Join(dir, "pki/ca.key")) {
		t.Errorf("%v, said %q", err, said)
	}
}

// The record is deleted after everything that it lists.
func TestPurgeKeepsItsRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	madeCluster(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	place(t, other, "data/db")
	if err := os.Symlink(other, filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	if _, err := purgeIn(t, dir); err == nil || !strings.Contains(err.Error(), "not a folder that everynode made") {
		t.Errorf("through a link: %v", err)
	}
	if !isThere(filepath.Join(other, "data/db")) || !isThere(filepath.Join(dir, "cluster.json")) || !isThere(filepath.Join(dir, datadir.MarkName)) {
		t.Error("deleted through a link, or the record is gone")
	}
	if err := os.Remove(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	if said, err := purgeIn(t, dir); err != nil || isThere(dir) {
		t.Errorf("again: %v, said %q", err, said)
	}
}

func TestPurgeUnmountsFirst(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, other := filepath.Join(t.TempDir(), "data"), t.TempDir()
	madeCluster(t, dir)
	place(t, other, "precious.tar")
	for _, at := range []string{"images", "nodes/node-1/shared"} {
		at = filepath.Join(dir, at)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(other, at, "", unix.MS_BIND, ""); err != nil {
			t.Skip("bind mounts do not work here:", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // EINVAL: it is unmounted, as it should be
	}
	said, _ := purgeIn(t, dir)
	for _, at := range []string{"images", "nodes/node-1/shared"} {
		if !strings.Contains(said, "unmounted "+filepath.Join(dir, at)) {
			t.Errorf("%s: said %q", at, said)
		}
	}
	if !isThere(filepath.Join(other, "precious.tar")) {
		t.Error("deleted through a mount")
	}
}
