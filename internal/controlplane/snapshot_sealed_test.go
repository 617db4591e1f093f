package controlplane

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"everynode/internal/seal"
)

// ageKey makes a key, and returns its file and its recipient.
func ageKey(t *testing.T) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key")
	writeTestFile(t, file, id.String()+"\n")
	return file, id.Recipient().String()
}

// TestSnapshotSealed: a sealed snapshot reveals nothing about the cluster, and can
// be restored only with its key.
func TestSnapshotSealed(t *testing.T) {
	key, recipient := ageKey(t)
	other, _ := ageKey(t)
	lock, err := seal.To{Recipients: []string{recipient}}.Lock(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	file := filepath.Join(t.TempDir(), "snapshot.tar.age")
	saved, err := SaveSnapshot(t.Context(), Config{DataDir: old.DataDir}, SnapshotTarget{File: file, Lock: lock})
	if err != nil || !saved.Sealed || saved.Size != fileSize(file) {
		t.Fatalf("saved: %+v, %v", saved, err)
	}
	for _, dir := range []string{filepath.Dir(file), old.DataDir} {
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, []byte("manifest")) {
		t.Errorf("the file shows what is in it: %v", err)
	}
	cut := filepath.Join(t.TempDir(), "cut.age")
	writeTestFile(t, cut, string(text[:len(text)/2]))

	for want, cfg := range map[string]RestoreConfig{
		"it is sealed: name the file of the key":      {File: file},
		"it was not sealed for any of the given keys": {File: file, With: seal.With{Identities: []string{other}}},
		"it is damaged, or was cut off":               {File: cut, With: seal.With{Identities: []string{key}}},
	} {
		parent := t.TempDir()
		cfg.DataDir = filepath.Join(parent, "data")
		_, err := RestoreSnapshot(t.Context(), cfg)
		wantError(t, err, want)
		if left := entriesOf(t, parent); len(left) != 0 {
			t.Errorf("%s: left behind: %q", want, left)
		}
	}

	dir := filepath.Join(t.TempDir(), "new")
	if _, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: dir, With: seal.With{Identities: []string{key}}}); err != nil {
		t.Fatal(err)
	}
	sameShared(t, old.DataDir, dir)
	if got := entriesOf(t, dir); strings.Contains(strings.Join(got, " "), "unsealed") {
		t.Errorf("the data directory has %q", got)
	}
	if got := startStored(t, dir).get(t, "/registry/a"); got != "1" {
		t.Errorf("/registry/a is %q", got)
	}
}

// TestRestoreRefusesHoles: an archive of a few kilobytes cannot unpack to more.
func TestRestoreRefusesHoles(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar to make files with holes")
	}
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	file, _ := saveOf(t, old.DataDir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	size := len(members(t, file)[databaseName])
	holes := t.TempDir()
	writeTestFile(t, filepath.Join(holes, databaseName), "")
	if err := os.Truncate(filepath.Join(holes, databaseName), int64(size)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "--format=posix", "--sparse", "-C", holes, "-cf", "-", databaseName).Output()
	if err != nil {
		t.Fatal(err)
	}
	before := len(whole) - 1024 - (size+511)/512*512 - 512
	bad := filepath.Join(t.TempDir(), "bad")
	writeTestFile(t, bad, string(whole[:before])+string(out))
	_, err = RestoreSnapshot(t.Context(), RestoreConfig{File: bad, DataDir: filepath.Join(t.TempDir(), "data")})
	wantError(t, err, "etcd.db has holes")
}
