package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/node/podnet"
)

// runtimePrograms are the programs that RuntimeDir must contain, besides images/pause.tar.
func runtimePrograms() []string {
	return []string{"containerd", "containerd-shim-runc-v2", "bridge", "host-local", "loopback", "portmap"}
}

// machine is what the agent finds out about its machine.
type machine struct {
	runc        string // path of runc
	cgroupV2    bool
	sysResource bool   // this process has CAP_SYS_RESOURCE: it may lower OOM scores
	snapshotter string // overlayfs, or native where overlay mounts do not work
}

// checkSuperuser checks for root on Linux. It comes first, because without root the other
// checks mean nothing.
func checkSuperuser() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("a node needs Linux, but this is %s: run the agent on a Linux machine", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a node needs root, to make containers and networks: run the command with sudo")
	}
	return nil
}

// preflight finds out what the machine has. It reports all that is missing at once, each
// with what to do.
func preflight(ctx context.Context, cfg Config) (machine, error) {
	var m machine
	var errs []error
	m.cgroupV2 = isCgroupV2()
	errs = append(errs, checkControllers(cgroupMount, m.cgroupV2))
	if cfg.CNI != podnet.None {
		errs = append(errs, checkBridge())
	}
	if _, err := findProgram("nft", "nftables"); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, checkNftables(ctx))
	}
	if !cfg.NoKubeProxy {
		errs = append(errs, checkProtocols("/etc/protocols"))
	}
	if cfg.ContainerRuntimeEndpoint == "" {
		runc, err := findProgram("runc", "runc")
		m.runc = runc
		errs = append(errs, err, checkRuntimeDir(cfg.RuntimeDir))
		m.snapshotter = chooseSnapshotter(cfg)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		errs = append(errs, fmt.Errorf("read this process' capabilities: %w; is /proc mounted?", err))
	}
	m.sysResource = hasCapability(string(status), unix.CAP_SYS_RESOURCE)
	return m, errors.Join(errs...)
}

func findProgram(name, debianPackage string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not on PATH, and a node needs it: apt-get install %s", name, debianPackage)
	}
	return path, nil
}

func checkRuntimeDir(dir string) error {
	var missing []string
	for _, name := range append(runtimePrograms(), filepath.Join("images", "pause.tar")) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("runtime directory %s lacks %s: build it with `make build`, or say where it is with --runtime-dir", dir, strings.Join(missing, ", "))
	}
	return nil
}

// checkNftables asks the kernel, through the same program that kube-proxy uses.
func checkNftables(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "nft", "list", "tables").CombinedOutput()
	if err != nil {
		return fmt.Errorf("nft cannot talk to the kernel: %w: %s; a node needs a kernel with nf_tables (modprobe nf_tables)", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// checkProtocols checks that file has the name of the protocol tcp. kube-proxy reads its
// own rules back through nft, which takes names from there. If nft prints a number
// instead, a kube-proxy that restarts takes all services for leftovers, and deletes them.
func checkProtocols(file string) error {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the names of protocols: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "tcp" && fields[1] == "6" {
			return nil
		}
	}
	return fmt.Errorf("%s does not name the protocol tcp, which kube-proxy needs to recognize its own rules after a restart: apt-get install netbase", file)
}

// checkBridge makes a bridge and removes it again. No other check works both for kernels
// with built-in support and for those with modules.
func checkBridge() error {
	if _, err := netlink.LinkByName(podnet.Bridge); err == nil {
		return nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "evprobe" + strconv.Itoa(os.Getpid()%10000)
	probe := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(probe); err != nil {
		return fmt.Errorf("make a network bridge, to which pods connect: %w; a node needs a kernel with bridge support (modprobe bridge) and CAP_NET_ADMIN", err)
	}
	if err := netlink.LinkDel(probe); err != nil {
		return fmt.Errorf("remove the test bridge %s: %w", attrs.Name, err)
	}
	return nil
}

// chooseSnapshotter tries an overlay mount where containerd will make them.
func chooseSnapshotter(cfg Config) string {
	if err := overlayutils.Supported(cfg.files().path("containerd")); err != nil {
		cfg.Log.Warn("overlay mounts do not work here; containers get full copies of their images", "dir", cfg.DataDir, "err", err)
		return "native"
	}
	return "overlayfs"
}

// hasCapability reports whether the text of /proc/PID/status has a capability in its
// effective set.
func hasCapability(status string, capability uint) bool {
	for line := range strings.Lines(status) {
		value, found := strings.CutPrefix(line, "CapEff:")
		if !found {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		return err == nil && bits&(1<<capability) != 0
	}
	return false
}
