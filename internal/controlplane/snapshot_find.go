package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"everynode/internal/s3"
	"everynode/internal/seal"
)

// StoredSnapshot is a snapshot in a folder, on this machine or in storage.
type StoredSnapshot struct {
	// File is the path or URL to give to `restore`.
	File   string    `json:"file"`
	Size   int64     `json:"sizeBytes"`
	Sealed bool      `json:"sealed"` // by its name
	Time   time.Time `json:"time"`   // of the file
}

// ListSnapshots lists the files in a folder that are named like snapshots (NAME.tar,
// NAME.tar.age), oldest first. folder is a path, or s3://BUCKET/FOLDER.
func ListSnapshots(ctx context.Context, folder string, storage s3.Options) ([]StoredSnapshot, error) {
	list := []StoredSnapshot{}
	add := func(name, file string, size int64, at time.Time) {
		if looksLikeSnapshot(name) {
			list = append(list, StoredSnapshot{File: file, Size: size, Sealed: strings.HasSuffix(name, sealedSuffix), Time: at.UTC()})
		}
	}
	var err error
	if s3.IsURL(folder) {
		err = eachStored(ctx, folder, storage, add)
	} else {
		err = eachFile(folder, add)
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b StoredSnapshot) int { return a.Time.Compare(b.Time) })
	return list, nil
}

func eachStored(ctx context.Context, folder string, storage s3.Options, add func(name, file string, size int64, at time.Time)) error {
	place, err := s3.ParseURL(folder)
	if err != nil {
		return err
	}
	store, err := s3.New(storage)
	if err != nil {
		return err
	}
	objects, err := store.List(ctx, place)
	if err != nil {
		return err
	}
	for _, o := range objects {
		add(o.Name, place.Join(o.Name).String(), o.Size, o.Time)
	}
	return nil
}

func eachFile(folder string, add func(name, file string, size int64, at time.Time)) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s: a server's snapshots are in its --snapshot-dir, or in snapshots/ of its --data-dir, once it has saved one", folder)
	}
	if err != nil {
		return fmt.Errorf("look for snapshots: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted just now
		}
		if err != nil {
			return fmt.Errorf("look for snapshots: %w", err)
		}
		add(e.Name(), filepath.Join(folder, e.Name()), info.Size(), info.ModTime())
	}
	return nil
}

// snapshotFile is a file to restore, and what opens it.
type snapshotFile struct {
	name   string   // for people
	source *os.File // nil: it is still in storage
	with   seal.With
	stdin  io.Reader

	store *s3.Client
	place s3.Location
	size  int64
}

// findSnapshot opens a file, or looks for it in storage.
func findSnapshot(ctx context.Context, cfg RestoreConfig) (*snapshotFile, error) {
	file := &snapshotFile{name: cfg.File, with: cfg.With, stdin: cfg.Stdin}
	if s3.IsURL(cfg.File) {
		return file, file.find(ctx, cfg.Storage)
	}
	source, err := os.Open(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	file.source = source
	if err := checkSnapshotFile(source); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return file, nil
}

func checkSnapshotFile(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a snapshot: it is not a regular file", file.Name())
	}
	return nil
}

func (f *snapshotFile) find(ctx context.Context, storage s3.Options) (err error) {
	if f.place, err = s3.ParseURL(f.name); err != nil {
		return err
	}
	if f.store, err = s3.New(storage); err != nil {
		return err
	}
	found, err := f.store.Find(ctx, f.place)
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("%s does not exist: `everynode server snapshot list %s` shows the existing ones", f.place, f.place.Folder())
	}
	f.size = found.Size
	return nil
}

// bring downloads the snapshot to a file in work, if it is in storage.
func (r restorer) bring(ctx context.Context, f *snapshotFile, work string) error {
	if f.source != nil {
		return nil
	}
	if err := checkSpace(string(r.data), f.size+restoreLog, "the snapshot"); err != nil {
		return err
	}
	begin, path := time.Now(), filepath.Join(work, "downloaded")
	if err := f.store.Download(ctx, f.place, path); err != nil {
		return err
	}
	source, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	f.source = source
	r.progress("snapshot downloaded: "+megabytes(f.size), begin)
	return nil
}

func (f *snapshotFile) close() error {
	if f.source == nil {
		return nil
	}
	return f.source.Close()
}
