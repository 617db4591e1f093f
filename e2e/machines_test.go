package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// testPrefix begins the names of everything that the tests make on the machine.
const testPrefix = "evt-"

// powerOn gives the process that runs it what a machine has only one of: a network, a
// host name, and the folders in which programs keep their state. The process, and the
// machine with it, lives until it is killed.
const powerOn = `
for dir in /run /var/lib /var/log /opt; do
	mkdir -p "$mine$dir"
done
[ -d "$mine/etc" ] || cp -a /etc "$mine/etc"
[ ! -d /run/systemd/resolve ] || { mkdir -p "$mine/run/systemd" && cp -a /run/systemd/resolve "$mine/run/systemd/"; }
for dir in /etc /run /var/lib /var/log /opt; do
	mount --bind "$mine$dir" "$dir"
done
mount --make-rshared /
hostname "$name"
echo on
exec sleep infinity
`

// onMachine is the program with which scripts run programs on a machine: on NAME
// PROGRAM ARGS...
const onMachine = `#!/bin/sh
pid=$(cat "$WORK/.machines/$1") || exit
shift
exec nsenter --target "$pid" --net --mount --uts -- "$@"
`

// machine makes what stands for one more machine, with a network interface at this
// address. All machines of a script are on one bridge. This machine is at the first
// address of their network and is their default gateway. They are removed when the
// script ends. Pods run in the cgroup /evt-NAME, because the kernel is shared.
func machine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: machine NAME ADDRESS/BITS")
	}
	c, name := clusterOf(ts), testPrefix+args[0]
	address, err := netlink.ParseAddr(args[1])
	ts.Check(err)
	bridge, err := ensureTestBridge(ts, address.IPNet)
	ts.Check(err)
	ts.Defer(func() {
		err := errors.Join(stopBackground(ts), c.killEverything(), removeTestCgroup(name), disconnectMachine(name), c.restoreSysctls())
		if err != nil {
			c.t.Errorf("remove the machine %s: %v", name, err)
		}
	})
	ts.Check(connectMachine(name, bridge, address))
	ts.Check(startMachine(ts, args[0], filepath.Join(c.workDir, args[0])))
}

// startMachine starts the process that keeps the machine's namespaces alive. Its
// arguments name the script's folder, so killEverything finds it.
func startMachine(ts *testscript.TestScript, name, dir string) error {
	cmd := exec.Command("nsenter", "--net=/run/netns/"+testPrefix+name,
		"unshare", "--mount", "--uts", "--propagation", "private", "sh", "-eu", "-c", powerOn, dir)
	cmd.Env = append(os.Environ(), "name="+name, "mine="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the machine %s: %w", name, err)
	}
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // it was killed
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "on\n" {
		return fmt.Errorf("the machine %s does not come up: %q, %w", name, line, err)
	}
	pids := filepath.Join(clusterOf(ts).workDir, ".machines")
	if err := os.MkdirAll(pids, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pids, name), []byte(fmt.Sprint(cmd.Process.Pid)), 0o644)
}

// onMachine calls look on a thread that is in the network and mount namespaces of a
// script's machine, with a process of that machine.
func (c *cluster) onMachine(name string, look func(pid int) error) error {
	text, err := os.ReadFile(filepath.Join(c.workDir, ".machines", name))
	if err != nil {
		return fmt.Errorf("there is no machine %s: %w", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("the machine %s: %w", name, err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := enterMachine(pid)
		if err == nil {
			err = look(pid)
		}
		done <- err
	}()
	return <-done
}

// enterMachine moves the calling thread into the namespaces of a process.
func enterMachine(pid int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("separate a thread from its process: %w", err)
	}
	kinds := []string{"net", "mnt"}
	var files []*os.File
	for _, kind := range kinds {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
	}
	for i, f := range files {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("enter the %s namespace of process %d: %w", kinds[i], pid, err)
		}
	}
	return nil
}

// processesWith lists the processes that share the mounts or the network of another
// one, and the processes of their pods, which have mounts of their own.
func processesWith(pid int) ([]string, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	inside := map[int]bool{}
	for _, other := range all {
		for _, kind := range []string{"net", "mnt"} {
			if same, err := sameNamespace(pid, other, kind); err == nil && same {
				inside[other] = true
			}
		}
	}
	var names []string
	for _, other := range all {
		for p, depth := other, 0; p > 1 && depth < 64; p, depth = parent(p), depth+1 {
			// Programs that other steps of the script run do not belong to the machine.
			if inside[p] && p != os.Getpid() {
				names = append(names, fmt.Sprintf("%d %s", other, strings.Join(arguments(other), " ")))
				break
			}
		}
	}
	return names, nil
}

func sameNamespace(a, b int, kind string) (bool, error) {
	first, err := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", a, kind))
	if err != nil {
		return false, err
	}
	second, err := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", b, kind))
	return err == nil && os.SameFile(first, second), err
}

