package memory

import (
	"testing"
	"testing/fstest"
)

// machineOf returns a file system with these files.
func machineOf(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

const gib = 1 << 30

func TestLimit(t *testing.T) {
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
		if got := Limit(machineOf(c.files)); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

func TestAvailable(t *testing.T) {
	const meminfo = "MemTotal:       25165824 kB\nMemFree:          102400 kB\nMemAvailable:    8388608 kB\n"
	for what, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"a machine without cgroups": {map[string]string{"proc/meminfo": meminfo}, 8 * gib},
		"no limit": {map[string]string{"proc/meminfo": meminfo,
			"proc/self/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n", "sys/fs/cgroup/user.slice/memory.current": "1073741824\n"}, 8 * gib},
		"a container": {map[string]string{"proc/meminfo": meminfo,
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3221225472\n", "sys/fs/cgroup/memory.current": "1073741824\n"}, 2 * gib},
		"a container whose memory is mostly files": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "3221225472\n", "sys/fs/cgroup/memory.current": "3221225472\n",
			"sys/fs/cgroup/memory.stat": "anon 1073741824\ninactive_file 2147483648\nactive_file 1024\n"}, 2 * gib},
		"a container of version 1": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "5:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "3221225472\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "3221225472\n",
			"sys/fs/cgroup/memory/memory.stat": "inactive_file 5\ntotal_inactive_file 1073741824\n"}, gib},
		"a container that is full": {map[string]string{"proc/meminfo": meminfo,
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n", "sys/fs/cgroup/memory.current": "1073745920\n"}, 0},
		"a limit whose use cannot be read": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 0},
		"more in the cgroup than the machine has": {map[string]string{"proc/meminfo": "MemAvailable: 1048576 kB\n",
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3221225472\n", "sys/fs/cgroup/memory.current": "4096\n"}, gib},
		"nothing to read": {nil, 0},
		"nonsense":        {map[string]string{"proc/meminfo": "MemAvailable: lots kB\n"}, 0},
	} {
		if got := Available(machineOf(c.files)); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}
