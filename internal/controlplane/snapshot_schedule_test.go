package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"everynode/internal/seal"
)

// scheduled is a schedule whose snapshots are small files. broken makes them fail.
type scheduled struct {
	*snapshots
	cluster string
	broken  bool
	tried   []time.Duration // since the start
}

func schedule(t *testing.T, every time.Duration, keep int) *scheduled {
	t.Helper()
	begin := time.Now()
	s := &scheduled{cluster: "c0ffee00", snapshots: &snapshots{every: every, keep: keep, host: "db-1", dir: filepath.Join(t.TempDir(), "snapshots")}}
	s.names = func(context.Context) (snapshotNames, error) { return snapshotNames{"db-1", s.cluster}, nil }
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
		if got := entriesOf(t, s.dir); !slices.Equal(got, []string{"everynode-db-1-c0ffee00-20000101T011000Z.tar", "everynode-db-1-c0ffee00-20000101T021000Z.tar"}) {
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
		others := []string{"before-the-upgrade.tar", "everynode-db-1-c0ffee00-notes.tar", "everynode-db-12-c0ffee00-19990101T000000Z.tar",
			"everynode-db-2-c0ffee00-19990101T000000Z.tar", "everynode-db-1-19990101T000000Z.tar", "everynode-db-1-decade00-19990101T000000Z.tar"}
		for _, name := range others {
			writeTestFile(t, filepath.Join(s.dir, name), "")
		}
		folder := filepath.Join(s.dir, "everynode-db-1-c0ffee00-19990102T000000Z.tar")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(s.dir, "everynode-db-1-c0ffee00-19990101T000000Z.tar.age"), "")
		s.during(t, time.Minute)
		s.tries(t, 0) // the last is a year old
		want := append(others, filepath.Base(folder), "everynode-db-1-c0ffee00-20000101T000000Z.tar")
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

// TestSnapshotScheduleOfEmptyCluster: the data disk is not mounted, and a new, empty cluster starts in
// its place, on the same machine and with the same folder. It deletes nothing of the former one, and
// that one goes on where it was once it is back.
func TestSnapshotScheduleOfEmptyCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 2)
		b := &bucket{sizes: map[string]int64{}}
		during := s.uploadTo(b, 2, SnapshotStorage{Unsealed: true})
		during(t, 2*time.Hour)
		real := []string{"everynode-db-1-c0ffee00-20000101T001000Z.tar", "everynode-db-1-c0ffee00-20000101T011000Z.tar"}
		s.cluster, s.tried = "decade00", nil
		during(t, 8*time.Hour)
		s.tries(t, 130*time.Minute, 190*time.Minute, 250*time.Minute, 310*time.Minute, 370*time.Minute, 430*time.Minute, 490*time.Minute, 550*time.Minute)
		both := append(real, "everynode-db-1-decade00-20000101T081000Z.tar", "everynode-db-1-decade00-20000101T091000Z.tar")
		if got := entriesOf(t, s.dir); !slices.Equal(got, both) {
			t.Errorf("kept: %q, want %q", got, both)
		}
		b.holds(t, "c1/"+both[0], "c1/"+both[1], "c1/"+both[2], "c1/"+both[3])

		s.cluster = "c0ffee00"
		during(t, time.Minute)
		if got := entriesOf(t, s.dir); !slices.Equal(got, []string{both[1], "everynode-db-1-c0ffee00-20000101T100000Z.tar", both[2], both[3]}) {
			t.Errorf("once it is back: %q", got)
		}
	})
}

