package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	componentversion "k8s.io/component-base/version"

	"everynode/internal/atomicfile"
	"everynode/internal/s3"
	"everynode/internal/seal"
)

// SnapshotTarget says where a snapshot goes.
type SnapshotTarget struct {
	// File is a path, or s3://BUCKET/KEY. A KEY that does not end like a snapshot's
	// name is a folder, and the snapshot gets a name there.
	File string
	// Replace allows the snapshot to replace an existing file of this name.
	Replace bool
	// Everynode is this program's version, for the record.
	Everynode string
	// Lock seals the file; nil: whoever reads it owns the cluster.
	Lock *seal.Lock
	// Storage is the storage that File is in, if it is s3://.
	Storage SnapshotStorage
}

// SavedSnapshot describes a new snapshot file.
type SavedSnapshot struct {
	File     string  `json:"file"`
	Size     int64   `json:"sizeBytes"`
	Sealed   bool    `json:"sealed"`
	SHA256   string  `json:"sha256"` // of the file
	Revision int64   `json:"revision"`
	Hash     string  `json:"hash"` // as etcdutl prints it for etcd.db
	Keys     int     `json:"keys"`
	Took     float64 `json:"tookSeconds"`
}

const (
	// showEvery is how often a long step reports its progress.
	showEvery = 5 * time.Second
	// snapshotWork is the pattern of the folder, in the data directory, with what a
	// save has not sealed yet.
	snapshotWork = ".snapshot-*"
)

// SaveSnapshot writes all that makes up a cluster to one file: the state of its etcd
// at one moment, the keys that nodes and tokens depend on, and the ranges of its
// addresses. The file contains every secret of the cluster, and its mode is 0600.
// It appears whole or not at all.
func SaveSnapshot(ctx context.Context, cfg Config, to SnapshotTarget) (*SavedSnapshot, error) {
	begin := time.Now()
	s, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	saver := saver{s.data(), s.runningEtcd(), s.progress}
	save := saver.saveTo
	if s3.IsURL(to.File) {
		save = saver.saveAway
	}
	saved, err := save(ctx, to)
	if err != nil {
		return nil, err
	}
	saved.Took = time.Since(begin).Seconds()
	return saved, nil
}

// saver saves the cluster of a data directory.
type saver struct {
	data     dataFolder
	from     runningEtcd
	progress func(step string, since time.Time)
}

// saveTo saves to a file on this machine.
func (s saver) saveTo(ctx context.Context, to SnapshotTarget) (*SavedSnapshot, error) {
	if err := checkTarget(to); err != nil {
		return nil, err
	}
	keys, err := s.data.shared()
	if err != nil {
		return nil, err
	}
	return s.saveIn(ctx, to, keys)
}

// saveIn saves with the help of temporary folders, and removes them.
func (s saver) saveIn(ctx context.Context, to SnapshotTarget, keys []archiveFile) (saved *SavedSnapshot, err error) {
	work, err := newScratch(filepath.Dir(to.File), "."+filepath.Base(to.File)+".*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder beside %s: %w", to.File, err)
	}
	defer func() { err = errors.Join(err, work.remove()) }()
	plain := work
	if to.Lock != nil {
		// The disk of the file may be somebody else's: what is not sealed yet stays
		// on etcd's disk.
		if plain, err = newScratch(string(s.data), snapshotWork); err != nil {
			return nil, fmt.Errorf("make a temporary folder in the data directory: %w", err)
		}
		defer func() { err = errors.Join(err, plain.remove()) }()
	}
	return s.save(ctx, to, keys, plain, work.file("archive"))
}

// save copies etcd's database to plain, makes the archive, and moves the archive to its place.
func (s saver) save(ctx context.Context, to SnapshotTarget, keys []archiveFile, plain *scratch, archive string) (*SavedSnapshot, error) {
	if err := s.fetch(ctx, plain); err != nil {
		return nil, describeNoSpace(to.File, err)
	}
	database := plain.file(databaseName)
	status, err := readDatabase(database)
	if err != nil {
		return nil, fmt.Errorf("what etcd sent is not a whole database: %w; try again", err)
	}
	info := Snapshot{
		Format: snapshotFormat, Everynode: to.Everynode, Kubernetes: componentversion.Get().GitVersion, Etcd: status.Version,
		Time: time.Now().UTC().Truncate(time.Second), Revision: status.Revision, Keys: status.TotalKey, Hash: hashText(status.Hash),
	}
	written := time.Now()
	size, sum, err := writeArchive(archive, to.Lock, info, append(keys, archiveFile{databaseName, database}))
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = publish(archive, to)
	}
	if err != nil {
		return nil, describeNoSpace(to.File, err)
	}
	s.progress("file written", written)
	return &SavedSnapshot{File: to.File, Size: size, Sealed: to.Lock != nil, SHA256: sum, Revision: info.Revision, Hash: info.Hash, Keys: info.Keys}, nil
}

