package node

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// wantedFiles is how many files a container should be able to open. Agents
	// that follow every log of a node open that many.
	wantedFiles = 65536
	// enoughFiles is what nobody needs more of. Some programs walk through all
	// numbers up to the limit before they start another.
	enoughFiles = 1 << 20
)

// raiseFileLimit raises the limit of open files that containers inherit from
// this process, as far as it may, and returns what it is then.
//
// The limit is set even when it seems to be right: Go's runtime raises its own
// process's at the start and gives the old one to children, unless it was set.
func raiseFileLimit() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	want := unix.Rlimit{Cur: min(max(limit.Max, wantedFiles), enoughFiles), Max: max(limit.Max, wantedFiles)}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want)
	if errors.Is(err, unix.EPERM) { // the hard limit may not be raised
		want = unix.Rlimit{Cur: min(limit.Max, enoughFiles), Max: limit.Max}
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &want)
	}
	if err != nil {
		return 0, fmt.Errorf("raise the limit of open files to %d: %w", want.Cur, err)
	}
	return want.Cur, nil
}

// raiseLimits raises what containers inherit, and says when it is little.
func (cfg Config) raiseLimits() error {
	files, err := raiseFileLimit()
	if err != nil {
		return err
	}
	if files < wantedFiles {
		cfg.Log.Warn("containers can open only few files, because this agent may not raise its hard limit: start it with a higher one (LimitNOFILE= of its service, ulimit -Hn)",
			"files", files, "wanted", wantedFiles)
	}
	return nil
}