// TestSnapshotScheduleClock: while the clock was ahead, snapshots got names from the future. They
// do not delay the next one, nobody counts or deletes them, and what is saved now stays.
func TestSnapshotScheduleClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 1)
		b := &bucket{sizes: map[string]int64{}}
		during := s.uploadTo(b, 1, SnapshotStorage{Unsealed: true})
		var want, stored []string
		for _, ahead := range []time.Duration{72 * time.Hour, 84 * time.Hour} {
			name := snapshotNames{"db-1", s.cluster}.at(time.Now().Add(ahead), false)
			writeTestFile(t, filepath.Join(s.dir, name), "")
			b.sizes["c1/"+name] = 0
			want, stored = append(want, name), append(stored, "c1/"+name)
		}
		during(t, 3*time.Hour)
		s.tries(t, 10*time.Minute, 70*time.Minute, 130*time.Minute)
		want = append([]string{"everynode-db-1-c0ffee00-20000101T021000Z.tar"}, want...)
		if got := entriesOf(t, s.dir); !slices.Equal(got, want) {
			t.Errorf("kept: %q, want %q", got, want)
		}
		b.holds(t, append([]string{"c1/" + want[0]}, stored...)...)
	})
}

// TestSnapshotScheduleJustSaved: a snapshot is not deleted because an earlier one has a later name.
func TestSnapshotScheduleJustSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keep := range []int{1, 2} {
			s := schedule(t, time.Hour, keep)
			b := &bucket{sizes: map[string]int64{}}
			during := s.uploadTo(b, keep, SnapshotStorage{Unsealed: true})
			for _, ahead := range []time.Duration{40 * time.Minute, 50 * time.Minute} {
				name := snapshotNames{"db-1", s.cluster}.at(time.Now().Add(ahead), false)
				writeTestFile(t, filepath.Join(s.dir, name), "")
				b.sizes["c1/"+name] = 0
			}
			if err := s.once(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			during(t, time.Minute)
			got := entriesOf(t, s.dir)
			if len(got) != keep || got[0] != (snapshotNames{"db-1", s.cluster}.at(time.Now().Add(-time.Minute), false)) {
				t.Errorf("keeping %d: %q", keep, got)
			}
			if _, ok := b.sizes["c1/"+got[0]]; !ok || len(b.sizes) != keep {
				t.Errorf("keeping %d, in storage: %v", keep, b.sizes)
			}
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
	old.putNamespace(t, "3f2a9c01-8ac0-4d6b-9a43-0d2f6a1b7c55")
	s, err := Config{DataDir: old.DataDir, Snapshots: SnapshotSchedule{Every: time.Hour, Recipients: []string{recipient}, Everynode: "test"}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.snapshots.once(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	mine, err := filepath.Glob(filepath.Join(old.DataDir, "snapshots", "everynode-*-3f2a9c01-*Z.tar.age"))
	if err != nil || len(mine) != 1 {
		t.Fatalf("saved: %v, %v, in %q", mine, err, entriesOf(t, filepath.Join(old.DataDir, "snapshots")))
	}
	if info, err := os.Stat(filepath.Dir(mine[0])); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	restored, err := RestoreSnapshot(t.Context(), RestoreConfig{File: mine[0], DataDir: filepath.Join(t.TempDir(), "new"), With: seal.With{Identities: []string{key}}})
	if err != nil || restored.Keys != 1 {
		t.Errorf("restored: %+v, %v", restored, err)
	}
}

// TestSnapshotsNameTheCluster: without the API server's namespace, or with a UID that cannot be part of a
// file's name, nothing is saved.
func TestSnapshotsNameTheCluster(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	_, err := old.runningEtcd().names(t.Context())
	wantError(t, err, "etcd has no namespace kube-system")
	old.putNamespace(t, "../../etc")
	_, err = old.runningEtcd().names(t.Context())
	wantError(t, err, "which no API server has made")
	old.putNamespace(t, "3f2a9c01-8ac0-4d6b-9a43-0d2f6a1b7c55")
	if n, err := old.runningEtcd().names(t.Context()); err != nil || n.cluster != "3f2a9c01" {
		t.Errorf("the cluster is %q, %v", n.cluster, err)
	}
}

// putNamespace writes the namespace kube-system, as an API server does.
func (s *stored) putNamespace(t *testing.T, uid string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: types.UID(uid)}}
	data, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), corev1.SchemeGroupVersion), namespace)
	if err != nil {
		t.Fatal(err)
	}
	s.put(t, "/registry/namespaces/"+metav1.NamespaceSystem, string(data))
}