// ensureTestBridge makes the bridge of the script's machines unless it exists.
func ensureTestBridge(ts *testscript.TestScript, network *net.IPNet) (netlink.Link, error) {
	const name = testPrefix + "net"
	if l, err := netlink.LinkByName(name); err == nil {
		return l, nil
	}
	gateway := &net.IPNet{IP: network.IP.Mask(network.Mask), Mask: network.Mask}
	gateway.IP[len(gateway.IP)-1]++
	return addTestBridge(ts, name, gateway)
}

// addTestBridge makes a bridge with an address. It goes when the script ends.
func addTestBridge(ts *testscript.TestScript, name string, address *net.IPNet) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make the bridge %s: %w", name, err)
	}
	c := clusterOf(ts)
	ts.Defer(func() {
		if err := netlink.LinkDel(bridge); err != nil {
			c.t.Errorf("remove the bridge %s: %v", name, err)
		}
	})
	err := errors.Join(netlink.AddrAdd(bridge, &netlink.Addr{IPNet: address}), netlink.LinkSetUp(bridge))
	if err != nil {
		return nil, fmt.Errorf("set up the bridge %s: %w", name, err)
	}
	return netlink.LinkByName(name)
}

// connectMachine makes the namespace and its interface, with a route out over the
// bridge.
func connectMachine(name string, bridge netlink.Link, address *netlink.Addr) error {
	space, err := newNamespace(name)
	if err != nil {
		return fmt.Errorf("make the network namespace %s: %w", name, err)
	}
	defer space.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = name, bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(space))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("connect %s: %w", name, err)
	}
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return fmt.Errorf("look into %s: %w", name, err)
	}
	defer h.Close()
	for _, link := range []string{"lo", "eth0"} {
		l, err := h.LinkByName(link)
		if err == nil && link == "eth0" {
			err = h.AddrAdd(l, address)
		}
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("set up %s of %s: %w", link, name, err)
		}
	}
	gateway := slices.Clone(address.IP.Mask(address.Mask))
	gateway[len(gateway)-1]++
	if err := h.RouteAdd(&netlink.Route{Gw: gateway}); err != nil {
		return fmt.Errorf("make the way out of %s: %w", name, err)
	}
	return nil
}

// disconnectMachine removes the namespace and its interface. The kernel would remove
// the interface by itself, but only some time later.
func disconnectMachine(name string) error {
	var errs []error
	if l, err := netlink.LinkByName(name); err == nil {
		errs = append(errs, netlink.LinkDel(l))
	}
	return errors.Join(append(errs, netns.DeleteNamed(name))...)
}

// newNamespace makes a named network namespace. Making one also enters it, so this
// uses a thread that ends with the goroutine.
func newNamespace(name string) (netns.NsHandle, error) {
	type result struct {
		space netns.NsHandle
		err   error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread()
		space, err := netns.NewNamed(name)
		made <- result{space, err}
	}()
	r := <-made
	return r.space, r.err
}

// stopBackground interrupts what the script still runs in the background, and waits for
// it to end: a script that failed did not reach the lines that do this.
func stopBackground(ts *testscript.TestScript) error {
	var errs []error
	for _, cmd := range ts.BackgroundCmds() {
		errs = append(errs, signalAndWait([]int{cmd.Process.Pid}, unix.SIGINT))
	}
	return errors.Join(errs...)
}

// restoreSysctls restores the kernel's settings: a kubelet on a machine of its own
// changes some permanently.
func (c *cluster) restoreSysctls() error {
	now, err := sysctls()
	errs := []error{err}
	for name, value := range now {
		if was, ok := c.before.sysctls[name]; ok && was != value {
			errs = append(errs, os.WriteFile(filepath.Join("/proc/sys", name), []byte(was), 0))
		}
	}
	return errors.Join(errs...)
}

// link gives this machine one more network interface.
func link(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: link NAME ADDRESS/BITS")
	}
	address, err := netlink.ParseAddr(args[1])
	ts.Check(err)
	_, err = addTestBridge(ts, testPrefix+args[0], address.IPNet)
	ts.Check(err)
}

// removeTestCgroup kills what runs in the cgroups of that name and removes them.
func removeTestCgroup(name string) error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		return err
	}
	if v2 := "/sys/fs/cgroup/" + name; exists(v2) {
		roots = append(roots, v2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var errs []error
		for _, root := range roots {
			errs = append(errs, emptyCgroup(root))
		}
		if err := errors.Join(errs...); err == nil || ctx.Err() != nil {
			return err
		}
		<-tick.C
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// emptyCgroup kills every process below root, and removes the cgroups that have become
// empty, children first.
func emptyCgroup(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // it has gone meanwhile
	})
	var pids []int
	for _, dir := range dirs {
		text, readErr := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if readErr != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			var pid int
			if _, scanErr := fmt.Sscan(field, &pid); scanErr == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	err = errors.Join(err, killAndWait(pids))
	for _, dir := range slices.Backward(dirs) {
		if rmErr := syscall.Rmdir(dir); rmErr != nil && !errors.Is(rmErr, syscall.ENOENT) {
			err = errors.Join(err, fmt.Errorf("remove the cgroup %s: %w", dir, rmErr))
		}
	}
	return err
}
