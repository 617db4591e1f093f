package controlplane

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// leftover makes what a snapshot leaves that is killed on its way.
func leftover(t *testing.T, dir, name string) string {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(folder, databaseName), "every Secret")
	writeTestFile(t, filepath.Join(folder, "archive"), "")
	return folder
}

// TestScheduleRemovesWhatWasLeft: the unsealed database of a snapshot that was killed does not stay. What others have
// put there does.
func TestScheduleRemovesWhatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 2)
		leftover(t, s.dir, ".everynode-db-1-c0ffee00-19990101T000000Z.tar.123")
		leftover(t, s.dir, ".everynode-db-1-c0ffee00-19990101T000000Z.tar.age.4294967295")

		theirs := []string{".today.tar.123", ".everynode-db-2-c0ffee00-19990101T000000Z.tar.123", ".everynode-db-1-c0ffee00-19990101T000000Z.tar.mine",
			"everynode-db-1-c0ffee00-19990101T000000Z.tar.123", ".everynode-db-1-notes.tar.123"}
		for _, name := range theirs {
			leftover(t, s.dir, name)
		}
		open, link, file := ".everynode-db-1-c0ffee00-19990102T000000Z.tar.1", ".everynode-db-1-c0ffee00-19990102T000000Z.tar.2", ".everynode-db-1-c0ffee00-19990102T000000Z.tar.3"
		if err := os.Chmod(leftover(t, s.dir, open), 0o755); err != nil {
			t.Fatal(err)
		}
		other := leftover(t, t.TempDir(), "other")
		if err := os.Symlink(other, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(s.dir, file), "")
		working, err := newScratch(s.dir, ".everynode-db-1-c0ffee00-20000101T000000Z.tar.*")
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, working.file(databaseName), "")

		s.during(t, time.Minute)
		want := append(theirs, open, link, file, filepath.Base(working.path))
		slices.Sort(want)
		if got := entriesOf(t, s.dir); !slices.Equal(got, want) {
			t.Errorf("left: %q, want %q", got, want)
		}
		if got := entriesOf(t, other); len(got) != 2 {
			t.Errorf("behind the link there is %q", got)
		}
		if err := working.remove(); err != nil {
			t.Error("what is being made was touched:", err)
		}
	})
}

// A server removes it before it starts etcd, which may need the space.
func TestPreflightRemovesWhatWasLeft(t *testing.T) {
	s := testSettings(t, Config{})
	host, err := thisMachine()
	if err != nil {
		t.Fatal(err)
	}
	names := snapshotNames{host, "0123abcd"}
	start := func() {
		held, err := preflight(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := held.release(); err != nil {
			t.Error(err)
		}
	}
	start()
	leftover(t, s.path("snapshots"), "."+names.at(time.Now(), false)+".123")
	leftover(t, s.DataDir, ".snapshot-123")
	start()
	if got := entriesOf(t, s.path("snapshots")); len(got) != 0 || exists(s.path(".snapshot-123")) {
		t.Errorf("left: %q", got)
	}
}

// A snapshot leaves room for etcd where both share a disk.
func TestSnapshotReserve(t *testing.T) {
	s := saver{data: dataFolder(t.TempDir())}
	const database = 10 << 20
	need := func(dir string, want int64) {
		t.Helper()
		if got, what, err := s.needs(dir, database); err != nil || got != want {
			t.Errorf("in %s: %d for %s, want %d: %v", dir, got, what, want, err)
		}
	}
	need(t.TempDir(), 2*database+smallFiles) // etcd is on other machines
	if err := os.MkdirAll(s.data.storeDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	need(t.TempDir(), 2*database+smallFiles+etcdReserve)
	need("/proc", 2*database+smallFiles)
}
