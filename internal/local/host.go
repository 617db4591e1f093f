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

	"everynode/internal/sysctl"
)

// hostRunDir is where clusters keep what must not survive a reboot.
const hostRunDir = "/run/everynode"

// Host is a cluster on this machine: what the kernel and the file systems have of it and of its nodes.
type Host struct{ cluster *Cluster }

// Host returns the Host of the cluster, whether it is set up or not.
func (c *Cluster) Host() *Host { return &Host{c} }

func (h *Host) firewall() firewall {
	return firewall{"everynode_" + h.cluster.ID, h.cluster.Bridge(), h.cluster.Subnet, h.cluster.PodCIDR}
}

func (h *Host) network() network {
	return network{h.cluster.ID, h.cluster.Bridge(), h.cluster.Gateway, h.cluster.Subnet, h.cluster.PodCIDR}
}

func (h *Host) cgroups(node string) nodeCgroups {
	return nodeCgroups{node, h.cluster.cgroup(), h.cluster.PodCgroup(node), h.cluster.SystemCgroup(node)}
}

func (h *Host) power(node string) power {
	return power{h.cluster.NodeDir(node), h.cluster.PinDir(node), h.cluster.SystemCgroup(node), h.cluster.InitProgram}
}

func (h *Host) mounts(n Node) nodeMounts {
	return nodeMounts{n, h.cluster.NodeDir(n.Name), h.cluster.DataDir, h.cluster.NoCNI}
}

func (h *Host) namespaces(n Node) nodeNamespaces {
	return nodeNamespaces{h.cluster.PinDir(n.Name), h.mounts(n), h.cgroups(n.Name)}
}

// KillAll kills every process of the node, in containers or not, waits until none is left, and removes the node's
// cgroups. It waits at most half a minute, or until ctx ends; the error then names the processes that remain.
func (h *Host) KillAll(ctx context.Context, name string) error { return h.cgroups(name).killAll(ctx) }

// Ensure sets up what the nodes of the cluster share on this machine: the directory of their pins, the mount points
// that they mount over, the bridge, the nftables table, forwarding, and limits. If it makes mount points it saves the
// record. It changes nothing if all of that exists, or if the cluster is on loopback.
func (h *Host) Ensure(ctx context.Context) error {
	if h.cluster.Loopback {
		return nil
	}
	taken, err := hostRanges(h.cluster.Bridge())
	if err != nil {
		return err
	}
	if err := h.checkRanges(taken); err != nil {
		return err
	}
	err = withHostRecord(ctx, func(r *hostRecord) error {
		if err := h.mountRunDir(); err != nil {
			return err
		}
		if err := h.makeMountPoints(r); err != nil {
			return err
		}
		if err := r.saveSysctls(); err != nil {
			return err
		}
		// The record must be on disk before the first change.
		if err := r.write(); err != nil {
			return err
		}
		return sysctl.Write(sysctl.IPForward, "1")
	})
	if err == nil {
		err = h.raiseLimits(ctx)
	}
	if err != nil {
		return fmt.Errorf("set up this machine: %w", err)
	}
	// The table comes before the addresses that it protects.
	if err := h.firewall().ensure(); err != nil {
		return err
	}
	return h.network().ensureBridge()
}

// Remove removes everything of the cluster from this machine except the data directory. That includes nodes that are
// left. If no other cluster is up here, it restores kernel settings, unless someone has changed them since or relies
// on them, and removes mount points that were made and are empty. The warning is for the user.
func (h *Host) Remove(ctx context.Context) (warning string, err error) {
	if h.cluster.Loopback {
		return "", nil
	}
	var errs []error
	names, err := h.nodes()
	errs = append(errs, err)
	for _, n := range h.cluster.Nodes {
		if !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
	}
	for _, name := range names {
		errs = append(errs, h.RemoveNode(ctx, name, false))
	}
	errs = append(errs,
		deleteLinks(func(link string) bool { return strings.HasPrefix(link, h.cluster.Bridge()) }),
		h.firewall().remove(),
		removeParentCgroup(h.cluster.cgroup()))
	errs = append(errs, withHostRecord(ctx, func(r *hostRecord) error {
		errs := []error{unmountBelow(h.cluster.runDir()), removeIfThere(h.cluster.runDir())}
		others, err := otherClusters(h.cluster.ID)
		errs = append(errs, err)
		if err != nil {
			return errors.Join(errs...)
		}
		r.Created = append(r.Created, h.cluster.CreatedPaths...)
		if len(others) > 0 {
			return errors.Join(append(errs, r.write())...) // the last one cleans up
		}
		warning, err = sysctl.Restore(r.Sysctls)
		return errors.Join(append(errs, err, r.restoreLimits(), removeMountPoints(r.Created), r.delete())...)
	}))
	if err := errors.Join(errs...); err != nil {
		return warning, fmt.Errorf("clean up this machine: %w", err)
	}
	if len(h.cluster.CreatedPaths) > 0 {
		h.cluster.CreatedPaths = nil
		return warning, h.saveIfThere()
	}
	return warning, nil
}

