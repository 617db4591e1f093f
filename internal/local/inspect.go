package local

import (
	"fmt"
	"os"
	"time"

	"github.com/prometheus/procfs"
)

// ProcessInfo is what the kernel knows about a process.
type ProcessInfo struct {
	RSS     int64 // resident memory, in bytes
	Started time.Time
}

// Inspect looks up a process. It fails if the process does not exist.
func Inspect(pid int) (ProcessInfo, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return ProcessInfo{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	if err != nil {
		return ProcessInfo{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	started, err := stat.StartTime()
	if err != nil {
		return ProcessInfo{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	begin := time.Unix(0, int64(started*float64(time.Second)))
	return ProcessInfo{RSS: int64(stat.RSS) * int64(os.Getpagesize()), Started: begin}, nil
}

// LastError returns the last line of a process's log that begins with "error:", without that word, or else the last
// line. It is empty when there is no log.
func LastError(log string) string { return lastError(log, 0) }
