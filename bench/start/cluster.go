package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// sample is the figures of one cluster: times since its start, and bytes.
type sample struct {
	program, variant string
	ready, available time.Duration
	server, all      memory // of the control plane, and of all processes
}

// memory is the memory of processes, in bytes.
type memory struct {
	anonymous uint64 // the kernel cannot reclaim it
	share     uint64 // with their share of the files that they map, which the kernel can reclaim
}

func (m *memory) add(r procfs.ProcSMapsRollup) {
	m.anonymous += r.Anonymous
	m.share += r.Pss
}

// downTime is how long a cluster may take to stop.
const downTime = 2 * time.Minute

// measure starts every variant of every program in turn, reps times.
func (s *settings) measure(ctx context.Context, log io.Writer) (all []sample, err error) {
	for rep := range s.reps {
		for _, program := range s.programs {
			for _, variant := range s.variants {
				one, err := s.start(ctx, program, variant)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", program, variant, err)
				}
				fmt.Fprintf(log, "%d/%d %s %s: nodes ready after %.1f s, agent available after %.1f s, %d MB, %d MB of them the server's\n",
					rep+1, s.reps, program, variant, one.ready.Seconds(), one.available.Seconds(), one.all.anonymous>>20, one.server.anonymous>>20)
				all = append(all, one)
			}
		}
	}
	return all, nil
}

// start measures one cluster, and purges it.
func (s *settings) start(ctx context.Context, program, variant string) (one sample, err error) {
	dir, err := os.MkdirTemp("/tmp", "ev") // a short path, because paths of sockets below it have a length limit
	if err != nil {
		return sample{}, err
	}
	c := cluster{program: program, dir: dir}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTime)
		defer cancel()
		if purged := c.run(ending, "down", "--purge"); purged != nil {
			err = errors.Join(err, purged) // the machine's folders may still be mounted in the data directory
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	one = sample{program: program, variant: variant}
	flags, _ := flagsOf(variant)
	began := time.Now()
	if err := c.run(ctx, append([]string{"up", "--detach", "--set-context=false"}, flags...)...); err != nil {
		return one, err
	}
	one.ready = time.Since(began)
	if err := c.run(ctx, "kubectl", "apply", "-f", s.agent); err != nil {
		return one, err
	}
	if err := c.run(ctx, "kubectl", "rollout", "status", "daemonset", "audit-agent", "--timeout=3m"); err != nil {
		return one, err
	}
	one.available = time.Since(began)
	select {
	case <-time.After(s.idle):
	case <-ctx.Done():
		return one, ctx.Err()
	}
	one.server, one.all, err = c.memory()
	return one, err
}

// cluster is a running cluster.
type cluster struct{ program, dir string }

func (c cluster) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Env = append(os.Environ(), "EVERYNODE_DATA_DIR="+c.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("everynode %s: %w\n%s", strings.Join(args, " "), err, out.String())
	}
	return nil
}

// memory returns the memory of the control plane, and of everything that was started for the cluster, including pods.
func (c cluster) memory() (server, all memory, err error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return server, all, err
	}
	parents, lines := map[int]int{}, map[int]string{}
	for _, p := range procs {
		stat, statErr := p.Stat()
		args, argsErr := p.CmdLine()
		if statErr != nil || argsErr != nil {
			continue // it has ended
		}
		parents[p.PID], lines[p.PID] = stat.PPID, strings.Join(args, " ")
	}
	for _, p := range procs {
		if !c.owns(p.PID, parents, lines) {
			continue
		}
		rollup, err := p.ProcSMapsRollup()
		if err != nil {
			continue // it has ended
		}
		all.add(rollup)
		if strings.Contains(lines[p.PID], " server ") {
			server.add(rollup)
		}
	}
	if server.share == 0 {
		return server, all, fmt.Errorf("no control plane was found among the processes of %s", c.dir)
	}
	return server, all, nil
}

// owns reports whether a process, or one of its ancestors, names the cluster's data directory.
func (c cluster) owns(pid int, parents map[int]int, lines map[int]string) bool {
	for ; pid > 1 && pid != os.Getpid(); pid = parents[pid] {
		if strings.Contains(lines[pid]+" ", c.dir+" ") || strings.Contains(lines[pid], c.dir+"/") {
			return true
		}
	}
	return false
}