// mountRunDir mounts the private tmpfs of the cluster. Pins of mount namespaces need a mount that does not propagate.
func (h *Host) mountRunDir() error {
	mounted, err := mountsBelow(h.cluster.runDir())
	if err != nil {
		return err
	}
	if !slices.Contains(mounted, h.cluster.runDir()) {
		if err := os.MkdirAll(h.cluster.runDir(), 0o700); err != nil {
			return err
		}
		if err := unix.Mount("everynode", h.cluster.runDir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=1m"); err != nil {
			return fmt.Errorf("mount a tmpfs at %s: %w", h.cluster.runDir(), err)
		}
	}
	if err := unix.Mount("", h.cluster.runDir(), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", h.cluster.runDir(), err)
	}
	return nil
}

// makeMountPoints makes the paths that nodes mount over if the machine lacks them, and notes each in both records: in
// this cluster's, which survives a reboot, and in the machine's, from which the last cluster removes them.
func (h *Host) makeMountPoints(r *hostRecord) error {
	var made []string
	for _, b := range h.mountPoints() {
		paths, err := makeMountPoint(b)
		made = append(made, paths...)
		if err != nil {
			return errors.Join(err, removeMountPoints(made))
		}
	}
	if len(made) == 0 {
		return nil
	}
	r.Created = append(r.Created, made...)
	h.cluster.CreatedPaths = append(h.cluster.CreatedPaths, made...)
	if err := h.cluster.Save(); err != nil {
		return errors.Join(err, removeMountPoints(made))
	}
	return nil
}

// mountPoints are the targets on this machine that nodes mount over. Other targets are in directories of the node's
// own.
func (h *Host) mountPoints() []bind {
	points := slices.DeleteFunc(h.mounts(Node{}).binds(), func(b bind) bool { return isPrivate(b.target) })
	for _, p := range h.mounts(Node{}).privateDirs() {
		points = append(points, bind{target: p.path})
	}
	return append(points, bind{target: ownRun})
}

// makeMountPoint makes b's target if it is missing, and returns what it made, parents first.
func makeMountPoint(b bind) ([]string, error) {
	var missing []string
	for p := b.target; p != "/"; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("make the mount point %s: %w", b.target, err)
		}
		missing = append(missing, p)
	}
	slices.Reverse(missing)
	for i, p := range missing {
		var err error
		if b.file && p == b.target {
			err = os.WriteFile(p, nil, 0o644)
		} else {
			err = os.Mkdir(p, 0o755)
		}
		if err != nil {
			return missing[:i], fmt.Errorf("make the mount point %s: %w", b.target, err)
		}
	}
	return missing, nil
}

// removeMountPoints removes the paths that are still empty, children first.
func removeMountPoints(paths []string) error {
	sorted := slices.Sorted(slices.Values(paths))
	var errs []error
	for _, p := range slices.Backward(sorted) {
		st, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode().IsRegular() && st.Size() > 0 {
			continue
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove the mount point %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// otherClusters lists the clusters that are up on this machine besides the one called id.
func otherClusters(id string) ([]string, error) {
	mounts, err := mountsBelow(hostRunDir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range mounts {
		if filepath.Dir(m) == hostRunDir && filepath.Base(m) != id {
			ids = append(ids, filepath.Base(m))
		}
	}
	return ids, nil
}

// saveIfThere saves the record, unless it was deleted meanwhile (down --purge).
func (h *Host) saveIfThere() error {
	if _, err := os.Lstat(filepath.Join(h.cluster.DataDir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.cluster.Save()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
