package controlplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"everynode/internal/controlplane/private"
	"everynode/internal/datadir"
)

// dataFormat is the newest version of the data directory's layout that this program
// reads. With plainFormat no Secret in etcd is encrypted, and programs that know no
// other format can read it. With encryptedFormat Secrets are encrypted with one key,
// and from keyringFormat on with the keys that are stored in etcd.
const (
	plainFormat     = 1
	encryptedFormat = 2
	keyringFormat   = 3
	dataFormat      = keyringFormat
)

// dataRecord is the file "version" in the data directory: the format of the data,
// and the ranges that addresses in its objects are from.
type dataRecord struct {
	Format      int    `json:"format"`
	ServiceCIDR string `json:"serviceCIDR"`
	PodCIDR     string `json:"podCIDR"`
}

// dataFolder is the data directory of a server.
type dataFolder string

func (d dataFolder) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

func (d dataFolder) kubeconfig(name string) string { return d.path("pki", name+".kubeconfig") }

// snapshots returns the folder of the snapshots that are saved without another place.
func (d dataFolder) snapshots() string { return d.path("snapshots") }

// storeDir returns the directory of the embedded etcd's data.
func (d dataFolder) storeDir() string { return newStore(d.path("etcd")).config().Dir }

// lock takes the lock of the servers that use a data directory, until
// release is called or the process ends.
func (d dataFolder) lock() (release func() error, err error) {
	release, err = datadir.Lock(d.path("server.lock"))
	var locked *datadir.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("the data directory is in use by another everynode server (process %d holds %s): stop that one, or choose another data directory",
			locked.PID, locked.File)
	}
	if err != nil {
		return nil, fmt.Errorf("the data directory is not writable: %w; choose another or run as its owner", err)
	}
	return release, nil
}

// checkSecrets refuses keys that others can read. They may have been copied here with a
// wrong mode, which does no harm until the folder is moved or backed up.
func (d dataFolder) checkSecrets() error {
	return errors.Join(datadir.CheckSecrets(d.path("pki"), KeyFiles()...), datadir.CheckSecrets(string(d), "admin.kubeconfig"))
}

func (d dataFolder) writeRecord(r dataRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the data directory's version: %w", err)
	}
	return private.WriteFile(d.path("version"), append(data, '\n'))
}

// noteFormat raises the format in the record, so that releases that cannot read the
// cluster refuse it and its snapshots.
func (d dataFolder) noteFormat(format int) error {
	r, err := readRecord(d.path("version"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && r.Format >= format {
		return nil
	}
	if err != nil {
		return err
	}
	r.Format = format
	return d.writeRecord(r)
}

func readRecord(path string) (dataRecord, error) {
	var r dataRecord
	data, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read the version of the data directory: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil || r.Format < 1 {
		return r, fmt.Errorf("%s does not contain the version of a data directory (%q); restore it from a backup", path, data)
	}
	return r, nil
}

// shared returns the files of sharedNames in the data directory. It is an error if one is missing.
func (d dataFolder) shared() ([]archiveFile, error) {
	var files []archiveFile
	for _, name := range sharedNames() {
		path := d.path(filepath.FromSlash(name))
		_, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s is missing, and without it nodes and tokens are useless: name the data directory of a server of this cluster with --data-dir; to save only etcd, use etcdctl", path)
		case err != nil:
			return nil, fmt.Errorf("read the keys that nodes and tokens depend on: %w; run this as the server's user", err)
		}
		files = append(files, archiveFile{name, path})
	}
	return files, nil
}

// missing lists the files of sharedNames that the data directory lacks.
func (d dataFolder) missing() []string {
	missing := []string{}
	for _, name := range sharedNames() {
		if !exists(d.path(filepath.FromSlash(name))) {
			missing = append(missing, name)
		}
	}
	return missing
}

// clearSnapshots removes what a killed save has left in the data directory: etcd may need its space.
func (d dataFolder) clearSnapshots() error {
	host, err := thisMachine()
	if err != nil {
		return err
	}
	clearLeft(d.snapshots(), host)
	left, err := filepath.Glob(d.path(snapshotWork))
	if err != nil {
		return fmt.Errorf("look for interrupted snapshots: %w", err)
	}
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
