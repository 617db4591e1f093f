package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"everynode/internal/atomicfile"
	"everynode/internal/s3"
)

// SnapshotStorage is S3-compatible storage for snapshots.
type SnapshotStorage struct {
	s3.Options
	// Unsealed allows snapshots there that are not sealed.
	Unsealed bool
}

// check refuses a snapshot that is not sealed, unless Unsealed allows it.
func (s SnapshotStorage) check(sealed bool, to string) error {
	if sealed || s.Unsealed {
		return nil
	}
	return fmt.Errorf("an unsealed snapshot contains every key and Secret of the cluster, and anyone who can read %s, or a copy of it, would own the cluster: seal it for a key that is kept elsewhere (--recipient, or --snapshot-recipient for those of the server; age-keygen makes one), or give --s3-unsealed", to)
}

// saveAway saves to the data directory first, and from there to storage. If the upload
// fails, the snapshot stays in the data directory.
func (s saver) saveAway(ctx context.Context, to SnapshotTarget) (*SavedSnapshot, error) {
	place, err := s3.ParseURL(to.File)
	if err != nil {
		return nil, err
	}
	if err := to.Storage.check(to.Lock != nil, to.File); err != nil {
		return nil, err
	}
	if _, err := s.data.shared(); err != nil { // before the first request
		return nil, err
	}
	store, err := s3.New(to.Storage.Options)
	if err != nil {
		return nil, err
	}
	names, err := s.from.names(ctx)
	if err != nil {
		return nil, err
	}
	name := names.at(time.Now(), to.Lock != nil)
	if !looksLikeSnapshot(place.Key) {
		place = place.Join(name)
	}
	if err := checkPlace(ctx, store, place, to.Replace); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(string(s.data), snapshotWork)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder in the data directory: %w", err)
	}
	saved, err := s.saveAndUpload(ctx, store, place, SnapshotTarget{File: filepath.Join(work, name), Lock: to.Lock, Everynode: to.Everynode})
	return saved, errors.Join(err, os.RemoveAll(work))
}

// checkPlace refuses to replace an existing object, before anything is done.
func checkPlace(ctx context.Context, store *s3.Client, place s3.Location, replace bool) error {
	if replace {
		return nil
	}
	there, err := store.Find(ctx, place)
	if there != nil {
		err = targetExists(place.String())
	}
	return err
}

func (s saver) saveAndUpload(ctx context.Context, store *s3.Client, place s3.Location, local SnapshotTarget) (*SavedSnapshot, error) {
	saved, err := s.saveTo(ctx, local)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := store.Upload(ctx, local.File, place); err != nil {
		return nil, s.keepHere(local.File, err)
	}
	s.progress("file uploaded", begin)
	saved.File = place.String()
	return saved, nil
}

// keepHere moves a snapshot that cannot be uploaded to the folder "snapshots" of the data directory.
func (s saver) keepHere(file string, why error) error {
	kept := filepath.Join(s.data.snapshots(), filepath.Base(file))
	err := os.MkdirAll(filepath.Dir(kept), 0o700)
	if err == nil {
		err = atomicfile.RenameNew(file, kept)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(kept))
	}
	if err != nil {
		return errors.Join(why, fmt.Errorf("keep the snapshot on this machine: %w", err))
	}
	return fmt.Errorf("%w\nthe snapshot itself is complete, and was kept as %s", why, kept)
}

// snapshotStore is what the uploads of a schedule need of storage.
type snapshotStore interface {
	Upload(ctx context.Context, file string, to s3.Location) error
	List(ctx context.Context, folder s3.Location) ([]s3.Object, error)
	Delete(ctx context.Context, at s3.Location) error
}

// uploads copies the snapshots of a schedule to storage. It runs independently of the
// schedule: storage that is slow or unreachable does not delay snapshots.
type uploads struct {
	from    *snapshots
	to      s3.Location
	keep    int // 0: all
	storage SnapshotStorage
	// open is called for each turn, because somebody may have replaced the credentials.
	open func() (snapshotStore, error)
	// saved has an element when there is a new snapshot: its name.
	saved chan string
	fresh string // the last name from saved
	ahead aheadLog
}

