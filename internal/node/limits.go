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
	// enoughFiles is more than any program needs. A higher limit makes some
	// programs slow: before they start another program, they try every file
	// descriptor up to it.
	enoughFiles = 1 << 20
)

// raiseFileLimit raises the limit of open files that containers inherit from this
// process, as far as it may, and returns the new limit.
//
// It sets the limit even if that seems right already. Go's runtime raises the limit
// of its own process at start, and gives children the old one unless the program
// sets it.
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

// raiseLimits raises the limit that containers inherit, and logs a warning if it
// stays low.
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
