package localcluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// Open reads the cluster in a data directory.
func Open(dataDir string) (*Cluster, error) {
	c, err := local.Open(dataDir)
	switch {
	case errors.Is(err, local.ErrNoCluster) && IsServerFolder(dataDir):
		return nil, fmt.Errorf("%s is the folder of `everynode server`, whose nodes are machines of their own: `everynode status` and `everynode kubectl get nodes` show them", dataDir)
	case errors.Is(err, local.ErrNoCluster):
		return nil, noCluster(dataDir)
	case errors.Is(err, fs.ErrPermission):
		return nil, Unreadable(dataDir, err)
	case err != nil:
		return nil, err
	}
	return New(c)
}

// Recover is used in place of Open if the record is lost or broken.
func Recover(dataDir string) (*Cluster, error) {
	c, err := local.Recover(dataDir)
	if err != nil {
		return nil, err
	}
	return New(c)
}

// OpenOrCreate reads the cluster in a data directory, or creates one.
func OpenOrCreate(dataDir string, o local.Options) (*Cluster, error) {
	c, err := local.Open(dataDir)
	if errors.Is(err, local.ErrNoCluster) {
		c, err = local.Create(dataDir, o)
	}
	if err != nil {
		return nil, err
	}
	return New(c)
}

// Lock keeps other commands from changing the cluster in a data directory at the same time.
func Lock(dataDir string, warnings io.Writer) (release func(), err error) {
	unlock, err := datadir.Lock(filepath.Join(dataDir, "change.lock"))
	var locked *datadir.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("another everynode command (pid %d) is changing the cluster in %s: wait until it is done", locked.PID, dataDir)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		if err := unlock(); err != nil {
			fmt.Fprintf(warnings, "warning: unlock %s: %v\n", dataDir, err)
		}
	}, nil
}
