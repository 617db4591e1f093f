package local

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/uuid"

	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
)

// bind is a path of the node that replaces a fixed path inside its mount namespace.
type bind struct {
	source string // below NodeDir
	target string // the fixed path
	file   bool   // otherwise a directory
}

// nodeMounts are the machine's files that a node sees, and those that it has for itself.
type nodeMounts struct {
	node    Node
	dir     string // of the node
	dataDir string // of the cluster
	noCNI   bool   // the user installs the pod network
}

// binds lists what else a node has for itself, in and beside its private directories. Kubelets, device plugins, shims
// and cAdvisor expect these paths.
func (m nodeMounts) binds() []bind {
	dir := m.dir
	binds := []bind{
		{source: filepath.Join(dir, "log"), target: "/var/log"},
		{source: filepath.Join(dir, "kubelet"), target: "/var/lib/kubelet"},
		{source: filepath.Join(dir, "run-containerd"), target: "/run/containerd"},
		{source: filepath.Join(dir, "run-netns"), target: "/run/netns"},
		{source: filepath.Join(dir, "etc-cni"), target: "/etc/cni"},
		{source: filepath.Join(dir, "opt-cni"), target: "/opt/cni/bin"},
		{source: filepath.Join(dir, "var-lib-cni"), target: "/var/lib/cni"},
		// Where the storage add-on keeps volumes.
		{source: filepath.Join(dir, "volumes"), target: "/opt/local-path-provisioner"},
		{source: filepath.Join(dir, "machine-id"), target: "/etc/machine-id", file: true},
		{source: filepath.Join(dir, "hostname"), target: "/etc/hostname", file: true},
	}
	if _, err := os.Stat(productID); err == nil {
		binds = append(binds, bind{source: filepath.Join(dir, "product-uuid"), target: productID, file: true})
	}
	if m.noCNI {
		// Where flannel writes the node's pod range, for its CNI plugin.
		binds = append(binds, bind{source: filepath.Join(dir, "run-flannel"), target: "/run/flannel"})
	}
	return binds
}

// productID is the file with the id of the machine's hardware, if it has one: nodes report it as their system's UUID.
const productID = "/sys/class/dmi/id/product_uuid"

// makeSources makes the sources of the node's binds. It keeps what exists: a node keeps its machine id and its logs.
func (m nodeMounts) makeSources() error {
	if _, err := datadir.ClaimWithin(m.dir, datadir.Agent); err != nil {
		return fmt.Errorf("node %s: %w", m.node.Name, err)
	}
	for _, b := range m.binds() {
		if b.file {
			continue
		}
		if err := os.MkdirAll(b.source, 0o700); err != nil {
			return fmt.Errorf("node %s: make its directory: %w", m.node.Name, err)
		}
	}
	// Pods that run as other users read logs and sockets below these, so they have the mode of the path that they
	// replace.
	for _, d := range []string{"log", "etc-cni", "opt-cni", "run-netns"} {
		if err := os.Chmod(filepath.Join(m.dir, d), 0o755); err != nil {
			return fmt.Errorf("node %s: %w", m.node.Name, err)
		}
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("node %s: make a machine id: %w", m.node.Name, err)
	}
	return errors.Join(
		writeIfMissing(filepath.Join(m.dir, "machine-id"), hex.EncodeToString(id)+"\n"),
		writeIfMissing(filepath.Join(m.dir, "product-uuid"), string(uuid.NewUUID())+"\n"),
		writeIfMissing(filepath.Join(m.dir, "hostname"), m.node.Name+"\n"))
}

// writeIfMissing writes a file that every process of the node may read, unless it has content already.
func writeIfMissing(file, content string) error {
	if st, err := os.Stat(file); err == nil && st.Size() > 0 {
		return nil
	}
	if err := atomicfile.Write(file, []byte(content)); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Chmod(file, 0o644)
}

// isolateMounts makes the calling thread's new mount namespace that of a node. Mounts of the host still appear in it,
// but its own do not appear on the host. It drops copies of other namespaces' pins, which would keep those namespaces
// alive.
func isolateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("separate the node's mounts from the host's: %w", err)
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("list the node's mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) {
		if m.FSType != "nsfs" && !below(m.Mountpoint, hostRunDir) {
			continue
		}
		// EINVAL: it went away together with a mount above it.
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unmount %s in the node: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// apply mounts, on the calling thread, the binds that are not in place, and makes all mounts inside the node shared:
// a container runtime refuses HostToContainer and Bidirectional volumes on other mounts. Each bind is private first,
// so that it gets a peer group of its own. In the peer group of its source, each volume of a pod would be mounted
// twice.
func (m nodeMounts) apply(binds []bind) error {
	for _, b := range binds {
		if isPrivate(b.target) {
			if err := makeTarget(b.target, b.file); err != nil {
				return fmt.Errorf("make the mount point %s in the node: %w", b.target, err)
			}
		}
		same, err := sameFile(b.source, b.target)
		if err != nil {
			return fmt.Errorf("look at %s in the node: %w", b.target, err)
		}
		if same {
			continue
		}
		if err := unix.Mount(b.source, b.target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s over %s in the node: %w", b.source, b.target, err)
		}
		if err := unix.Mount("", b.target, "", unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make %s private in the node: %w", b.target, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the node's mounts: %w", err)
	}
	return nil
}

func sameFile(a, b string) (bool, error) {
	sa, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	sb, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(sa, sb), nil
}

// unmountBelow unmounts everything at or below dir in this process's mount namespace.
func unmountBelow(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	left, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("still mounted below %s: %s; unmount them and try again", dir, strings.Join(left, ", "))
	}
	return nil
}

// UnmountData unmounts what is mounted inside the data directory, and returns where that was. Files on those disks
// stay. The data directory itself may be a disk of its own.
func (h *Host) UnmountData() ([]string, error) {
	mounts, err := mountsBelow(h.cluster.DataDir)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, m := range slices.Backward(mounts) {
		if m == h.cluster.DataDir || !below(m, h.cluster.DataDir) {
			continue
		}
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("unmount %s before its folder is deleted: %w; unmount it by hand, then try again", m, err)
		}
		done = append(done, m)
	}
	return done, nil
}

// mountsBelow lists the mount points at or below dir, in the order in which they were mounted.
func mountsBelow(dir string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var list []string
	for _, m := range mounts {
		list = append(list, m.Mountpoint)
	}
	return list, nil
}

// below reports whether path is dir or inside it. Both are clean and absolute.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
