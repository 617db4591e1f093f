package command

import (
	"io/fs"
	"os"
	"runtime/debug"

	"everynode/internal/memory"
)

// gcPercent lets the heap grow threefold between two collections. The index is small
// and what an event allocates is dropped at once, so this costs a few tens of
// megabytes.
const gcPercent = 200

// limitPercent is how much of the available memory the Go runtime tries to stay within.
// Memory that it does not manage, such as thread stacks, needs the rest.
const limitPercent = 90

// tuneMemory lets the heap grow freely if there is room, and has it collected in time
// if the cgroup sets a limit. GOGC and GOMEMLIMIT take precedence. It returns the
// limit; zero: it has set none.
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
