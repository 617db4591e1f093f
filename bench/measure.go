package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"everynode/bench/report"
)

// usage is what a process has used, as reported by the kernel.
type usage struct {
	CPU  float64 // seconds, user and system, of all threads
	Peak uint64  // VmHWM: the most resident memory so far, in bytes
	Anon uint64  // RssAnon: resident memory that is not backed by files, in bytes
}

func usageOf(pid int) (usage, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	if err != nil {
		return usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	status, err := p.NewStatus()
	if err != nil {
		return usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	return usage{CPU: stat.CPUTime(), Peak: status.VmHWM, Anon: status.RssAnon}, nil
}

// machineCPU returns the processor time that the whole machine has used since it
// started, and what the host took from it, in seconds.
func machineCPU() (float64, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("measure the machine: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return 0, fmt.Errorf("measure the machine: %w", err)
	}
	c := stat.CPUTotal
	return c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal, nil
}

// describeMachine returns what the figures are measured on.
func describeMachine() report.Machine {
	m := report.Machine{CPUs: runtime.NumCPU()}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
			m.Model = cpus[0].ModelName
		}
		if mem, err := fs.Meminfo(); err == nil && mem.MemTotalBytes != nil {
			m.MemoryBytes = *mem.MemTotalBytes
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = strings.TrimRight(string(name.Release[:]), "\x00")
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.LoadAtEnd = strings.TrimSpace(string(text))
	}
	return m
}
