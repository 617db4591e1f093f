package controlplane

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"everynode/internal/s3"
	"everynode/internal/s3/s3test"
	"everynode/internal/seal"
)

func storageOf(t *testing.T, s *s3test.Storage) SnapshotStorage {
	t.Helper()
	return SnapshotStorage{Options: s3.Options{Endpoint: s.URL, CAFile: s.CAFile, CredentialsFile: s3test.Credentials(t)}}
}

// listed returns the URLs of the snapshots in a folder of storage.
func listed(t *testing.T, folder string, storage SnapshotStorage) (urls []string) {
	t.Helper()
	list, err := ListSnapshots(t.Context(), folder, storage.Options)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Size == 0 || s.Time.IsZero() || s.Sealed != strings.HasSuffix(s.File, ".age") {
			t.Errorf("listed: %+v", s)
		}
		urls = append(urls, s.File)
	}
	return urls
}

// TestSnapshotInStorage: a cluster goes to S3-compatible storage and comes back from it.
func TestSnapshotInStorage(t *testing.T) {
	storage := storageOf(t, s3test.StartTLS(t))
	key, recipient := ageKey(t)
	lock, err := seal.To{Recipients: []string{recipient}}.Lock(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	old.putNamespace(t, "3f2a9c01-8ac0-4d6b-9a43-0d2f6a1b7c55")
	save := func(to SnapshotTarget) (*SavedSnapshot, error) {
		to.Storage = storage
		return SaveSnapshot(t.Context(), Config{DataDir: old.DataDir}, to)
	}
	_, err = save(SnapshotTarget{File: "s3://backup/c1"})
	wantError(t, err, "seal it for a key that is kept elsewhere (--recipient")
	before := entriesOf(t, old.DataDir)
	saved, err := save(SnapshotTarget{File: "s3://backup/c1", Lock: lock})
	if err != nil || !strings.HasPrefix(saved.File, "s3://backup/c1/everynode-") || !strings.HasSuffix(saved.File, "Z.tar.age") {
		t.Fatalf("saved: %+v, %v", saved, err)
	}
	named, err := save(SnapshotTarget{File: "s3://backup/c1/today.tar.age", Lock: lock})
	if err != nil || named.File != "s3://backup/c1/today.tar.age" {
		t.Fatalf("saved: %+v, %v", named, err)
	}
	_, err = save(SnapshotTarget{File: named.File, Lock: lock})
	wantError(t, err, "today.tar.age exists already: choose another name, or give --force")
	if _, err = save(SnapshotTarget{File: named.File, Lock: lock, Replace: true}); err != nil {
		t.Error(err)
	}
	if got := listed(t, "s3://backup/c1/", storage); !slices.Contains(got, saved.File) || !slices.Contains(got, named.File) || len(got) != 2 {
		t.Errorf("in storage: %q", got)
	}
	if after := entriesOf(t, old.DataDir); !slices.Equal(after, before) {
		t.Errorf("the data directory had %q, and has %q", before, after)
	}
	storage.Unsealed = true
	if _, err := save(SnapshotTarget{File: "s3://backup/plain.tar"}); err != nil {
		t.Error(err)
	}
	comesBack(t, old, RestoreConfig{File: saved.File, Storage: storage.Options, With: seal.With{Identities: []string{key}}})
	comesBack(t, old, RestoreConfig{File: "s3://backup/plain.tar", Storage: storage.Options})
}

// comesBack restores to a new directory, and starts etcd there.
func comesBack(t *testing.T, old *stored, cfg RestoreConfig) {
	t.Helper()
	cfg.DataDir = filepath.Join(t.TempDir(), "new")
	if _, err := RestoreSnapshot(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	sameShared(t, old.DataDir, cfg.DataDir)
	if got := entriesOf(t, cfg.DataDir); strings.Contains(strings.Join(got, " "), "restore") {
		t.Errorf("left: %q", got)
	}
	if got := startStored(t, cfg.DataDir).get(t, "/registry/a"); got != "1" {
		t.Errorf("/registry/a is %q", got)
	}
}

// TestRestoreFromStorageFails: a restore that fails leaves nothing behind.
func TestRestoreFromStorageFails(t *testing.T) {
	server := s3test.Start(t)
	storage := storageOf(t, server)
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	storage.Unsealed = true
	old.putNamespace(t, "3f2a9c01-8ac0-4d6b-9a43-0d2f6a1b7c55")
	if _, err := SaveSnapshot(t.Context(), Config{DataDir: old.DataDir}, SnapshotTarget{File: "s3://backup/a.tar", Storage: storage}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		file, want string
		fault      s3test.Fault
	}{
		{"s3://backup/b.tar", "s3://backup/b.tar does not exist: `everynode server snapshot list s3://backup` shows the existing ones", nil},
		{"s3://backup/a", "s3://backup/a does not exist:", nil},
		{"s3://Backup/a", "names no bucket", nil},
		{"s3://backup/a.tar", "do not allow that", s3test.Refuse(403, "AccessDenied")},
		{"s3://backup/a.tar", "bytes arrived", func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
			if strings.HasSuffix(r.URL.Path, ".tar") {
				w = &short{ResponseWriter: w}
			}
			storage.ServeHTTP(w, r)
		}},
	} {
		server.Break(tc.fault)
		parent := t.TempDir()
		_, err := RestoreSnapshot(t.Context(), RestoreConfig{File: tc.file, Storage: storage.Options, DataDir: filepath.Join(parent, "data")})
		wantError(t, err, tc.want)
		if left := entriesOf(t, parent); len(left) != 0 {
			t.Errorf("%s: left behind: %q", tc.want, left)
		}
	}
}

// short is a ResponseWriter that passes on only 100 bytes.
type short struct {
	http.ResponseWriter
	sent int
}

func (s *short) Write(p []byte) (int, error) {
	n := min(len(p), 100-s.sent)
	s.sent += n
	if _, err := s.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TestUploadFails: the snapshot stays on this machine, whole, and the error says where.
func TestUploadFails(t *testing.T) {
	server := s3test.Start(t)
	storage := storageOf(t, server)
	storage.Unsealed = true
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	old.putNamespace(t, "3f2a9c01-8ac0-4d6b-9a43-0d2f6a1b7c55")
	server.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		if r.Method == http.MethodPut {
			s3test.Refuse(http.StatusInsufficientStorage, "XMinioStorageFull")(w, r, storage)
			return
		}
		storage.ServeHTTP(w, r)
	})
	_, err := SaveSnapshot(t.Context(), Config{DataDir: old.DataDir}, SnapshotTarget{File: "s3://backup/a.tar", Storage: storage})
	wantError(t, err, "the storage is full")
	kept, globErr := filepath.Glob(filepath.Join(old.DataDir, "snapshots", "everynode-*Z.tar"))
	if globErr != nil || len(kept) != 1 {
		t.Fatalf("kept: %q, %v", kept, globErr)
	}
	wantError(t, err, "the snapshot itself is complete, and was kept as "+kept[0])
	if left, err := filepath.Glob(filepath.Join(old.DataDir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	comesBack(t, old, RestoreConfig{File: kept[0]})
}

// bucket is storage in memory. broken makes uploads fail.
type bucket struct {
	sizes  map[string]int64
	broken bool
	begin  time.Time
	tried  []time.Duration // since begin
}

func (b *bucket) Upload(_ context.Context, file string, to s3.Location) error {
	b.tried = append(b.tried, time.Since(b.begin))
	if b.broken {
		return errors.New("the storage is full")
	}
	b.sizes[to.Key] = fileSize(file)
	return nil
}

func (b *bucket) List(_ context.Context, folder s3.Location) (all []s3.Object, err error) {
	for key, size := range b.sizes {
		if name, ok := strings.CutPrefix(key, folder.Key+"/"); ok {
			all = append(all, s3.Object{Name: name, Size: size})
		}
	}
	return all, nil
}

func (b *bucket) Delete(_ context.Context, at s3.Location) error {
	delete(b.sizes, at.Key)
	return nil
}

func (b *bucket) holds(t *testing.T, want ...string) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(b.sizes)); !slices.Equal(got, want) {
		t.Errorf("in storage: %q, want %q", got, want)
	}
}

