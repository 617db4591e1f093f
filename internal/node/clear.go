package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
	"everynode/internal/node/podnet"
	"everynode/internal/sysctl"
)

// clearMachine removes what the agent, its children and its pods have left on the
// machine outside the data directory, and restores kernel settings. Once the pods are
// killed, it tries every part even if another one fails.
func (l *leaver) clearMachine(ctx context.Context) error {
	if !l.started {
		return nil
	}
	done := l.Step()
	spaces, err := l.podNamespaces()
	if err != nil {
		return err
	}
	if err := l.killPods(ctx); err != nil {
		return err
	}
	err = errors.Join(
		l.removeNetwork(),
		l.unmount(spaces),
		l.removePaths(),
		l.removeCgroups(),
	)
	if boot, berr := bootID(); berr != nil {
		err = errors.Join(err, berr)
	} else if boot == l.record.BootID {
		warning, rerr := sysctl.Restore(l.record.Sysctls)
		if warning != "" {
			l.Warn("%s", warning)
		}
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fmt.Errorf("clean up this machine: %w; run everynode agent leave again for the rest", err)
	}
	done("removed rules, routes, links, mounts and cgroups; restored kernel settings")
	return nil
}

// removeNetwork removes rules, routes, and the bridge of the pods with the links on
// it.
func (l *leaver) removeNetwork() error {
	err := errors.Join(removeTables(), podnet.RemoveRoutes(l.cfg.Log))
	config := filepath.Join(l.cfg.cniConfigDir(), podnet.ConfigName)
	if !exists(config) {
		return err // the bridge of that name is another network's
	}
	if err = errors.Join(err, removeBridge(podnet.Bridge)); err != nil {
		return err
	}
	// This file shows that the bridge is everynode's, so it goes last.
	if err := os.Remove(config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the configuration of the pod network: %w", err)
	}
	return nil
}

// removeTables deletes the tables of the agent, of kube-proxy, and of the CNI
// plugin for host ports unless it has ports of others.
func removeTables() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Family != nftables.TableFamilyIPv4 && t.Family != nftables.TableFamilyIPv6 {
			continue
		}
		ours := t.Name == podnet.Table || t.Name == "kube-proxy"
		if t.Name == "cni_hostport" {
			ports, err := hostPorts(conn, t)
			if err != nil {
				return err
			}
			ours = ports == 0
		}
		if ours {
			conn.DelTable(t)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete nftables tables: %w", err)
	}
	return nil
}

// hostPorts counts the host ports in a table of the CNI plugin.
func hostPorts(conn *nftables.Conn, t *nftables.Table) (int, error) {
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return 0, fmt.Errorf("list nftables chains: %w", err)
	}
	ports := 0
	for _, c := range chains {
		if c.Table.Name != t.Name || c.Name != "hostports" && c.Name != "hostip_hostports" {
			continue
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return 0, fmt.Errorf("list the nftables rules of %s: %w", c.Name, err)
		}
		ports += len(rules)
	}
	return ports, nil
}

// removeBridge deletes a bridge, and this machine's ends of what is connected to it.
func removeBridge(name string) error {
	bridge, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the bridge %s: %w", name, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the links: %w", err)
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool {
		return l.Type() != "veth" || l.Attrs().MasterIndex != bridge.Attrs().Index
	})
	var errs []error
	for _, link := range append(links, bridge) {
		// ENODEV: it went away with its namespace.
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("delete the link %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// unmount unmounts volumes, containers' file systems, and the network namespaces
// of pods, which are files below /run/netns.
func (l *leaver) unmount(spaces []string) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		inside := inFolder(m.Mountpoint, kubeletRoot) || inFolder(m.Mountpoint, l.cfg.DataDir)
		return !inside && !slices.Contains(spaces, m.Mountpoint), false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		} else if m.Root == "/" && strings.HasPrefix(m.Source, "/dev/") { // a disk, and not a folder of one
			l.Warn("unmounted %s, and kept what is on %s", m.Mountpoint, m.Source)
		}
	}
	for _, file := range spaces {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a pod's network namespace: %w", err))
		}
	}
	return errors.Join(errs...)
}

// inFolder reports whether path is below dir. Both are clean and absolute.
func inFolder(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// removePaths deletes what lies outside the data directory. Folders that existed
// before the agent stay, with their contents. Folders that other programs may use as
// well are deleted when they are empty.
func (l *leaver) removePaths() error {
	made := func(path string) bool { return slices.Contains(l.record.Made, path) }
	var errs []error
	for _, dir := range []string{kubeletRoot, "/var/log/containers", "/var/log/pods"} {
		switch {
		case !exists(dir):
		case !made(dir):
			l.Warn("kept %s, which existed before the agent", dir)
		default:
			errs = append(errs, removeIn(filepath.Dir(dir), func(r *datadir.Remover) error { return r.Tree(filepath.Base(dir)) }))
		}
	}
	errs = append(errs, removeIn("/var/lib", func(r *datadir.Remover) error {
		return errors.Join(r.Files("cni/results", "everynode-*"), r.Folder("cni/results"))
	}))
	if made("/run/containerd") {
		errs = append(errs, removeDeadSockets("/run/containerd/s"), removeDeadSockets("/run/containerd"))
		for _, folder := range []string{"/run/containerd/s", "/run/containerd/fifo"} {
			errs = append(errs, removeEmpty(folder))
		}
	}
	for _, path := range l.record.Made {
		errs = append(errs, removeEmpty(path))
	}
	return errors.Join(errs...)
}

// removeIn calls do with a Remover for a folder.
func removeIn(folder string, do func(*datadir.Remover) error) error {
	r, err := datadir.Remove(folder)
	if err != nil {
		return err
	}
	return errors.Join(do(r), r.Close())
}

// removeEmpty deletes the empty folders in a folder, and then the folder itself if
// nothing is left in it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a folder of the agent: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeEmpty(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("delete %s: %w", dir, err)
	}
	return nil
}

// removeDeadSockets deletes the sockets in a folder on which nothing listens.
func removeDeadSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for sockets of shims: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Type() != fs.ModeSocket {
			continue
		}
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a socket of a shim: %w", err))
		}
	}
	return errors.Join(errs...)
}
