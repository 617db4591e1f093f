package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	cgroupMount = "/sys/fs/cgroup"

	// killLimit is how long killAll waits for processes that were sent SIGKILL.
	killLimit = 30 * time.Second
	pollEvery = 10 * time.Millisecond
)

// hierarchies is how this machine mounts its cgroups.
type hierarchies struct {
	v2     bool
	mounts []string // v1: one mount point for each hierarchy, and for a v2 tree beside them; v2: the only one
}

// findHierarchies finds the cgroup mounts. A machine with v1 controllers counts as v1, even if the v2 tree is mounted
// beside them: that one has no controllers then, but runc makes a cgroup for each container there, too.
func findHierarchies() (hierarchies, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &st); err != nil {
		return hierarchies{}, fmt.Errorf("find the cgroups: %w; mount them at %s", err, cgroupMount)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return hierarchies{v2: true, mounts: []string{cgroupMount}}, nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return hierarchies{}, fmt.Errorf("find the cgroups: %w", err)
	}
	h, seen := hierarchies{}, map[int]bool{}
	for _, m := range mounts {
		if below(m.Mountpoint, cgroupMount) && !seen[m.Minor] {
			seen[m.Minor] = true
			h.mounts = append(h.mounts, m.Mountpoint)
		}
	}
	if len(h.mounts) == 0 {
		return hierarchies{}, fmt.Errorf("find the cgroups: none is mounted at %s: mount cgroup2 there, or start the machine with systemd", cgroupMount)
	}
	return h, nil
}

// nodeCgroups are the cgroups of a node: one for its pods, and one for its own processes. All are paths.
type nodeCgroups struct {
	node                 string // its name
	parent, pods, system string
}

// ensure makes the node's two cgroups in every hierarchy, ready for processes and children, and limits the one for
// its pods.
func (g nodeCgroups) ensure(size Size) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	return g.ensureIn(h, size)
}

func (g nodeCgroups) ensureIn(h hierarchies, size Size) error {
	for _, m := range h.mounts {
		for _, path := range []string{g.parent, g.pods, g.system} {
			dir := filepath.Join(m, path)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("node %s: make a cgroup: %w", g.node, err)
			}
			if err := h.prepare(dir); err != nil {
				return fmt.Errorf("node %s: %w", g.node, err)
			}
		}
		if err := h.limit(filepath.Join(m, g.pods), size); err != nil {
			return fmt.Errorf("node %s: limit its pods: %w", g.node, err)
		}
	}
	return nil
}

// prepare makes a new cgroup fit for processes and children. With v1, a cpuset accepts processes only after its CPUs
// and memory nodes are set. With v2, a cgroup has the controllers that its parent enables for it.
func (h hierarchies) prepare(dir string) error {
	if h.v2 {
		return enableControllers(filepath.Dir(dir))
	}
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		if err := inheritSetting(dir, f); err != nil {
			return err
		}
	}
	// killAll sets this to 0 before it removes the cgroup. A cgroup that could not be removed must work again.
	if _, err := os.Stat(filepath.Join(dir, "pids.max")); err == nil {
		return writeCgroup(filepath.Join(dir, "pids.max"), "max")
	}
	return nil
}

// inheritSetting copies a setting from the parent cgroup when it is empty. It leaves hierarchies alone that do not
// have the setting.
func inheritSetting(dir, name string) error {
	now, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a cgroup setting: %w", err)
	}
	if strings.TrimSpace(string(now)) != "" {
		return nil
	}
	parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
	if err != nil {
		return fmt.Errorf("read a cgroup setting: %w", err)
	}
	return writeCgroup(filepath.Join(dir, name), strings.TrimSpace(string(parent)))
}

// enableControllers enables the controllers that a kubelet needs for the children of dir.
func enableControllers(dir string) error {
	has, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	for _, ctl := range []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"} {
		if !slices.Contains(strings.Fields(string(has)), ctl) || slices.Contains(strings.Fields(string(on)), ctl) {
			continue
		}
		if err := writeCgroup(filepath.Join(dir, "cgroup.subtree_control"), "+"+ctl); err != nil {
			return fmt.Errorf("%w; the cgroup %s holds processes, or this is a container without rights on its cgroups", err, dir)
		}
	}
	return nil
}

// joinCgroup moves a process (0: the caller), with all of its threads, into the cgroup at path in every hierarchy.
func joinCgroup(path string, pid int) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	for _, m := range h.mounts {
		if err := writeCgroup(filepath.Join(m, path, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("join the cgroup %s: %w", path, err)
		}
	}
	return nil
}

// killAll kills every process of the node, in containers or not, waits until none is left, and removes the node's
// cgroups. It waits at most half a minute, or until ctx ends; the error then names the processes that remain.
func (g nodeCgroups) killAll(ctx context.Context) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	return g.killAllIn(ctx, h)
}