// fetch copies etcd's database to a folder.
func (s saver) fetch(ctx context.Context, to *scratch) error {
	begin := time.Now()
	source, err := s.from.source(ctx)
	if err != nil {
		return err
	}
	err = s.fetchFrom(ctx, source, to)
	if err == nil {
		s.progress("etcd copied: "+megabytes(fileSize(to.file(databaseName))), begin)
	}
	return errors.Join(err, source.release())
}

// fetchFrom copies the database, and reports its progress every few seconds.
func (s saver) fetchFrom(ctx context.Context, source *etcdSource, to *scratch) error {
	need, what, err := s.needs(filepath.Dir(to.path), source.size)
	if err == nil {
		err = checkSpace(filepath.Dir(to.path), need, what)
	}
	if err != nil {
		return err
	}
	path := to.file(databaseName)
	begin, done := time.Now(), make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticker := time.NewTicker(showEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				s.progress(fmt.Sprintf("copying etcd: %s of %s", megabytes(fileSize(path+".part")), megabytes(source.size)), begin)
			}
		}
	})
	_, err = snapshot.SaveWithVersion(ctx, zap.NewNop(), source.config, path)
	close(done)
	reporter.Wait()
	if err != nil {
		return fmt.Errorf("copy the database of etcd at %s: %w", source.config.Endpoints[0], err)
	}
	return nil
}

// sharedNames returns the names of the files in a data directory that a cluster
// needs besides etcd: the authorities, the key pair of service accounts and the
// ranges of its addresses. A key comes before its certificate, as in pki.Write.
func sharedNames() []string {
	names := []string{"version"}
	for _, name := range sharedFiles() {
		names = append(names, "pki/"+name)
	}
	return names
}

// checkTarget refuses a target that cannot be written, before anything is done.
func checkTarget(to SnapshotTarget) error {
	if info, err := os.Lstat(to.File); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s exists and is not a regular file: choose another name", to.File)
		}
		if !to.Replace {
			return targetExists(to.File)
		}
	}
	dir := filepath.Dir(to.File)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no folder %s for the snapshot: create it first", dir)
	}
	return nil
}

func targetExists(file string) error {
	return fmt.Errorf("%s exists already: choose another name, or give --force to replace it", file)
}

// publish gives a finished file its name.
func publish(from string, to SnapshotTarget) error {
	var err error
	if to.Replace {
		err = os.Rename(from, to.File)
	} else {
		err = atomicfile.RenameNew(from, to.File)
	}
	if errors.Is(err, fs.ErrExist) {
		return targetExists(to.File)
	}
	if err != nil {
		return fmt.Errorf("rename the finished snapshot: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(to.File))
}

const (
	// smallFiles, in bytes, is more than the keys, the manifest and the padding take.
	smallFiles = 1 << 20
	// etcdReserve, in bytes, is what a snapshot leaves free on etcd's disk. etcd takes 64 MiB at once for the next part
	// of its log, and ends if it does not get them.
	etcdReserve = 128 << 20
)

// needs returns the free space that a snapshot of a database needs in dir, and what for.
func (s saver) needs(dir string, database int64) (need int64, what string, err error) {
	need, what = 2*database+smallFiles, "a snapshot" // for a moment the database exists twice: alone, and in the archive
	var target, etcd unix.Stat_t
	if err := unix.Stat(dir, &target); err != nil {
		return 0, "", fmt.Errorf("look at the folder for the snapshot %s: %w", dir, err)
	}
	err = unix.Stat(s.data.storeDir(), &etcd)
	if err == nil && etcd.Dev == target.Dev {
		return need + etcdReserve, fmt.Sprintf("%s, and leaving %s to etcd,", what, megabytes(etcdReserve)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // if it does not exist, etcd is elsewhere
		return 0, "", fmt.Errorf("look at the folder of etcd: %w", err)
	}
	return need, what, nil
}

// checkSpace returns an error if the disk of dir has less than need bytes free. what is what needs them.
func checkSpace(dir string, need int64, what string) error {
	var fsInfo unix.Statfs_t
	if err := unix.Statfs(dir, &fsInfo); err != nil {
		return fmt.Errorf("read the free space in %s: %w", dir, err)
	}
	if free := int64(fsInfo.Bavail) * fsInfo.Bsize; free < need {
		return fmt.Errorf("not enough space in %s: making %s takes %s, and %s are free; free some, or choose another disk",
			dir, what, megabytes(need), megabytes(free))
	}
	return nil
}

// describeNoSpace adds to an error what to do, if the disk became full on the way.
func describeNoSpace(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk of %s is full, and nothing was left there: free space, or choose another disk (%w)", path, err)
	}
	return err
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // only for show
	}
	return info.Size()
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func hashText(hash uint32) string { return fmt.Sprintf("%08x", hash) }