// resolveUploads returns the uploads of a schedule; nil: there are none.
func (p SnapshotSchedule) resolveUploads(from *snapshots) (*uploads, error) {
	if p.Upload == "" {
		return nil, nil
	}
	to, err := s3.ParseURL(p.Upload)
	if err != nil {
		return nil, fmt.Errorf("--snapshot-upload: %w", err)
	}
	if p.UploadKeep < 0 {
		return nil, fmt.Errorf("%d snapshots cannot be kept: give 1 or more with --snapshot-upload-keep, or 0 for all", p.UploadKeep)
	}
	if err := p.Storage.check(from.lock != nil, p.Upload); err != nil {
		return nil, err
	}
	open := func() (snapshotStore, error) { return s3.New(p.Storage.Options) }
	if _, err := open(); err != nil { // so that mistakes are reported at the start
		return nil, err
	}
	return &uploads{from: from, to: to, keep: p.UploadKeep, storage: p.Storage, open: open, saved: make(chan string, 1)}, nil
}

// tell tells run that there is a new snapshot. It never waits: run needs to know only the last one.
func (u *uploads) tell(name string) {
	select {
	case <-u.saved:
	default:
	}
	u.saved <- name // there is one sender, so there is room
}

// run uploads what is saved, and at first what an earlier server left, until ctx
// ends. It logs a failure, and tries again soon.
func (u *uploads) run(ctx context.Context) error {
	timer := time.NewTimer(min(u.from.every, firstSnapshot))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u.fresh = <-u.saved:
		case <-timer.C:
		}
		wait := u.from.every
		if err := u.turn(ctx); err != nil && ctx.Err() == nil {
			wait = min(u.from.every, snapshotAgain)
			klog.ErrorS(err, "Cannot upload the snapshots of the cluster; they stay on this machine", "dir", u.from.dir, "to", u.to.String(), "nextTry", wait)
		}
		timer.Reset(wait)
	}
}

// turn uploads the newest snapshots of this machine that are not in storage, and then
// deletes the oldest ones there.
func (u *uploads) turn(ctx context.Context) error {
	store, err := u.open()
	if err != nil {
		return err
	}
	names, err := u.from.names(ctx)
	if err != nil {
		return err
	}
	there, err := u.there(ctx, store)
	if err != nil {
		return err
	}
	mine, err := u.from.list(names, time.Now())
	if err != nil {
		return err
	}
	mine, _ = newest(mine, u.keep, u.fresh)
	for _, file := range mine {
		if err := u.upload(ctx, store, filepath.Join(u.from.dir, file.name), there); err != nil {
			return err
		}
	}
	stored, ahead := names.ours(slices.Collect(maps.Keys(there)), time.Now())
	u.ahead.note(u.to.String(), ahead)
	_, rest := newest(stored, u.keep, u.fresh)
	for _, old := range rest {
		err = errors.Join(err, store.Delete(ctx, u.to.Join(old.name)))
	}
	return err
}

// there returns the sizes, in bytes, of what is in storage, by name.
func (u *uploads) there(ctx context.Context, store snapshotStore) (map[string]int64, error) {
	objects, err := store.List(ctx, u.to)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, o := range objects {
		sizes[o.Name] = o.Size
	}
	return sizes, nil
}

// upload copies a snapshot to storage, unless it is there.
func (u *uploads) upload(ctx context.Context, store snapshotStore, path string, there map[string]int64) error {
	name, size := filepath.Base(path), fileSize(path)
	if has, ok := there[name]; ok && has == size {
		return nil
	}
	sealed, err := isSealedFile(path)
	if err != nil {
		return err
	}
	if err := u.storage.check(sealed, u.to.String()); err != nil {
		// It is older than the recipients of this schedule. Later snapshots are sealed.
		klog.InfoS("Not uploaded, because it is not sealed", "snapshot", path)
		return nil
	}
	if err := store.Upload(ctx, path, u.to.Join(name)); err != nil {
		return err
	}
	there[name] = size
	return nil
}

func isSealedFile(path string) (sealed bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("read the snapshot: %w", err)
	}
	sealed, err = isSealed(f)
	return sealed, errors.Join(err, f.Close())
}
