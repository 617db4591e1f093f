package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// EnsureNode sets up a node of the record on this machine: directories, cgroups, namespaces, mounts and network. It
// changes nothing on a node that is complete, and repairs one that is not. If the namespaces of a node are gone, it
// kills what still runs in them and makes the node again. Call Ensure first.
func (h *Host) EnsureNode(ctx context.Context, name string) error {
	n, err := h.cluster.Node(name)
	if err != nil {
		return err
	}
	mounts := h.mounts(n)
	if err := h.raiseLimits(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	if err := mounts.makeSources(); err != nil {
		return err
	}
	if err := h.cgroups(n.Name).ensure(n.Size); err != nil {
		return err
	}
	resolver, err := mounts.resolver()
	if err != nil {
		return err
	}
	if err := h.namespaces(n).ensure(ctx, append(mounts.binds(), resolver...)); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	if err := h.power(n.Name).ensure(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return h.network().ensureLink(n, h.cluster.PinDir(n.Name))
}

// nodeNamespaces are the namespaces of a node, pinned as files.
type nodeNamespaces struct {
	pins    string // their folder
	mounts  nodeMounts
	cgroups nodeCgroups
}

// ensure pins and sets up all of the node's namespaces.
func (s nodeNamespaces) ensure(ctx context.Context, binds []bind) error {
	pins := pinsIn(s.pins)
	if ok, err := allPinned(pins); err != nil {
		return err
	} else if ok {
		return inNamespaces(pins, func() error { return s.mounts.apply(binds) })
	}
	if err := s.cgroups.killAll(ctx); err != nil {
		return fmt.Errorf("its namespaces are incomplete, and processes of the old ones remain: %w", err)
	}
	if err := s.release(); err != nil {
		return err
	}
	if err := s.cgroups.ensure(s.mounts.node.Size); err != nil {
		return err
	}
	return s.make(binds)
}

// make makes and pins the node's namespaces.
//
// The kernel lets a mount namespace be mounted only inside an older one, and takes the one with the smaller id for
// the older. Since Linux 6.18 each CPU has its own supply of ids. So a new namespace may look older than this
// process's, unless that is the machine's first. At least one CPU always gives a larger id: the one that made this
// process's namespace.
func (s nodeNamespaces) make(binds []bind) error {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("list the CPUs of this process: %w", err)
	}
	err := s.try(binds, &cpus)
	for cpu := 0; cpu < len(cpus)*64 && errors.Is(err, errPinOrder); cpu++ {
		if !cpus.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		err = s.try(binds, &one)
	}
	return err
}

// try makes and pins the node's namespaces on one of cpus. The thread that makes them waits until another thread has
// pinned them: a mount namespace cannot be mounted inside itself. If try fails, it leaves none of them.
func (s nodeNamespaces) try(binds []bind, cpus *unix.CPUSet) error {
	dir := s.pins
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of its pins: %w", err)
	}
	made, pinned, done := make(chan int, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- onThread(func() error {
			if err := s.enter(binds, cpus); err != nil {
				return err
			}
			made <- unix.Gettid()
			<-pinned
			return nil
		})
	}()
	var err error
	select {
	case err = <-done:
		return errors.Join(err, s.release())
	case tid := <-made:
		for _, p := range pinsIn(dir) {
			if err = p.set(fmt.Sprintf("/proc/self/task/%d/ns/%s", tid, p.kind)); err != nil {
				break
			}
		}
	}
	close(pinned)
	if err = errors.Join(err, <-done); err != nil {
		return errors.Join(err, s.release())
	}
	return nil
}

// enter moves the calling thread into new namespaces of the node. That thread must end afterwards.
func (s nodeNamespaces) enter(binds []bind, cpus *unix.CPUSet) error {
	if err := unix.SchedSetaffinity(0, cpus); err != nil {
		return fmt.Errorf("choose a CPU: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := isolateMounts(); err != nil {
		return err
	}
	if err := s.mounts.mountPrivate(); err != nil {
		return err
	}
	if err := s.mounts.apply(binds); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.mounts.node.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return nil
}

// RemoveNode removes a node from this machine: first its processes, then its network link, namespaces and cgroups.
// With purge it also deletes the directory; otherwise images, logs and identity stay for the next start. The node
// need not be in the record, so leftovers can be removed, too.
func (h *Host) RemoveNode(ctx context.Context, name string, purge bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	var errs []error
	if err := h.KillAll(ctx, name); err != nil {
		errs = append(errs, err)
	}
	if n, err := h.cluster.Node(name); err == nil {
		errs = append(errs, deleteLinks(func(link string) bool { return link == h.network().hostLink(n) }))
	}
	errs = append(errs, h.namespaces(Node{Name: name}).release())
	if purge {
		errs = append(errs, h.purgeNode(name, errs))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	return nil
}

// purgeNode deletes the node's directory, but never through a mount, and never while its processes live.
func (h *Host) purgeNode(name string, before []error) error {
	dir := h.cluster.NodeDir(name)
	if errors.Join(before...) != nil {
		return fmt.Errorf("its directory %s is kept, because the steps before failed", dir)
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	remove, err := datadir.Remove(h.cluster.DataDir)
	if err != nil {
		return err
	}
	return errors.Join(remove.Tree(filepath.Join("nodes", name)), remove.Close())
}

// release unpins the node's namespaces. The kernel removes them, with all mounts and links inside, when no process is
// left in them.
func (s nodeNamespaces) release() error {
	dir := s.pins
	var errs []error
	for _, p := range append(pinsIn(dir), pidPin(dir)) {
		errs = append(errs, p.release())
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("delete the directory of its pins: %w", err))
	}
	return errors.Join(errs...)
}

// NodeReady reports whether the node's namespaces exist and its first process runs, so that a process can be started
// inside.
func (h *Host) NodeReady(name string) (bool, error) {
	dir := h.cluster.PinDir(name)
	ok, err := allPinned(append(pinsIn(dir), pidPin(dir)))
	return ok && h.power(name).on(), err
}

func allPinned(pins []pin) (bool, error) {
	for _, p := range pins {
		if ok, err := p.pinned(); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// nodes lists the nodes that have pins or cgroups on this machine, in the record or not.
func (h *Host) nodes() ([]string, error) {
	found, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	dirs := []string{h.cluster.runDir()}
	for _, m := range found.mounts {
		dirs = append(dirs, filepath.Join(m, h.cluster.cgroup()))
	}
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list the nodes of this machine: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, strings.TrimSuffix(e.Name(), systemSuffix))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
