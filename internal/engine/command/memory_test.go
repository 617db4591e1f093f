package command

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

// machine returns a file system with these files.
func machine(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

// The environment takes precedence over what is found.
func TestTuneMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) })
	root := machine(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000000000"})
	for _, c := range []struct {
		env     map[string]string
		percent int
		limit   int64
	}{
		{nil, gcPercent, 900_000_000_000},
		{map[string]string{"GOMEMLIMIT": "off"}, gcPercent, math.MaxInt64},
		{map[string]string{"GOGC": "77"}, 100, 900_000_000_000},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
		tuneMemory(root, func(name string) string { return c.env[name] })
		if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != c.percent || l != c.limit {
			t.Errorf("with %v: %d%% and a limit of %d, want %d%% and %d", c.env, p, l, c.percent, c.limit)
		}
	}
}
