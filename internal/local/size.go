package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// cpuPeriod is the time, in microseconds, over which the kernel counts a cgroup's use of CPUs.
	cpuPeriod = 100_000
	// minCPU, in thousandths of a CPU, and minMemory, in bytes, are enough for a node's own pods to start,
	// such as the DNS.
	minCPU    = 100
	minMemory = 64 << 20
)

// Size is how much of the machine the pods of a node may use together. A zero field means all of it.
type Size struct {
	// CPU is in thousandths of a CPU, Memory in bytes.
	CPU    int64 `json:"milliCPU,omitempty"`
	Memory int64 `json:"memory,omitempty"`
}

// MachineSize returns the size of this machine.
func MachineSize() (Size, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Size{}, fmt.Errorf("ask how much memory this machine has: %w", err)
	}
	return Size{CPU: int64(runtime.NumCPU()) * 1000, Memory: int64(info.Totalram) * int64(info.Unit)}, nil
}

// Within returns an error if a node of this size does not fit on a machine. Several nodes together may be
// larger than the machine.
func (s Size) Within(machine Size) error {
	switch {
	case s.CPU != 0 && (s.CPU < minCPU || s.CPU > machine.CPU):
		return fmt.Errorf("a node cannot have %d thousandths of a CPU: this machine has %d, and a node needs %d", s.CPU, machine.CPU, minCPU)
	case s.Memory != 0 && (s.Memory < minMemory || s.Memory > machine.Memory):
		return fmt.Errorf("a node cannot have %d MiB of memory: this machine has %d, and a node needs %d", s.Memory>>20, machine.Memory>>20, minMemory>>20)
	}
	return nil
}

// limit limits what the processes of a cgroup use together. It leaves hierarchies alone that do not have
// the setting.
func (h hierarchies) limit(dir string, s Size) error {
	quota, memory := "-1", "-1"
	settings := map[string]*string{"cpu.cfs_quota_us": &quota, "memory.limit_in_bytes": &memory}
	if h.v2 {
		quota, memory = "max", "max"
		settings = map[string]*string{"cpu.max": &quota, "memory.max": &memory}
	}
	if s.CPU != 0 {
		quota = strconv.FormatInt(s.CPU*cpuPeriod/1000, 10)
	}
	if s.Memory != 0 {
		memory = strconv.FormatInt(s.Memory, 10)
	}
	for file, value := range settings {
		if err := writeCgroup(filepath.Join(dir, file), *value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
