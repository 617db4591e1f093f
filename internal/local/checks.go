package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/datadir"
)

// MinFreeBytes is the free disk space that Preflight asks for: images are unpacked once per node, and etcd stops on
// a full disk.
const MinFreeBytes = 1 << 30

// Preflight checks that this machine can host a cluster whose data is in dataDir. It changes nothing, except that it
// makes dataDir (mode 0700) and marks it if all is well: Undo of what it returns takes that back. The error joins one line for
// each failed check: what is missing, why it is needed, what to do.
func Preflight(ctx context.Context, dataDir string) (*datadir.Dir, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("everynode up needs root, because it makes namespaces, network links and mounts: run it with sudo; " +
			"or try simulated nodes, which do not need root: everynode up --nodes 0 --simulate 10")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return withDisk(dataDir, checkCapabilities(), checkKernel(), checkControllers(), checkPrograms(), checkSandbox())
}

// PreflightLoopback checks what a cluster on loopback needs. It does not need root.
func PreflightLoopback(dataDir string) (*datadir.Dir, error) {
	return withDisk(dataDir, checkKernel())
}

// withDisk claims the data directory and checks its disk. It takes the claim back if that or another check fails.
func withDisk(dataDir string, others ...error) (*datadir.Dir, error) {
	dir, err := datadir.Claim(dataDir, datadir.Up)
	if err != nil {
		return nil, errors.Join(append(others, err)...)
	}
	if err := errors.Join(append(others, checkDisk(dir.Path))...); err != nil {
		return nil, errors.Join(err, dir.Undo())
	}
	return dir, nil
}

// checkCapabilities finds a root user without the capabilities that nodes need, as in most containers.
func checkCapabilities() error {
	held, err := capabilities()
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}} {
		if !held(c.bit) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("root lacks %s here, which links and mounts need: run everynode on the machine itself, or in a privileged container",
			strings.Join(missing, " and "))
	}
	return nil
}

// capabilities returns a function that reports whether this process has a capability.
func capabilities() (held func(bit uint) bool, err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil, fmt.Errorf("read this process's capabilities: %w", err)
	}
	return func(bit uint) bool { return data[bit/32].Effective&(1<<(bit%32)) != 0 }, nil
}

func checkKernel() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("this kernel has no pidfds (%w): everynode needs Linux 5.3 or newer", err)
	}
	return unix.Close(fd)
}

// checkControllers checks the cgroup controllers without which a kubelet does not start.
func checkControllers() error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	has := map[string]bool{}
	if h.v2 {
		raw, err := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read the cgroup controllers: %w", err)
		}
		for _, c := range strings.Fields(string(raw)) {
			has[c] = true
		}
		return missingControllers(has, []string{"cpu", "cpuset", "memory", "pids"})
	}
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	for line := range strings.Lines(string(membership)) {
		if fields := strings.Split(line, ":"); len(fields) > 1 {
			for _, c := range strings.Split(fields[1], ",") {
				has[c] = true
			}
		}
	}
	return missingControllers(has, []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"})
}

func missingControllers(has map[string]bool, want []string) error {
	missing := slices.DeleteFunc(want, func(c string) bool { return has[c] })
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the kernel offers no cgroup controller %s, which kubelets need: enable it on the kernel's command line "+
		"(for memory: cgroup_enable=memory) and restart the machine", strings.Join(missing, ", "))
}

// checkPrograms looks for the programs that nodes call and that are not built with everynode.
func checkPrograms() error {
	var errs []error
	for _, p := range []struct{ name, why string }{{"runc", "containers are started"}, {"nft", "kube-proxy sets up service addresses"}} {
		if _, err := exec.LookPath(p.name); err != nil {
			pkg := map[string]string{"runc": "runc", "nft": "nftables"}[p.name]
			errs = append(errs, fmt.Errorf("the program %s, with which %s, is not on PATH: install it with: apt-get install %s", p.name, p.why, pkg))
		}
	}
	return errors.Join(errs...)
}

// checkDisk checks that the data directory is writable and has enough space.
func checkDisk(dir string) error {
	probe, err := os.CreateTemp(dir, ".writable.*")
	if err != nil {
		return fmt.Errorf("the data directory %s cannot be written: %w; choose another one with --data-dir", dir, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("the data directory %s cannot be written: %w", dir, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < MinFreeBytes {
		return fmt.Errorf("the disk of %s has %d MiB free, and a cluster needs %d: free some space, or choose another disk with --data-dir",
			dir, free>>20, MinFreeBytes>>20)
	}
	return nil
}

// checkSandbox makes one of each thing that a node consists of, in temporary namespaces.
func checkSandbox() error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID); err != nil {
			if errors.Is(err, unix.ENOSPC) {
				return fmt.Errorf("no more namespaces can be made (%w): raise the limits user.max_net_namespaces, "+
					"user.max_mnt_namespaces, user.max_uts_namespaces, user.max_ipc_namespaces and user.max_pid_namespaces with sysctl", err)
			}
			return fmt.Errorf("namespaces cannot be made (%w): run everynode on the machine itself, or in a privileged container", err)
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "ev-bridge"
		veth := netlink.NewLinkAttrs()
		veth.Name = "ev-veth"
		return errors.Join(
			feature("network bridges", "bridge", netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})),
			feature("virtual network links", "veth", netlink.LinkAdd(&netlink.Veth{LinkAttrs: veth, PeerName: "ev-peer"})),
			feature("nftables with masquerading", "nf_tables nft_masq nft_ct", tryFirewall()),
			trySlave())
	})
}

func tryFirewall() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	f := (&Cluster{ID: "000000", Subnet: subnetCandidates()[0], PodCIDR: podCandidates()[0]}).Host().firewall()
	table := conn.AddTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyIPv4})
	f.addMasquerade(conn, table)
	f.addForward(conn, table)
	return conn.Flush()
}

func trySlave() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounts cannot be changed (%w): run everynode on the machine itself, or in a privileged container", err)
	}
	return nil
}

func feature(what, modules string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("this kernel cannot make %s (%w): load its modules with: modprobe -a %s", what, err, modules)
}
