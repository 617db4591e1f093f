// Package memory finds out how much memory this process may use: what its cgroups allow, and what the
// machine has left. It also controls how much garbage may pile up in it.
package memory

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// none is more than any machine has. Version 1 of cgroups writes such a number if there is no limit.
const none = math.MaxInt64 / 2

// Limit returns how much memory the process may use, by its cgroups, in bytes; zero if they set no limit,
// or cannot be read. root is the root of the file system.
func Limit(root fs.FS) int64 {
	limit := least(root, func(g group) int64 { return g.number(g.limit) })
	if limit > none {
		return 0
	}
	return limit
}

// Available returns how much more memory the process may take, in bytes, without making anything else
// give up memory: what the machine has free, or what the process's cgroups allow if that is less. Files
// that the kernel caches and can drop count as free. It is zero if that cannot be read.
func Available(root fs.FS) int64 {
	ofGroups := least(root, func(g group) int64 {
		limit := g.number(g.limit)
		if limit > none {
			return math.MaxInt64
		}
		return max(limit-g.number(g.usage)+g.files(), 0)
	})
	return min(machine(root), ofGroups)
}

// machine is MemAvailable of /proc/meminfo, in bytes; zero if that does not exist.
func machine(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	n, known := field(string(text), "MemAvailable:")
	if !known || n > none/1024 {
		return 0
	}
	return n * 1024
}

// group is one cgroup, and the names of its files.
type group struct {
	root                       fs.FS
	dir                        string
	limit, usage, inactiveFile string
}

// least returns the lowest value of the cgroups of the process; math.MaxInt64 if there is none.
func least(root fs.FS, of func(group) int64) int64 {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return math.MaxInt64
	}
	second := group{root: root, limit: "memory.max", usage: "memory.current", inactiveFile: "inactive_file"}
	first := group{root: root, limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", inactiveFile: "total_inactive_file"}
	n := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		// NUMBER:CONTROLLERS:PATH; the second version has no controllers here.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, at, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			n = min(n, second.lowest("sys/fs/cgroup", at, of), second.lowest("sys/fs/cgroup/unified", at, of))
		case strings.Contains(","+controllers+",", ",memory,"):
			n = min(n, first.lowest("sys/fs/cgroup/memory", at, of))
		}
	}
	return n
}

// lowest returns the lowest value from a cgroup up to the top of what is mounted. In a container the path
// may be the host's, although only its last part is mounted, as the top.
func (g group) lowest(mount, at string, of func(group) int64) int64 {
	n := int64(math.MaxInt64)
	for at = path.Clean("/" + at); ; at = path.Dir(at) {
		g.dir = path.Join(mount, at)
		n = min(n, of(g))
		if at == "/" {
			return n
		}
	}
}

// number returns the number in a file of the cgroup; math.MaxInt64 if there is no number above zero.
func (g group) number(file string) int64 {
	text, err := fs.ReadFile(g.root, path.Join(g.dir, file))
	if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil && n > 0 {
		return n
	}
	return math.MaxInt64
}

// files returns how much of the cgroup's memory the kernel can drop at once, in bytes.
func (g group) files() int64 {
	text, err := fs.ReadFile(g.root, path.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0
	}
	n, _ := field(string(text), g.inactiveFile)
	return n
}

// field returns the number after a name, in a text that has a name and a number on each line.
func field(text, name string) (n int64, known bool) {
	for line := range strings.Lines(text) {
		if parts := strings.Fields(line); len(parts) >= 2 && parts[0] == name {
			n, err := strconv.ParseInt(parts[1], 10, 64)
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}
