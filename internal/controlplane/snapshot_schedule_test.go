package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"everynode/internal/seal"
)

// scheduled is a schedule whose snapshots are small files. broken makes them fail.
type scheduled struct {
	*snapshots
	broken bool
	tried  []time.Duration // since the start
}

func schedule(t *testing.T, every time.Duration, keep int) *scheduled {
	t.Helper()
	begin := time.Now()
	s := &scheduled{snapshots: &snapshots{every: every, keep: keep, names: snapshotNames{"db-1"}, dir: filepath.Join(t.TempDir(), "snapshots")}}
	s.save = func(_ context.Context, to SnapshotTarget) error {
		s.tried = append(s.tried, time.Since(begin))
		if s.broken {
			return errors.New("the disk is full")
		}
		return os.WriteFile(to.File, nil, 0o600)
	}
	return s
}

// during runs the schedule for a while.
func (s *scheduled) during(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.run(ctx); err != nil {
		t.Error(err)
	}
}

func (s *scheduled) tries(t *testing.T, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(s.tried, want) {
		t.Errorf("snapshots at %v, want %v", s.tried, want)
	}
	s.tried = nil
}

// TestSnapshotSchedule: the first snapshot comes soon, the others in turn, and only
// the newest of this machine's stay.
func TestSnapshotSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 2)
		s.during(t, 3*time.Hour)
		s.tries(t, 10*time.Minute, 70*time.Minute, 130*time.Minute)
		if got := entriesOf(t, s.dir); !slices.Equal(got, []string{"everynode-db-1-20000101T011000Z.tar", "everynode-db-1-20000101T021000Z.tar"}) {
			t.Errorf("kept: %q", got)
		}
		// A start after that waits for its turn. Another start in between changes nothing.
		s.during(t, time.Minute)
		s.during(t, 8*time.Minute)
		s.tries(t)
		s.during(t, 2*time.Minute)
		s.tries(t, 190*time.Minute)
	})
}

// TestSnapshotScheduleKeeps: snapshots of other machines, and files that are not snapshots, stay.
func TestSnapshotScheduleKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 1)
		others := []string{"before-the-upgrade.tar", "everynode-db-1-notes.tar", "everynode-db-12-19990101T000000Z.tar", "everynode-db-2-19990101T000000Z.tar"}
		for _, name := range others {
			writeTestFile(t, filepath.Join(s.dir, name), "")
		}
		folder := filepath.Join(s.dir, "everynode-db-1-19990102T000000Z.tar")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(s.dir, "everynode-db-1-19990101T000000Z.tar.age"), "")
		s.during(t, time.Minute)
		s.tries(t, 0) // the last is a year old
		want := append(others, filepath.Base(folder), "everynode-db-1-20000101T000000Z.tar")
		slices.Sort(want)
		if got := entriesOf(t, s.dir); !slices.Equal(got, want) {
			t.Errorf("kept: %q, want %q", got, want)
		}
	})
}

// TestSnapshotScheduleFails: a snapshot that fails is tried again soon, deletes
// nothing, and does not end the schedule.
func TestSnapshotScheduleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 1)
		s.during(t, 11*time.Minute)
		s.tried, s.broken = nil, true
		s.during(t, 80*time.Minute)
		s.tries(t, 70*time.Minute, 80*time.Minute, 90*time.Minute)
		if got := entriesOf(t, s.dir); len(got) != 1 {
			t.Errorf("kept: %q", got)
		}
	})
}

// A clock that was ahead delays the next snapshot by at most one interval.
func TestSnapshotScheduleClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 3)
		writeTestFile(t, filepath.Join(s.dir, s.names.at(time.Now().AddDate(5, 0, 0), false)), "")
		if got := s.first(time.Now()); got != time.Hour {
			t.Errorf("the first is after %s, want 1h", got)
		}
	})
}

func TestSnapshotScheduleRefuses(t *testing.T) {
	for want, plan := range map[string]SnapshotSchedule{
		"too often":       {Every: time.Second},
		"cannot be kept":  {Every: time.Hour, Keep: -1},
		"recipients of":   {Every: time.Hour, Recipients: []string{"me"}},
		"too often: each": {Every: -time.Hour},
	} {
		_, err := Config{DataDir: t.TempDir(), Snapshots: plan}.resolve()
		wantError(t, err, want)
	}
	if s, err := (Config{DataDir: t.TempDir()}).resolve(); err != nil || s.snapshots != nil {
		t.Errorf("without a schedule: %v, %v", s, err)
	}
}

// TestScheduledSnapshot: what a schedule saves of a real etcd can be restored.
func TestScheduledSnapshot(t *testing.T) {
	key, recipient := ageKey(t)
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	s, err := Config{DataDir: old.DataDir, Snapshots: SnapshotSchedule{Every: time.Hour, Recipients: []string{recipient}, Everynode: "test"}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.snapshots.once(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	mine, err := s.snapshots.list()
	if err != nil || len(mine) != 1 || !strings.HasSuffix(mine[0].path, ".tar.age") || filepath.Dir(mine[0].path) != filepath.Join(old.DataDir, "snapshots") {
		t.Fatalf("saved: %v, %v", mine, err)
	}
	if info, err := os.Stat(filepath.Dir(mine[0].path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	restored, err := RestoreSnapshot(t.Context(), RestoreConfig{File: mine[0].path, DataDir: filepath.Join(t.TempDir(), "new"), With: seal.With{Identities: []string{key}}})
	if err != nil || restored.Keys != 1 {
		t.Errorf("restored: %+v, %v", restored, err)
	}
}
