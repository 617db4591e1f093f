package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"golang.org/x/sys/unix"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	componentversion "k8s.io/component-base/version"

	"everynode/internal/atomicfile"
	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
	"everynode/internal/datadir"
	"everynode/internal/s3"
	"everynode/internal/seal"
)

const (
	// revisionBump is added to the store's revision by a restore. It is more than
	// a cluster writes between a snapshot and its loss, so that no resourceVersion
	// that anybody has seen is used a second time for something else.
	revisionBump = 1_000_000_000
	// restoreWork is the pattern of the folder, in the data directory, in which a
	// restore is prepared. It is on the same disk, so files can be renamed out of it.
	restoreWork = ".restore-*"
	// restoreLog is the space, in bytes, that etcd's new write-ahead log takes at once.
	restoreLog = 64 << 20
)

// RestoreConfig says what is restored, and to where.
type RestoreConfig struct {
	// File was made by SaveSnapshot, or is a snapshot of etcd's own: a path, or
	// s3://BUCKET/KEY.
	File string
	// Storage is the storage that File is in, if it is s3://.
	Storage s3.Options
	// DataDir is created if it is missing. It must not contain an etcd. Everything else
	// in it stays as it is.
	DataDir string
	// With opens File if it is sealed; Stdin is where its passphrase may come from.
	With  seal.With
	Stdin io.Reader
	// Progress is called after each step, as Config's.
	Progress func(step string, took time.Duration)
}

// RestoredSnapshot is what was restored.
type RestoredSnapshot struct {
	DataDir string `json:"dataDir"`
	// Saved is the archive's manifest; nil for a snapshot of etcd's own.
	Saved *Snapshot `json:"saved,omitempty"`
	// Revision is where the restored store begins, above all revisions that anybody has seen.
	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"`
	// Missing lists the files that a cluster needs and that neither the snapshot nor
	// the data directory has.
	Missing []string `json:"missing"`
	Took    float64  `json:"tookSeconds"`
}

// restorer fills a data directory.
type restorer struct {
	data     dataFolder
	progress func(step string, since time.Time)
}

// RestoreSnapshot fills a data directory from a snapshot. It first checks the whole
// snapshot, and leaves nothing behind when it fails. While it works, no server can
// start there.
func RestoreSnapshot(ctx context.Context, cfg RestoreConfig) (restored *RestoredSnapshot, err error) {
	begin := time.Now()
	data, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("resolve the data directory %q: %w", cfg.DataDir, err)
	}
	r := restorer{dataFolder(data), progressTo(cfg.Progress)}
	file, err := findSnapshot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	dir, release, err := r.claim()
	if err != nil {
		return nil, err
	}
	if restored, err = r.restore(ctx, file); err == nil {
		err = dir.SetStore(datadir.StoreMade)
	}
	err = errors.Join(err, release(err != nil))
	if err != nil {
		return nil, describeNoSpace(data, err)
	}
	restored.Took = time.Since(begin).Seconds()
	return restored, nil
}

// claim locks the data directory, as a server would, and makes sure
// that it has no etcd. release unlocks it; with undo it also removes what claim made.
func (r restorer) claim() (dir *datadir.Dir, release func(undo bool) error, err error) {
	if dir, err = datadir.Claim(string(r.data), datadir.Server); err != nil {
		return nil, nil, err
	}
	lockFile := r.data.path("server.lock")
	unlocked := !exists(lockFile)
	unlock, err := r.data.lock()
	if err != nil {
		return nil, nil, err
	}
	release = func(undo bool) error {
		var err error
		if undo && unlocked {
			err = os.Remove(lockFile)
		}
		if undo {
			err = errors.Join(err, dir.Undo())
		}
		return errors.Join(err, unlock())
	}
	err = r.checkEmpty()
	if err == nil && !exists(r.data.path("version")) { // every server has written that
		err = dir.SetRestored()
	}
	if err != nil {
		return nil, nil, errors.Join(err, release(true))
	}
	return dir, release, nil
}

