package controlplane

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"everynode/internal/controlplane/private"
	"everynode/internal/seal"
)

const (
	// snapshotFormat is the version of the archive that this program writes,
	// and the newest that it reads.
	snapshotFormat = 1
	manifestName   = "manifest.json"
	// databaseName is etcd's own snapshot: the database, and its SHA-256.
	databaseName = "etcd.db"
	// maxSmallFile, in bytes, is far more than a manifest or a key has.
	maxSmallFile = 1 << 20
)

// Snapshot is the manifest of a snapshot: an archive in tar's format with
// manifest.json first, then the other members in the order of Members.
type Snapshot struct {
	Format     int             `json:"format"`
	Everynode  string          `json:"everynode"`
	Kubernetes string          `json:"kubernetes"`
	Etcd       string          `json:"etcd"` // version of the database's layout
	Time       time.Time       `json:"time"`
	Revision   int64           `json:"revision"`
	Keys       int             `json:"keys"`
	Hash       string          `json:"hash"` // as etcdutl prints it for etcd.db
	Members    []archiveMember `json:"members"`
}

type archiveMember struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// archiveFile is a file on its way into an archive.
type archiveFile struct{ name, path string }

// writeArchive writes a new archive to path, sealed if there is a lock, and syncs it
// to disk. It returns the file's size and SHA-256.
func writeArchive(path string, lock *seal.Lock, info Snapshot, files []archiveFile) (size int64, sum string, err error) {
	for _, f := range files {
		m, err := describeMember(f)
		if err != nil {
			return 0, "", err
		}
		info.Members = append(info.Members, m)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, "", fmt.Errorf("make the archive: %w", err)
	}
	hash := sha256.New()
	err = writeMembers(io.MultiWriter(out, hash), lock, info, files)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return 0, "", fmt.Errorf("write the archive: %w", err)
	}
	return fileSize(path), hex.EncodeToString(hash.Sum(nil)), nil
}

// writeMembers writes the manifest and the files of its members.
func writeMembers(out io.Writer, lock *seal.Lock, info Snapshot, files []archiveFile) error {
	manifest, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	sealed, err := lock.Writer(out)
	if err != nil {
		return err
	}
	w := tar.NewWriter(sealed)
	err = addMember(w, info.Time, manifestName, int64(len(manifest)), bytes.NewReader(manifest))
	for i, f := range files {
		if err == nil {
			err = addFile(w, info.Time, f, info.Members[i].Size)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = sealed.Close()
	}
	return err
}

func describeMember(f archiveFile) (archiveMember, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return archiveMember{}, fmt.Errorf("read %s: %w", f.name, err)
	}
	hash := sha256.New()
	size, err := io.Copy(hash, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return archiveMember{}, fmt.Errorf("read %s: %w", f.name, err)
	}
	return archiveMember{f.name, size, hex.EncodeToString(hash.Sum(nil))}, nil
}

func addFile(w *tar.Writer, modified time.Time, f archiveFile, size int64) error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	return errors.Join(addMember(w, modified, f.name, size, in), in.Close())
}

func addMember(w *tar.Writer, modified time.Time, name string, size int64, from io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: modified, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(w, from)
	return err
}

// snapshotKind is the kind of a file to restore.
type snapshotKind int

const (
	archiveKind  snapshotKind = iota // ours
	databaseKind                     // etcd's, as etcdctl makes it
)

// kindOf looks at the first bytes: tar's magic, or that of etcd's database.
func kindOf(f io.ReaderAt, name string) (snapshotKind, error) {
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the snapshot: %w", err)
	}
	head = head[:n]
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	switch {
	case at(257, "ustar"):
		return archiveKind, nil
	case at(16, "\xed\xda\x0c\xed"):
		return databaseKind, nil
	case at(0, "\x1f\x8b"):
		return 0, fmt.Errorf("%s is compressed: decompress it first, with gunzip", name)
	case n < 512:
		return 0, fmt.Errorf("%s is not a snapshot: it has %d bytes; was it cut off?", name, n)
	}
	return 0, fmt.Errorf("%s is not a snapshot: neither one of `everynode server snapshot save` nor one of etcdctl", name)
}

