package localcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"everynode/internal/local"
)

// elsewhereDir is a folder with a symbolic link to each data directory of this user
// that does not follow from a cluster's name. The links are named by the clusters'
// ids. Only they lead to these directories, and they need neither a format nor a
// lock. It is "" if the environment names no place for it.
func elsewhereDir(uid int, getenv func(string) string) string {
	switch state, home := getenv("XDG_STATE_HOME"), getenv("HOME"); {
	case filepath.IsAbs(state):
		return filepath.Join(state, "everynode", "clusters")
	case uid == 0: // HOME may be the home of the user who runs sudo
		return rootDataDir + "-elsewhere"
	case filepath.IsAbs(home):
		return filepath.Join(home, ".local", "state", "everynode", "clusters")
	default:
		return ""
	}
}

// Elsewhere is the folder of links of the user that runs this program.
func Elsewhere() string { return elsewhereDir(os.Geteuid(), os.Getenv) }

// Remember makes `list` find the cluster, if it is not in the directory of a name.
func Remember(c *local.Cluster) error {
	dir := Elsewhere()
	link := filepath.Join(dir, c.ID)
	if to, err := os.Readlink(link); dir == "" || NameOf(c.DataDir) != "" || err == nil && to == c.DataDir {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(c.DataDir, link); !errors.Is(err, fs.ErrExist) { // another `up` of the cluster was quicker
		return err
	}
	return nil
}

// forget undoes Remember, and removes the folder with the last link.
func forget(c *local.Cluster) error {
	dir := Elsewhere()
	if dir == "" || NameOf(c.DataDir) != "" {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, c.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the cluster out of what `everynode list` shows: %w", err)
	}
	// It fails if other links are left, or if there is no folder.
	_ = os.Remove(dir)
	return nil
}

// Remembered returns the data directories that the links in dir lead to. It removes
// links to directories that no longer have a cluster.
func Remembered(dir string) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for clusters elsewhere: %w", err)
	}
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		to, err := os.Readlink(link)
		if err != nil {
			continue // not a link of ours
		}
		_, err = local.Open(to)
		if !errors.Is(err, local.ErrNoCluster) {
			found = append(found, to)
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("forget the cluster that was in %s: %w", to, err)
		}
	}
	return found, nil
}
