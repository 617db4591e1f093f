package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories of the machine that each node has for itself. The node sees what the machine has there, and its own
// changes stay in the node: files of an agent do not collide with those of the same agent on another node, and are
// deleted with the node.

// privateDir is one of them: an overlay over the machine's own.
type privateDir struct {
	path  string
	below string // folder below NodeDir for the node's changes
}

// ownRun is new and empty in each node, as on a machine that has just started. Sockets of the machine are not there:
// a request to systemd or D-Bus in a node for a restart would otherwise restart the machine.
const ownRun = "/run"

func (m nodeMounts) privateDirs() []privateDir {
	own := func(path, name string) privateDir {
		return privateDir{path: path, below: filepath.Join(m.dir, "own", name)}
	}
	return []privateDir{own("/var/lib", "var-lib"), own("/opt", "opt"), own("/etc/kubernetes", "etc-kubernetes")}
}

// isPrivate reports whether a path inside a node is the node's own, so that mount points can be made there.
func isPrivate(path string) bool {
	for _, p := range (nodeMounts{}).privateDirs() {
		if below(path, p.path) && path != p.path {
			return true
		}
	}
	return below(path, ownRun) && path != ownRun
}

// kept is a directory of the machine that stays in the node, although one above it becomes the node's own.
type kept struct {
	path string
	fd   *os.File
}

// keep opens paths before anything is mounted over the directories above them. It leaves out paths that do not exist.
func keep(paths ...string) (list []kept, err error) {
	for _, p := range paths {
		f, err := os.OpenFile(p, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(list, kept{path: p, fd: f})
	}
	return list, nil
}

// restore mounts what was kept at its old path.
func (k kept) restore() error {
	st, err := k.fd.Stat()
	if err != nil {
		return err
	}
	if err := makeTarget(k.path, !st.IsDir()); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", k.fd.Fd()), k.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bring %s back: %w", k.path, err)
	}
	return nil
}

// makeTarget makes a mount point.
func makeTarget(path string, file bool) error {
	if !file {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountPrivate mounts the node's own directories in the calling thread's mount namespace.
func (m nodeMounts) mountPrivate() error {
	data, err := keep(m.dataDir)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	defer closeAll(data)
	for _, p := range m.privateDirs() {
		if err := p.mount(); err != nil {
			return fmt.Errorf("give the node its own %s: %w", p.path, err)
		}
		if below(m.dataDir, p.path) {
			if err := data[0].restore(); err != nil {
				return fmt.Errorf("give the node its own %s: %w", p.path, err)
			}
		}
	}
	if err := m.mountRun(data[0]); err != nil {
		return fmt.Errorf("give the node its own %s: %w", ownRun, err)
	}
	if err := mountSys(); err != nil {
		return fmt.Errorf("give the node its own /sys: %w", err)
	}
	return mountKernelSystems()
}

// mountSys replaces the machine's /sys with one that shows the node's network interfaces, and moves everything that
// the machine has mounted inside to it. It assembles that in the node's /run.
func mountSys() error {
	const sys, next = "/sys", ownRun + "/sys"
	mounts, err := mountsBelow(sys)
	if err != nil {
		return err
	}
	// Mounts inside of other mounts move with them.
	outer := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(mounts))), func(m string) bool {
		return m == sys || slices.ContainsFunc(mounts, func(o string) bool { return o != sys && o != m && below(m, o) })
	})
	if err := os.Mkdir(next, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", next, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for _, m := range outer {
		if err := unix.Mount(m, next+strings.TrimPrefix(m, sys), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("bring %s along: %w", m, err)
		}
	}
	if slices.Contains(mounts, sys) {
		if err := unix.Unmount(sys, unix.MNT_DETACH); err != nil {
			return err
		}
	}
	if err := unix.Mount(next, sys, "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(next)
}

func closeAll(list []kept) {
	for _, k := range list {
		k.fd.Close()
	}
}

// mount mounts the overlay. If the kernel cannot make one on these disks, the node gets a folder of its own instead,
// in which every entry of the machine's folder is mounted. The node then shares these entries with the machine, and
// has new ones for itself.
func (p privateDir) mount() error {
	st, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	for _, name := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(p.below, name), 0o755); err != nil {
			return err
		}
	}
	// The overlay's root has the mode of the upper folder.
	if err := os.Chmod(filepath.Join(p.below, "upper"), st.Mode().Perm()); err != nil {
		return err
	}
	// Relative, because a comma or colon in a path would end the option. The working directory belongs to this thread
	// alone.
	if err := os.Chdir(p.below); err != nil {
		return err
	}
	defer os.Chdir("/")
	err = unix.Mount("overlay", p.path, "overlay", 0, "lowerdir="+p.path+",upperdir=upper,workdir=work")
	if err == nil {
		return nil
	}
	return p.mountFolder()
}

// mountFolder is mount without an overlay.
func (p privateDir) mountFolder() error {
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return err
	}
	var list []kept
	defer func() { closeAll(list) }()
	var links []string
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			links = append(links, e.Name())
			continue
		}
		k, err := keep(filepath.Join(p.path, e.Name()))
		if err != nil {
			return err
		}
		list = append(list, k...)
	}
	folder := filepath.Join(p.below, "upper")
	for _, name := range links {
		to, err := os.Readlink(filepath.Join(p.path, name))
		if err != nil {
			return err
		}
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := unix.Mount(folder, p.path, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, k := range list {
		if err := k.restore(); err != nil {
			return err
		}
	}
	return nil
}

// mountRun mounts an empty /run, and brings back what a node needs from the machine's: the target of its resolver
// file, and what udev knows about the devices, which are the machine's.
func (m nodeMounts) mountRun(data kept) error {
	wanted := []string{"/run/udev"}
	if real, err := filepath.EvalSymlinks(resolverFile); err == nil && below(real, ownRun) {
		if dir := filepath.Dir(real); dir != ownRun {
			real = dir // because a program that writes the file replaces it
		}
		wanted = append(wanted, real)
	}
	list, err := keep(wanted...)
	if err != nil {
		return err
	}
	defer closeAll(list)
	if err := unix.Mount("run", ownRun, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(ownRun, "lock"), 0o755); err != nil {
		return err
	}
	if below(m.dataDir, ownRun) {
		list = append(list, kept{path: m.dataDir, fd: data.fd})
	}
	for _, k := range list {
		if err := k.restore(); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(ownRun, "lock"), 0o1777)
}

// mountKernelSystems mounts kernel file systems that each machine has for itself: shared memory, and the names of
// loaded eBPF objects.
func mountKernelSystems() error {
	for _, m := range []struct{ path, kind, options string }{
		{"/dev/shm", "tmpfs", "mode=1777"},
		{"/sys/fs/bpf", "bpf", "mode=700"},
	} {
		if _, err := os.Stat(m.path); err != nil {
			continue // this machine has none
		}
		err := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options)
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("mount the node's %s: %w", m.path, err)
		}
	}
	return nil
}