// unpack writes the members of an archive to dir, and returns its manifest. It
// fails unless each member is there, whole and as the manifest says.
func unpack(in io.Reader, dir string) (*Snapshot, error) {
	r := tar.NewReader(in)
	header, err := r.Next()
	if err != nil || header.Name != manifestName {
		return nil, errors.Join(errors.New("it is not an archive of a snapshot: it does not begin with "+manifestName), err)
	}
	info, err := readManifest(r)
	if err != nil {
		return nil, err
	}
	for _, m := range info.Members {
		header, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("it ends before %s: it was cut off; use another copy", m.Name)
		case err != nil:
			return nil, fmt.Errorf("it is damaged before %s: %w", m.Name, err)
		case hasHoles(header):
			return nil, fmt.Errorf("it is damaged: %s has holes, but snapshots never do", header.Name)
		case header.Name != m.Name || header.Size != m.Size || header.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("it is damaged: it has %s with %d bytes instead of %s with %d", header.Name, header.Size, m.Name, m.Size)
		}
		if err := unpackMember(r, m, filepath.Join(dir, filepath.FromSlash(m.Name))); err != nil {
			return nil, err
		}
	}
	return info, nil
}

// hasHoles reports whether a member is in tar's form for sparse files. Unpacking
// would write out the holes, so a small archive could fill a disk. Ours have none.
func hasHoles(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// readManifest accepts only a list of members that this program can place, so
// that no archive writes where it should not.
func readManifest(in io.Reader) (*Snapshot, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxSmallFile))
	if err != nil {
		return nil, fmt.Errorf("its manifest cannot be read: %w; was it cut off?", err)
	}
	var info Snapshot
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("its manifest is damaged: %w", err)
	}
	if info.Format > snapshotFormat {
		return nil, fmt.Errorf("it has format %d, made by a newer everynode (%s); this one reads up to format %d: use the newer one", info.Format, info.Everynode, snapshotFormat)
	}
	var names []string
	for _, m := range info.Members {
		names = append(names, m.Name)
		if m.Name != databaseName && m.Size > maxSmallFile {
			return nil, fmt.Errorf("its manifest is damaged: %s has %d bytes", m.Name, m.Size)
		}
	}
	if want := append(sharedNames(), databaseName); info.Format < 1 || !slices.Equal(names, want) {
		return nil, fmt.Errorf("its manifest is damaged: it lists %q, but should list %q", names, want)
	}
	return &info, nil
}

func unpackMember(in io.Reader, m archiveMember, path string) error {
	if err := private.MakeDir(filepath.Dir(path)); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", m.Name, err)
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), in)
	err = errors.Join(err, out.Close())
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends inside %s: it was cut off; use another copy", m.Name)
	case err != nil:
		return fmt.Errorf("unpack %s: %w", m.Name, err)
	case hex.EncodeToString(hash.Sum(nil)) != m.SHA256:
		return fmt.Errorf("it is damaged: %s is not what was saved; use another copy", m.Name)
	}
	return nil
}

// readDatabase checks a database in the form of etcd's snapshots: its hash, then its
// pages and each of its keys.
func readDatabase(path string) (etcdutl.Status, error) {
	if err := checkDatabaseHash(path); err != nil {
		return etcdutl.Status{}, err
	}
	status, err := etcdutl.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return status, fmt.Errorf("the database is damaged: %w", err)
	}
	if newerMinor(status.Version, version.Version) {
		return status, fmt.Errorf("the database is from etcd %s, but this everynode reads at most %s: use a newer everynode", status.Version, version.Version)
	}
	return status, nil
}

// checkDatabaseHash compares the database with the hash at its end.
func checkDatabaseHash(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	err = compareHash(f, fileSize(path))
	return errors.Join(err, f.Close())
}

// compareHash recognizes by the size whether there is a hash: pages are multiples of 512 bytes.
func compareHash(f io.ReaderAt, size int64) error {
	if size%512 != sha256.Size {
		return errors.New("the database has no hash at its end: it was cut off, or copied from a data directory instead of saved by etcd; use another copy, or `etcdutl snapshot restore --skip-hash-check` if you know that it is complete")
	}
	end := size - sha256.Size
	want, hash := make([]byte, sha256.Size), sha256.New()
	if _, err := f.ReadAt(want, end); err != nil {
		return fmt.Errorf("read the hash of the database: %w", err)
	}
	if _, err := io.Copy(hash, io.NewSectionReader(f, 0, end)); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	if !bytes.Equal(hash.Sum(nil), want) {
		return errors.New("the database is damaged: it does not match its hash; use another copy")
	}
	return nil
}
