package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// killWithin is how long killed processes may take to end.
const killWithin = 30 * time.Second

// hierarchies lists the root folders of the cgroup hierarchies at a mount.
func hierarchies(mount string, v2 bool) ([]string, error) {
	if v2 {
		return []string{mount}, nil
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil, fmt.Errorf("list the cgroup hierarchies: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() { // links are second names of a hierarchy
			dirs = append(dirs, filepath.Join(mount, e.Name()))
		}
	}
	return dirs, nil
}

// podCgroups are the cgroups that contain all pods of this node, one in each hierarchy.
func (l *leaver) podCgroups() ([]string, error) {
	dirs, err := hierarchies(cgroupMount, isCgroupV2())
	for i, dir := range dirs {
		dirs[i] = filepath.Join(dir, l.cfg.CgroupRoot, "kubepods")
	}
	return dirs, err
}

// podProcesses lists what runs in pods of this node, and the shims of its containerd.
func (l *leaver) podProcesses() ([]int, error) {
	dirs, err := l.podCgroups()
	if err != nil {
		return nil, err
	}
	pids, err := shimsOf("/proc", l.record.Socket)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		inside, err := cgroups.GetAllPids(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("list the processes of pods: %w", err)
		}
		pids = append(pids, inside...)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// shimsOf lists the shims that belong to the containerd at socket. They outlive it.
func shimsOf(proc, socket string) ([]int, error) {
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		if strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") && slices.Contains(args, socket) {
			var pid int
			if _, err := fmt.Sscan(filepath.Base(filepath.Dir(file)), &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// killPods kills the remaining processes of the node's pods, and waits until they have
// ended.
func (l *leaver) killPods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, err := l.podProcesses()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := l.kill(pid); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("processes %v of pods do not end: %w; run everynode agent leave again", pids, ctx.Err())
		}
	}
}

// kill kills a process of a pod. Another process may have its pid by now, so kill looks
// for it again once a pidfd pins that pid.
func (l *leaver) kill(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	now, err := l.podProcesses()
	if err != nil || !slices.Contains(now, pid) {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// podNamespaces lists the files of network namespaces in which pods of this node run.
// After an orderly stop of the pods there are none.
func (l *leaver) podNamespaces() ([]string, error) {
	pids, err := l.podProcesses()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob("/run/netns/cni-*")
	if err != nil {
		return nil, err
	}
	var spaces []string
	for _, file := range files {
		space, err := os.Stat(file)
		if err != nil {
			continue // it went away meanwhile
		}
		in := func(pid int) bool {
			of, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
			return err == nil && os.SameFile(space, of)
		}
		if slices.ContainsFunc(pids, in) {
			spaces = append(spaces, file)
		}
	}
	return spaces, nil
}

// removeCgroups removes the cgroups of pods, and the one above them if nothing else uses
// it.
func (l *leaver) removeCgroups() error {
	dirs, err := l.podCgroups()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if err := cgroups.RemovePath(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove the cgroup of pods: %w", err))
		}
		if l.cfg.CgroupRoot == "" || l.cfg.CgroupRoot == "/" {
			continue
		}
		err := unix.Rmdir(filepath.Dir(dir))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove the cgroup above pods: %w", err))
		}
	}
	return errors.Join(errs...)
}