// checkEmpty refuses a data directory with an etcd, and removes what a killed
// restore has left there.
func (r restorer) checkEmpty() error {
	data := r.data.storeDir()
	if exists(data) {
		return fmt.Errorf("%s contains a cluster's etcd, and a restore never replaces one: move %s away, or name another data directory", string(r.data), filepath.Dir(data))
	}
	left, err := filepath.Glob(r.data.path(restoreWork))
	if err != nil {
		return fmt.Errorf("look for an interrupted restore: %w", err)
	}
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// restore prepares everything in a folder of its own, and then moves it into
// place.
func (r restorer) restore(ctx context.Context, file *snapshotFile) (*RestoredSnapshot, error) {
	work, err := os.MkdirTemp(string(r.data), restoreWork) // 0700
	if err != nil {
		return nil, fmt.Errorf("the data directory is not writable: %w; choose another or run as its owner", err)
	}
	restored, err := r.restoreIn(ctx, file, work)
	return restored, errors.Join(err, os.RemoveAll(work))
}

func (r restorer) restoreIn(ctx context.Context, file *snapshotFile, work string) (*RestoredSnapshot, error) {
	if err := r.bring(ctx, file, work); err != nil {
		return nil, err
	}
	begin := time.Now()
	saved, database, err := r.open(file, work)
	if err != nil {
		return nil, err
	}
	if err := r.checkShared(work); err != nil {
		return nil, err
	}
	status, err := readDatabase(database)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be restored: %w", file.name, err)
	}
	r.progress("snapshot checked", begin)
	begin = time.Now()
	target := newStore(filepath.Join(work, "etcd"))
	if err := target.restore(database); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("interrupted, and nothing was restored: %w", err)
	}
	if err := r.moveIn(work, target.config().Dir); err != nil {
		return nil, err
	}
	r.progress("etcd restored: "+megabytes(status.TotalSize), begin)
	return &RestoredSnapshot{DataDir: string(r.data), Saved: saved, Revision: status.Revision + revisionBump, Keys: status.TotalKey, Missing: r.data.missing()}, nil
}

// open returns the manifest of the snapshot, if it has one, and its database as
// a file.
func (r restorer) open(file *snapshotFile, work string) (saved *Snapshot, database string, err error) {
	name, plain := file.name, file.source
	sealed, err := isSealed(plain)
	if err != nil {
		return nil, "", err
	}
	if sealed {
		if plain, err = r.unseal(file, work); err != nil {
			return nil, "", fmt.Errorf("%s cannot be restored: %w", name, err)
		}
		defer func() { err = errors.Join(err, plain.Close()) }()
	}
	kind, err := kindOf(plain, name)
	if err != nil {
		return nil, "", err
	}
	size := fileSize(plain.Name())
	if kind == databaseKind {
		return nil, plain.Name(), checkSpace(string(r.data), size+restoreLog, "the restored etcd")
	}
	if err := checkSpace(string(r.data), 2*size+restoreLog, "the restored etcd"); err != nil {
		return nil, "", err
	}
	saved, err = unpack(plain, work)
	if err != nil {
		return nil, "", fmt.Errorf("%s cannot be restored: %w", name, err)
	}
	return saved, filepath.Join(work, databaseName), nil
}

func isSealed(file io.ReaderAt) (bool, error) {
	head := make([]byte, 64)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the snapshot: %w", err)
	}
	return seal.IsSealed(head[:n]), nil
}

