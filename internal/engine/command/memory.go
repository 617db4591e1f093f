package command

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
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
	if limit = cgroupLimit(root) / 100 * limitPercent; limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// cgroupLimit is how much memory the process may have, by its cgroups; zero when
// they set no limit, or cannot be read. root is the root of the file system.
func cgroupLimit(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		// NUMBER:CONTROLLERS:PATH; the second version has no controllers here.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, at, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			least = min(least, lowest(root, "sys/fs/cgroup", at, "memory.max"), lowest(root, "sys/fs/cgroup/unified", at, "memory.max"))
		case strings.Contains(","+controllers+",", ",memory,"):
			least = min(least, lowest(root, "sys/fs/cgroup/memory", at, "memory.limit_in_bytes"))
		}
	}
	if least > math.MaxInt64/2 { // how the first version writes that there is none
		return 0
	}
	return least
}

// lowest is the lowest limit from a cgroup up to the top of what is mounted. In a
// container the path may be that of the host, of which only the end is mounted,
// as the top.
func lowest(root fs.FS, mount, at, file string) int64 {
	least := int64(math.MaxInt64)
	for at = path.Clean("/" + at); ; at = path.Dir(at) {
		text, err := fs.ReadFile(root, path.Join(mount, at, file))
		if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil && n > 0 {
			least = min(least, n)
		}
		if at == "/" {
			return least
		}
	}
}

// rootFS is the file system of this machine.
func rootFS() fs.FS { return os.DirFS("/") }
