package command

import (
	"io/fs"
	"os"
	"runtime/debug"

	"everynode/internal/memory"
)

// gcPercent lets the heap grow threefold between two collections. The index is
// small and what an event allocates is dropped at once, so this costs some tens
// of megabytes.
const gcPercent = 200

// limitPercent is how much of the memory that the process may have the Go runtime
// tries to keep to: what is not its own, such as thread stacks, needs the rest.
const limitPercent = 90

// tuneMemory lets the heap grow freely where there is room, and has it collected
// in time where the cgroup sets a limit. GOGC and GOMEMLIMIT win. It returns the
// limit; zero: there is none that it has set.
func tuneMemory(root fs.FS, getenv func(string) string) (limit int64) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if getenv("GOMEMLIMIT") != "" {
		return 0
	}
	if limit = memory.Limit(root) / 100 * limitPercent; limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// rootFS returns the file system of this machine.
func rootFS() fs.FS { return os.DirFS("/") }