// unseal writes the decrypted snapshot to a file in work.
func (r restorer) unseal(file *snapshotFile, work string) (plain *os.File, err error) {
	if err := checkSpace(string(r.data), 3*fileSize(file.source.Name())+restoreLog, "the restored etcd"); err != nil {
		return nil, err
	}
	begin := time.Now()
	plain, err = os.OpenFile(filepath.Join(work, "unsealed"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for the sealed data: %w", err)
	}
	err = file.with.Open(file.source, plain, file.stdin)
	if err == nil {
		_, err = plain.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	r.progress("snapshot opened", begin)
	return plain, nil
}

// checkShared compares the unpacked keys and ranges with those that the data
// directory has: two clusters must not be mixed.
func (r restorer) checkShared(work string) error {
	for _, name := range sharedNames() {
		theirs, err := os.ReadFile(filepath.Join(work, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // etcd's own snapshot has none
		}
		if err != nil {
			return fmt.Errorf("read the unpacked files: %w", err)
		}
		path := r.data.path(filepath.FromSlash(name))
		ours, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("read the files of the data directory: %w", err)
		case name == "version" && sameRanges(ours, theirs), bytes.Equal(ours, theirs), r.frontProxy(name):
		default:
			return fmt.Errorf("%s belongs to a different cluster from the snapshot's: nodes and tokens trust only one of the two; move %s and %s away to use the snapshot's, or name another data directory",
				path, r.data.path("pki"), r.data.path("version"))
		}
	}
	return checkRecord(filepath.Join(work, "version"))
}

// frontProxy reports whether a file is of the authority of the front proxy, and the data directory has the whole pair,
// which then stays. It may have been renewed since, and no node trusts it.
func (r restorer) frontProxy(name string) bool {
	crt, key := pki.Paths("pki", pki.FrontProxyCA)
	return (name == crt || name == key) && exists(r.data.path(crt)) && exists(r.data.path(key))
}

// sameRanges reports whether two records are of clusters with the same addresses. Their
// formats may differ: a snapshot can be older than the encryption of Secrets.
func sameRanges(ours, theirs []byte) bool {
	var a, b dataRecord
	if err := errors.Join(json.Unmarshal(ours, &a), json.Unmarshal(theirs, &b)); err != nil {
		return false
	}
	a.Format, b.Format = 0, 0
	return a == b
}

// checkRecord refuses a snapshot of a data directory that this program cannot
// read.
func checkRecord(path string) error {
	record, err := readRecord(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && record.Format > dataFormat {
		err = fmt.Errorf("the snapshot is from a data directory of format %d, made by a newer everynode; this one reads up to format %d: use the newer one", record.Format, dataFormat)
	}
	return err
}

// restore makes the data of the embedded member from a database that was
// checked. Where etcd cannot write, it wants to end the process, and the fatal
// hook parks the goroutine instead. So it has one of its own, as in start.
func (s *store) restore(database string) error {
	logger, err := s.logger()
	if err != nil {
		return err
	}
	cfg := s.config()
	var peers []string
	for _, u := range cfg.AdvertisePeerUrls {
		peers = append(peers, u.String())
	}
	done := make(chan error, 1)
	go func() {
		done <- etcdutl.NewV3(logger).Restore(etcdutl.RestoreConfig{
			SnapshotPath: database, OutputDataDir: cfg.Dir,
			Name: cfg.Name, PeerURLs: peers, InitialCluster: cfg.InitialCluster, InitialClusterToken: cfg.InitialClusterToken,
			// A watch from before must learn that it missed something. See docs/backup.md.
			RevisionBump: revisionBump, MarkCompacted: true,
		})
	}()
	select {
	case err = <-done:
	case err = <-s.broken:
	}
	if err != nil {
		return fmt.Errorf("etcd could not restore the database: %w", err)
	}
	return nil
}

// moveIn moves what was prepared to its place, etcd last: without it nothing is
// restored. If it fails, it undoes the moves.
func (r restorer) moveIn(work, data string) error {
	if err := syncDisk(work); err != nil {
		return err
	}
	var m mover
	for _, name := range sharedNames() {
		name = filepath.FromSlash(name)
		err := m.move(filepath.Join(work, name), r.data.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) { // not in the snapshot, or already in place, and the same
			return errors.Join(err, m.undo())
		}
	}
	err := m.move(data, r.data.storeDir())
	if err == nil {
		err = r.raiseFormat(filepath.Join(work, "version"))
	}
	if err == nil {
		err = syncDisk(string(r.data))
	}
	if err != nil {
		return errors.Join(err, m.undo())
	}
	return nil
}

// raiseFormat raises the format in the record of the data directory, if it had one, to the
// snapshot's, which says how Secrets are encrypted.
func (r restorer) raiseFormat(saved string) error {
	theirs, err := readRecord(saved)
	if errors.Is(err, fs.ErrNotExist) { // it has been moved in, or the snapshot has none
		return nil
	}
	if err == nil {
		err = r.data.noteFormat(theirs.Format)
	}
	return err
}

// mover renames files and folders, and can undo that.
type mover struct{ made []string }

// move creates the folder of to if it is missing, and replaces nothing.
func (m *mover) move(from, to string) error {
	if dir := filepath.Dir(to); !exists(dir) {
		if err := private.MakeDir(dir); err != nil {
			return err
		}
		m.made = append(m.made, dir)
	}
	if err := atomicfile.RenameNew(from, to); err != nil {
		return fmt.Errorf("move the restored files to their place: %w", err)
	}
	m.made = append(m.made, to)
	return nil
}

// undo removes what was not there before.
func (m *mover) undo() error {
	var err error
	for _, path := range slices.Backward(m.made) {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// syncDisk returns when all that was written to the disk of dir is on it:
// hundreds of files and names. etcd has synced only its own files.
func syncDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", dir, err)
	}
	err = unix.Syncfs(int(f.Fd()))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("sync the disk of %s: %w", dir, err)
	}
	return nil
}

// Advice says what the missing files mean, and what else to look at; "" when
// there is nothing to do.
func (r *RestoredSnapshot) Advice() string {
	var advice []string
	if len(r.Missing) > 0 {
		advice = append(advice, fmt.Sprintf(`a snapshot of etcd alone does not hold %s.
Before the first start, put these files of the old server into %s, or
- without the keys below pki/, the server makes new ones: every node has to join again (--rejoin, with a token of
  everynode token create --node NAME), every service account token is worth nothing, and no Secret that was
  encrypted can be read;
- without the file version, give the server the --service-cidr and --pod-cidr that the cluster had.`,
			strings.Join(r.Missing, ", "), r.DataDir))
	}
	if ours := componentversion.Get().GitVersion; r.Saved != nil && newerMinor(r.Saved.Kubernetes, ours) {
		advice = append(advice, fmt.Sprintf("the snapshot was made by Kubernetes %s, and this is %s, which may not know all stored objects: start it with the version of everynode that saved it (%s)",
			r.Saved.Kubernetes, ours, r.Saved.Everynode))
	}
	return strings.Join(advice, "\n")
}

// newerMinor reports whether a is a later minor version than b.
func newerMinor(a, b string) bool {
	left, err := utilversion.ParseSemantic(a)
	right, err2 := utilversion.ParseSemantic(b)
	if err != nil || err2 != nil {
		return false
	}
	return left.Major() > right.Major() || left.Major() == right.Major() && left.Minor() > right.Minor()
}
