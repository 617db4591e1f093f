package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"everynode/internal/s3"
	"everynode/internal/seal"
)

const (
	// DefaultSnapshotKeep is how many of the snapshots that it saves by itself a server keeps.
	DefaultSnapshotKeep = 5
	// leastSnapshotEvery is the shortest interval between snapshots: each one reads all of etcd.
	leastSnapshotEvery = time.Minute
	// firstSnapshot is how long a server that has none yet waits for its first: a
	// start has other work to do.
	firstSnapshot = 10 * time.Minute
	// snapshotAgain is the pause after a failure.
	snapshotAgain = 10 * time.Minute
)

// SnapshotSchedule says how often a server saves its cluster by itself, where to,
// and which snapshots it keeps. Other files in the folder stay.
type SnapshotSchedule struct {
	// Every is the time from one snapshot to the next; zero: none are saved.
	Every time.Duration
	// Dir is the folder; default: snapshots in the data directory. It is created, with mode 0700.
	Dir string
	// Keep is how many of this machine's snapshots of this cluster stay there; default DefaultSnapshotKeep.
	Keep int
	// Recipients are the public keys of those who can open them (age1...); none:
	// whoever reads them owns the cluster.
	Recipients []string
	// Everynode is this program's version, for the record.
	Everynode string
	// Upload is a folder in S3 storage, s3://BUCKET/FOLDER, that each snapshot is copied
	// to; empty: none. Storage is the storage that it is in.
	Upload  string
	Storage SnapshotStorage
	// UploadKeep is how many of this machine's snapshots of this cluster stay there; zero: all.
	UploadKeep int
}

// snapshots is a schedule at work.
type snapshots struct {
	every time.Duration
	dir   string
	host  string // this machine
	keep  int
	// names returns the names of this machine's snapshots of the cluster that runs.
	names func(ctx context.Context) (snapshotNames, error)
	lock  *seal.Lock
	save  func(ctx context.Context, to SnapshotTarget) error
	as    string
	// uploads is told of each snapshot that was saved; nil: none are uploaded.
	uploads *uploads
	ahead   aheadLog
}

// resolveSnapshots reads the schedule; nil: there is none.
func (s *settings) resolveSnapshots() (*snapshots, error) {
	plan := s.Snapshots
	switch {
	case s3.IsURL(plan.Dir):
		return nil, fmt.Errorf("--snapshot-dir is a folder of this machine, where snapshots are made: give %s with --snapshot-upload", plan.Dir)
	case plan.Every == 0 && plan.Upload != "":
		return nil, errors.New("no snapshots are saved (--snapshot-every 0), so there are none to upload: give an interval, or leave out --snapshot-upload")
	case plan.Every == 0:
		return nil, nil
	case plan.Every < leastSnapshotEvery:
		return nil, fmt.Errorf("a snapshot every %s is too often: each reads all of etcd; the shortest interval is %s, and 0 means never", plan.Every, leastSnapshotEvery)
	case plan.Keep < 0:
		return nil, fmt.Errorf("%d snapshots cannot be kept: give 1 or more", plan.Keep)
	}
	lock, err := seal.To{Recipients: plan.Recipients}.Lock(nil)
	if err != nil {
		return nil, fmt.Errorf("recipients of snapshots: %w", err)
	}
	host, err := thisMachine()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(orDefault(plan.Dir, s.data().snapshots()))
	if err != nil {
		return nil, fmt.Errorf("resolve the folder for snapshots %q: %w", plan.Dir, err)
	}
	if plan.Keep == 0 {
		plan.Keep = DefaultSnapshotKeep
	}
	quiet := s.Config
	quiet.Progress, quiet.Snapshots = nil, SnapshotSchedule{}
	made := &snapshots{every: plan.Every, dir: dir, host: host, keep: plan.Keep, lock: lock, as: plan.Everynode, names: s.runningEtcd().names}
	made.save = func(ctx context.Context, to SnapshotTarget) error {
		_, err := SaveSnapshot(ctx, quiet, to)
		return err
	}
	if made.uploads, err = plan.resolveUploads(made); err != nil {
		return nil, err
	}
	return made, nil
}

// run saves snapshots when it is time, until ctx ends. If one fails, run logs that,
// and tries again soon.
func (s *snapshots) run(ctx context.Context) error {
	wait := s.first(ctx, time.Now())
	for {
		clearLeft(s.dir, s.host)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = s.every
		if err := s.once(ctx, time.Now()); err != nil && ctx.Err() == nil {
			wait = min(wait, snapshotAgain)
			klog.ErrorS(err, "Cannot save a snapshot of the cluster; existing ones stay", "dir", s.dir, "nextTry", wait)
		}
	}
}

// first returns how long to wait for the first snapshot after a start. Many starts make
// no more snapshots than one start.
func (s *snapshots) first(ctx context.Context, now time.Time) time.Duration {
	names, err := s.names(ctx)
	if err != nil {
		return min(s.every, firstSnapshot)
	}
	mine, err := s.list(names, now)
	if err != nil || len(mine) == 0 {
		return min(s.every, firstSnapshot)
	}
	last := mine[len(mine)-1].time
	return min(max(last.Add(s.every).Sub(now), 0), s.every) // the clock may have been ahead
}

// once saves a snapshot, and then deletes the oldest ones of this cluster.
func (s *snapshots) once(ctx context.Context, now time.Time) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for snapshots: %w", err)
	}
	names, err := s.names(ctx)
	if err != nil {
		return err
	}
	fresh := names.at(now, s.lock != nil)
	if err := s.save(ctx, SnapshotTarget{File: filepath.Join(s.dir, fresh), Everynode: s.as, Lock: s.lock}); err != nil {
		return err
	}
	if s.uploads != nil {
		s.uploads.tell(fresh)
	}
	mine, err := s.list(names, time.Now())
	if err != nil {
		return err
	}
	_, rest := newest(mine, s.keep, fresh)
	for _, old := range rest {
		err = errors.Join(err, os.Remove(filepath.Join(s.dir, old.name)))
	}
	return err
}

// list returns what this machine has saved of this cluster by itself, oldest first. It
// recognizes these snapshots by their names.
func (s *snapshots) list(names snapshotNames, now time.Time) ([]savedFile, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for older snapshots: %w", err)
	}
	var files []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			files = append(files, e.Name())
		}
	}
	mine, ahead := names.ours(files, now)
	s.ahead.note(s.dir, ahead)
	return mine, nil
}