// uploadTo makes a schedule upload to a bucket. during runs both for a while.
func (s *scheduled) uploadTo(b *bucket, keep int, storage SnapshotStorage) (during func(t *testing.T, d time.Duration)) {
	s.uploads = &uploads{
		from: s.snapshots, to: s3.Location{Bucket: "backup", Key: "c1"}, keep: keep, storage: storage,
		open: func() (snapshotStore, error) { return b, nil }, saved: make(chan string, 1),
	}
	return func(t *testing.T, d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.uploads.run(ctx) }()
		if err := errors.Join(s.run(ctx), <-done); err != nil {
			t.Error(err)
		}
	}
}

// TestUploads: each snapshot is copied, the newest of this machine's stay, and what
// others have put there is left alone.
func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 5)
		b := &bucket{sizes: map[string]int64{"c1/notes.tar": 1, "c1/everynode-db-2-c0ffee00-19990101T000000Z.tar": 1, "everynode-db-1-c0ffee00-19990101T000000Z.tar": 1}}
		others := slices.Sorted(maps.Keys(b.sizes))
		during := s.uploadTo(b, 2, SnapshotStorage{Unsealed: true})
		during(t, 11*time.Minute)
		b.holds(t, slices.Sorted(slices.Values(append(others, "c1/everynode-db-1-c0ffee00-20000101T001000Z.tar")))...)
		during(t, 4*time.Hour)
		b.holds(t, slices.Sorted(slices.Values(append(others, "c1/everynode-db-1-c0ffee00-20000101T031000Z.tar", "c1/everynode-db-1-c0ffee00-20000101T041000Z.tar")))...)
		if got := entriesOf(t, s.dir); len(got) != 5 || len(b.tried) != 5 {
			t.Errorf("on this machine: %q, after uploads at %v", got, b.tried)
		}
	})
}

