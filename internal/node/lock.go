package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"everynode/internal/datadir"
)

// lockDataDir locks <dir>/agent.lock and writes this process's id into it. The lock
// lasts until release is called or the process ends, however it ends.
func lockDataDir(dir string) (release func() error, err error) {
	release, err = datadir.Lock(filepath.Join(dir, "agent.lock"))
	var locked *datadir.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("another agent (process %d) uses the data directory %s: stop it first, or choose another with --data-dir", locked.PID, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; the data directory must be writable for root (--data-dir)", err)
	}
	return release, nil
}