func (g nodeCgroups) killAllIn(ctx context.Context, h hierarchies) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	roots := g.existing(h)
	for _, r := range roots {
		// No process may start another one while they are counted and killed. The file does not exist without the
		// pids controller.
		if err := writeCgroup(filepath.Join(r, "pids.max"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := waitFor(ctx, func() (bool, error) {
		pids, err := killRound(h, roots)
		if err == nil && len(pids) > 0 && ctx.Err() != nil {
			err = fmt.Errorf("processes %v of node %s do not die", pids, g.node)
		}
		return len(pids) == 0, err
	})
	if err != nil {
		return fmt.Errorf("kill the processes of node %s: %w", g.node, err)
	}
	return waitFor(ctx, func() (bool, error) { return removeCgroups(roots, ctx.Err() != nil) })
}

// existing lists the directories of the node's cgroups that exist.
func (g nodeCgroups) existing(h hierarchies) []string {
	var dirs []string
	for _, m := range h.mounts {
		for _, path := range []string{g.pods, g.system} {
			if _, err := os.Stat(filepath.Join(m, path)); err == nil {
				dirs = append(dirs, filepath.Join(m, path))
			}
		}
	}
	return dirs
}

// killRound sends SIGKILL to everything below roots, and returns what it found there.
func killRound(h hierarchies, roots []string) ([]int, error) {
	var all []int
	for _, root := range roots {
		// The kernel kills the whole tree at once, except with v1, and with v2 before Linux 5.14.
		if err := writeCgroup(filepath.Join(root, "cgroup.kill"), "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		dirs, err := cgroupTree(root)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			pids, err := cgroupProcs(dir)
			if err != nil {
				return nil, err
			}
			for _, pid := range pids {
				if err := killMember(pid, root); err != nil {
					return nil, err
				}
			}
			all = append(all, pids...)
			if len(pids) == 0 {
				continue
			}
			if err := thaw(h, dir); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// killMember kills the process if it is still in the cgroup tree at root: another process may have its pid by now.
// The check and the signal are about the same process, because both go through one pidfd.
func killMember(pid int, root string) error {
	if pid <= 0 {
		return fmt.Errorf("a process in %s is outside this PID namespace: run everynode on the machine itself", root)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	member, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !memberOf(string(member), "/"+filepath.Base(filepath.Dir(root))+"/"+filepath.Base(root)) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// memberOf reports whether a process whose /proc/PID/cgroup is membership is at or below path in some hierarchy.
func memberOf(membership, path string) bool {
	for line := range strings.Lines(membership) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 && below(fields[2], path) {
			return true
		}
	}
	return false
}

// thaw lets the processes of a paused container die. Processes in a frozen v2 cgroup die without that.
func thaw(h hierarchies, dir string) error {
	if h.v2 {
		return nil
	}
	err := writeCgroup(filepath.Join(dir, "freezer.state"), "THAWED")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// cgroupTree lists root and the cgroups below it, parents first.
func cgroupTree(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the cgroups below %s: %w", root, err)
	}
	return dirs, nil
}

// cgroupProcs lists the processes in one cgroup.
func cgroupProcs(dir string) ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // just removed, or threaded: then the parent lists the processes
	}
	if err != nil {
		return nil, fmt.Errorf("list the processes of a cgroup: %w", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list the processes of %s: %w", dir, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// removeCgroups removes the trees at roots, children first. A cgroup stays busy for a moment after its last process
// has ended: only the last attempt returns that as an error.
func removeCgroups(roots []string, last bool) (bool, error) {
	done := true
	for _, root := range roots {
		dirs, err := cgroupTree(root)
		if err != nil {
			return false, err
		}
		for _, dir := range slices.Backward(dirs) {
			err := unix.Rmdir(dir)
			if err == nil || errors.Is(err, unix.ENOENT) {
				continue
			}
			if last || !errors.Is(err, unix.EBUSY) {
				return false, fmt.Errorf("remove the cgroup %s: %w", dir, err)
			}
			done = false
		}
	}
	return done, nil
}

// removeParentCgroup removes the cluster's cgroup in every hierarchy.
func removeParentCgroup(path string) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	return removeParentCgroupIn(h, path)
}

func removeParentCgroupIn(h hierarchies, path string) error {
	var errs []error
	for _, m := range h.mounts {
		if err := unix.Rmdir(filepath.Join(m, path)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove the cgroup %s: %w", filepath.Join(m, path), err))
		}
	}
	return errors.Join(errs...)
}

// writeCgroup writes to a file of a cgroup, and never creates one.
func writeCgroup(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set a cgroup's value: %w", err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set a cgroup's value to %q: %w", value, err)
	}
	return nil
}

// waitFor calls check until it returns true or an error. After ctx has ended it calls check once more, so that check
// can say what is missing, and then fails.
func waitFor(ctx context.Context, check func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ended := ctx.Err()
		if done, err := check(); err != nil || done {
			return err
		}
		if ended != nil {
			return ended
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
