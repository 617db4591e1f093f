package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// outsideNetwork is an environment variable that is set in the process that has a network of its own. It names the file of the
// machine's network, for the few programs that download something: nsenter --net=FILE.
const outsideNetwork = "EVERYNODE_TEST_OUTSIDE"

const (
	uplinkName    = testPrefix + "uplink"
	farEndName    = testPrefix + "far"
	uplinkAddress = "198.18.0.2/30" // from the range for benchmarks, RFC 2544, which nobody routes
	uplinkGateway = "198.18.0.1"
)

// wantsOwnNetwork reports whether the tests have to start again in a network of their own. What they assert about links, routes,
// ports and firewall rules would otherwise depend on the machine, and their addresses could cut the machine off from its network.
// Without root no test makes nodes, and there is nothing to keep apart.
func wantsOwnNetwork() bool {
	return runtime.GOOS == "linux" && os.Geteuid() == 0 && os.Getenv(outsideNetwork) == ""
}

// aloneLock is a lock that each run of tests with nodes holds while it works, whatever checkout it is from (tools/test). The
// nodes of two runs would have the same cgroups and files, and each run would find the other's changes to the machine.
const aloneLock = "/tmp/everynode-tests.lock"

// waitToBeAlone takes the lock and holds it for as long as the returned file is open. If tools/test holds it already, the file
// is nil.
func waitToBeAlone() (*os.File, error) {
	if os.Getenv("EVERYNODE_TESTS_ALONE") != "" {
		return nil, nil
	}
	f, err := os.OpenFile(aloneLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return f, nil
	}
	fmt.Fprintf(os.Stderr, "waiting for the tests of another checkout, which have nodes on this machine (%s)\n", aloneLock)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", aloneLock, err), f.Close())
	}
	return f, nil
}

// runInOwnNetwork runs this program again, with the same arguments, in a network that ends with it, and returns its exit code.
// The mounts stay those of the machine: through them clusters know about each other, and which one is the last to go.
func runInOwnNetwork() (int, error) {
	lock, err := waitToBeAlone()
	if err != nil {
		return 0, err
	}
	defer lock.Close()     // does nothing if lock is nil
	runtime.LockOSThread() // the child is killed when the thread that started it ends
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=/proc/%d/ns/net", outsideNetwork, os.Getpid()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// In a process group of its own: otherwise it would get twice what a terminal sends to the whole group.
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Setpgid: true, Pdeathsig: unix.SIGKILL}
	told := make(chan os.Signal, 8)
	signal.Notify(told, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the tests in a network of their own: %w", err)
	}
	go func() {
		for s := range told {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// prepareOwnNetwork gives an empty network what programs expect of a machine's: the loopback, an address, and a default route,
// which leads nowhere. It removes what tests that were killed have left.
func prepareOwnNetwork() error {
	left, err := filepath.Glob("/run/netns/" + testPrefix + "*")
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := netns.DeleteNamed(filepath.Base(name)); err != nil {
			return fmt.Errorf("remove the network %s, which an earlier run has left: %w", name, err)
		}
	}
	return setUpLinks()
}

func setUpLinks() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look for the loopback: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = uplinkName
	uplink := &netlink.Veth{LinkAttrs: attrs, PeerName: farEndName} // a kind of link that nodes need as well: not every kernel has dummy links
	if err := netlink.LinkAdd(uplink); err != nil {
		return fmt.Errorf("make the link %s: %w", uplinkName, err)
	}
	address, err := netlink.ParseAddr(uplinkAddress)
	if err != nil {
		return err
	}
	farEnd, err := netlink.LinkByName(farEndName)
	if err != nil {
		return fmt.Errorf("look for the link %s: %w", farEndName, err)
	}
	for _, step := range []func() error{
		func() error { return netlink.LinkSetUp(loopback) },
		func() error { return netlink.AddrAdd(uplink, address) },
		func() error { return netlink.LinkSetUp(uplink) },
		func() error { return netlink.LinkSetUp(farEnd) },
		func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(uplinkGateway)}) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("set up the tests' own network: %w", err)
		}
	}
	return nil
}

// isProgramOfScripts reports whether this process is a program that scripts run, not the tests.
func isProgramOfScripts() bool { return filepath.Base(os.Args[0]) == etcdMemberName }
