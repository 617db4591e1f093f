package command

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

// machine is a file system of these files.
func machine(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestCgroupLimit(t *testing.T) {
	const gib = 1 << 30
	for what, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"a container with a cgroup namespace": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, gib},
		"a container that sees the host's path, but has its own part mounted": {map[string]string{
			"proc/self/cgroup": "0::/kubepods.slice/pod1/c1\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, gib},
		"the pod's limit is lower than the container's": {map[string]string{
			"proc/self/cgroup":                          "0::/kubepods/pod1/c1\n",
			"sys/fs/cgroup/kubepods/pod1/c1/memory.max": "max\n", "sys/fs/cgroup/kubepods/pod1/memory.max": "1073741824\n",
			"sys/fs/cgroup/kubepods/memory.max": "8589934592\n"}, gib},
		"no limit": {map[string]string{
			"proc/self/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n"}, 0},
		"version 1": {map[string]string{
			"proc/self/cgroup": "9:cpu,cpuacct:/a\n5:memory:/docker/c1\n1:name=systemd:/a\n",
			"sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes": "1073741824\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, gib},
		"version 1 without a limit": {map[string]string{
			"proc/self/cgroup": "5:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"both versions, the first has the memory": {map[string]string{
			"proc/self/cgroup":                           "5:memory:/\n0::/x\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, gib},
		"another controller whose name has memory in it": {map[string]string{
			"proc/self/cgroup": "5:nomemory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, 0},
		"nothing to read": {nil, 0},
		"nonsense":        {map[string]string{"proc/self/cgroup": "what\n0::/\n", "sys/fs/cgroup/memory.max": "lots"}, 0},
	} {
		if got := cgroupLimit(machine(c.files)); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

// The environment wins over what is found.
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