// TestUploadsFail: storage that accepts nothing does not delay snapshots, and gets what it
// lacks once it accepts files again. Nothing is deleted there meanwhile.
func TestUploadsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 3)
		b := &bucket{sizes: map[string]int64{"c1/everynode-db-1-c0ffee00-19990101T000000Z.tar": 1}, broken: true, begin: time.Now()}
		during := s.uploadTo(b, 1, SnapshotStorage{Unsealed: true})
		during(t, 75*time.Minute)
		s.tries(t, 10*time.Minute, 70*time.Minute)
		var want []time.Duration
		for m := 10; m <= 70; m += 10 {
			want = append(want, time.Duration(m)*time.Minute)
		}
		if got := slices.Compact(b.tried); !slices.Equal(got, want) { // a new snapshot may come when a retry is due anyway
			t.Errorf("uploads were tried at %v, want %v", got, want)
		}
		b.holds(t, "c1/everynode-db-1-c0ffee00-19990101T000000Z.tar")
		b.broken = false
		during(t, 11*time.Minute)
		s.tries(t)
		b.holds(t, "c1/everynode-db-1-c0ffee00-20000101T011000Z.tar")
	})
}

// TestUploadsSealed: snapshots that an earlier schedule has not sealed stay on this machine.
func TestUploadsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule(t, time.Hour, 5)
		writeTestFile(t, filepath.Join(s.dir, "everynode-db-1-c0ffee00-19990101T000000Z.tar"), strings.Repeat("x", 600))
		writeTestFile(t, filepath.Join(s.dir, "everynode-db-1-c0ffee00-19990102T000000Z.tar.age"), "age-encryption.org/v1\n...")
		b := &bucket{sizes: map[string]int64{}}
		during := s.uploadTo(b, 0, SnapshotStorage{})
		during(t, time.Minute)
		b.holds(t, "c1/everynode-db-1-c0ffee00-19990102T000000Z.tar.age")
	})
}

func TestUploadsRefuse(t *testing.T) {
	_, recipient := ageKey(t)
	good := SnapshotSchedule{Every: time.Hour, Recipients: []string{recipient}, Upload: "s3://backup/c1",
		Storage: SnapshotStorage{Options: s3.Options{Endpoint: "https://a", CredentialsFile: s3test.Credentials(t)}}}
	if s, err := (Config{DataDir: t.TempDir(), Snapshots: good}).resolve(); err != nil || s.snapshots.uploads == nil {
		t.Errorf("a good one: %v", err)
	}
	for want, change := range map[string]func(p *SnapshotSchedule){
		"give s3://backup with --snapshot-upload":       func(p *SnapshotSchedule) { p.Dir = "s3://backup" },
		"there are none to upload":                      func(p *SnapshotSchedule) { p.Every = 0 },
		"--snapshot-upload: \"/backup\" is not a place": func(p *SnapshotSchedule) { p.Upload = "/backup" },
		"with --snapshot-upload-keep, or 0 for all":     func(p *SnapshotSchedule) { p.UploadKeep = -1 },
		"or --snapshot-recipient for those of":          func(p *SnapshotSchedule) { p.Recipients = nil },
		"--s3-endpoint is not https://HOST":             func(p *SnapshotSchedule) { p.Storage.Endpoint = "a" },
	} {
		plan := good
		change(&plan)
		_, err := Config{DataDir: t.TempDir(), Snapshots: plan}.resolve()
		wantError(t, err, want)
	}
}

func TestListSnapshots(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.tar", "a.tar.age", "notes.txt", "tar"} {
		writeTestFile(t, filepath.Join(dir, name), "x")
	}
	if err := os.Mkdir(filepath.Join(dir, "c.tar"), 0o700); err != nil {
		t.Fatal(err)
	}
	newer := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "a.tar.age"), newer, newer); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, dir, SnapshotStorage{}); !slices.Equal(got, []string{filepath.Join(dir, "b.tar"), filepath.Join(dir, "a.tar.age")}) {
		t.Errorf("listed: %q", got)
	}
	_, err := ListSnapshots(t.Context(), filepath.Join(dir, "missing"), s3.Options{})
	wantError(t, err, "there is no folder "+filepath.Join(dir, "missing")+": a server's snapshots")
}
