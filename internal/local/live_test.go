package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// needMachine skips a test that changes the machine if that is impossible.
func needMachine(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out of make check: it changes this machine")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces, links, mounts and cgroups on this machine")
	}
	if err := checkSandbox(); err != nil {
		t.Skipf("needs a machine that can hold nodes: %v", err)
	}
}

// upCluster makes a cluster of two nodes, and fails the test if removing the cluster leaves anything behind.
func upCluster(t *testing.T) *Cluster {
	t.Helper()
	needMachine(t)
	c, err := Create(filepath.Join(t.TempDir(), "data"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.InitProgram = buildInit(t)
	before := takeSnapshot(t, c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testLimit)
		defer cancel()
		for _, n := range c.Nodes {
			if err := c.Host().RemoveNode(ctx, n.Name, true); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Host().Remove(ctx); err != nil {
			t.Error(err)
		}
		after := takeSnapshot(t, c)
		if before.Sysctls == nil || after.Sysctls == nil { // another cluster was up before or after
			before.Paths, before.Sysctls, after.Paths, after.Sysctls = nil, nil, nil, nil
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the machine is not as it was (-before +after):\n%s", diff)
		}
		if _, err := c.Host().Remove(ctx); err != nil {
			t.Errorf("the second RemoveHost: %v", err)
		}
		if _, err := os.Stat(c.NodeDir("node-1")); len(c.Nodes) > 0 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("purge left the node's directory: %v", err)
		}
	})
	if err := c.Host().Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node-1", "node-2"} {
		if _, err := c.AddNode(name, Size{}); err != nil {
			t.Fatal(err)
		}
		if err := c.Host().EnsureNode(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshot is what a cluster may change on a machine.
type snapshot struct {
	Mounts, Links, Tables, Cgroups, Routes, Paths []string
	Sysctls                                       map[string]string
}

// takeSnapshot leaves out what other clusters, in tests that run at the same time, may be doing.
func takeSnapshot(t *testing.T, c *Cluster) snapshot {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var s snapshot
	mounts, err := mountinfo.GetMounts(nil)
	must(err)
	for _, m := range mounts {
		if below(m.Mountpoint, c.runDir()) || below(m.Mountpoint, filepath.Dir(c.DataDir)) {
			s.Mounts = append(s.Mounts, m.Mountpoint)
		}
	}
	links, err := whole(netlink.LinkList)
	must(err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, c.Bridge()) {
			s.Links = append(s.Links, l.Attrs().Name)
		}
	}
	ranges, err := hostRanges("")
	must(err)
	for _, r := range ranges {
		if r.prefix.Overlaps(c.Subnet) || r.prefix.Overlaps(c.PodCIDR) {
			s.Routes = append(s.Routes, r.what)
		}
	}
	conn, err := nftables.New()
	must(err)
	tables, err := conn.ListTables()
	must(err)
	for _, table := range tables {
		if strings.Contains(table.Name, c.ID) {
			s.Tables = append(s.Tables, table.Name)
		}
	}
	s.Cgroups, err = filepath.Glob("/sys/fs/cgroup/*/everynode-" + c.ID)
	must(err)
	others, err := otherClusters(c.ID)
	must(err)
	if len(others) > 0 {
		t.Logf("clusters %v are up, too: settings and mount points of the machine are not compared", others)
		return s
	}
	s.Paths, s.Sysctls = hostState(t, c)
	return s
}

// hostState lists which of the paths that nodes mount over exist, and the settings that clusters change.
func hostState(t *testing.T, c *Cluster) (paths []string, sysctls map[string]string) {
	t.Helper()
	for _, b := range c.Host().mountPoints() {
		for p := b.target; p != "/"; p = filepath.Dir(p) {
			if _, err := os.Stat(p); err == nil {
				paths = append(paths, p)
			}
		}
	}
	forwarding, err := sysctl.Forwarding()
	if err != nil {
		t.Fatal(err)
	}
	sysctls = map[string]string{}
	for _, s := range append(sysctl.OfNode(), forwarding...) {
		if sysctls[s.Name], err = sysctl.Read(s.Name); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range sharedLimits() {
		if sysctls[l.name], err = sysctl.Read(l.name); err != nil {
			t.Fatal(err)
		}
	}
	return paths, sysctls
}

// run starts a command inside a node, with Enter in a child process, and returns its output.
func run(t *testing.T, c *Cluster, node string, argv ...string) string {
	t.Helper()
	out, err := enterCommand(t, c, node, argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v in %s: %v\n%s", argv, node, err, out)
	}
	return strings.TrimSpace(string(out))
}

func enterCommand(t *testing.T, c *Cluster, node string, argv ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--pid=" + c.PIDNamespace(node), exe, c.PinDir(node), c.SystemCgroup(node)}, argv...)...)
	cmd.Env = append(os.Environ(), childEnv+"=enter")
	return cmd
}

func TestEnterIsInsideTheNode(t *testing.T) {
	c := upCluster(t)
	got := run(t, c, "node-1", "sh", "-c", "hostname; cat /etc/hostname; cat /etc/machine-id; pwd; cat /proc/self/cgroup")
	lines := strings.Split(got, "\n")
	if lines[0] != "node-1" || lines[1] != "node-1" {
		t.Errorf("host name and /etc/hostname are %q", lines[:2])
	}
	if len(lines[2]) != 32 {
		t.Errorf("machine id is %q, want 32 hex digits", lines[2])
	}
	if lines[3] != "/" {
		t.Errorf("working directory is %q", lines[3])
	}
	if !memberOf(got, c.SystemCgroup("node-1")) {
		t.Errorf("not in the cgroup %s:\n%s", c.SystemCgroup("node-1"), got)
	}
	if a, b := run(t, c, "node-1", "cat", "/etc/machine-id"), run(t, c, "node-2", "cat", "/etc/machine-id"); a == b {
		t.Errorf("both nodes have the machine id %s", a)
	}
	run(t, c, "node-1", "sh", "-c", "echo hello > /var/log/from-node-1")
	if _, err := os.Stat("/var/log/from-node-1"); err == nil {
		t.Error("a node's /var/log is the host's")
	}
	if raw, err := os.ReadFile(filepath.Join(c.NodeDir("node-1"), "log", "from-node-1")); err != nil || string(raw) != "hello\n" {
		t.Errorf("the node's log directory has %q, %v", raw, err)
	}
	if got := run(t, c, "node-2", "ls", "/var/log"); got != "" {
		t.Errorf("node-2 sees %q in /var/log", got)
	}
	err := enterCommand(t, c, "node-9", "true").Run()
	if err == nil {
		t.Error("Enter went into a node that is not there")
	}
}

// Mounts made inside a node are shared inside, not seen anywhere else, and mounted once. Pins of other nodes are not
// there.
func TestMountPropagation(t *testing.T) {
	c := upCluster(t)
	table := run(t, c, "node-2", "sh", "-c", "mkdir /var/lib/kubelet/vol && mount -t tmpfs volume /var/lib/kubelet/vol && cat /proc/self/mountinfo")
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
	if err != nil {
		t.Fatal(err)
	}
	volumes := 0
	for _, m := range mounts {
		if !strings.Contains(m.Optional, "shared:") {
			t.Errorf("%s is not shared inside: %q", m.Mountpoint, m.Optional)
		}
		if m.FSType == "nsfs" || below(m.Mountpoint, hostRunDir) {
			t.Errorf("%s (%s) is in the node", m.Mountpoint, m.FSType)
		}
		if m.Source == "volume" {
			volumes++
		}
	}
	if volumes != 1 {
		t.Errorf("the volume is mounted %d times inside", volumes)
	}
	if got := run(t, c, "node-2", "grep", "-c", " - tmpfs volume ", "/proc/self/mountinfo"); got != "1" {
		t.Errorf("the mount did not outlive its process: %s", got)
	}
	for _, where := range []string{run(t, c, "node-1", "cat", "/proc/self/mountinfo"), readAll(t, "/proc/self/mountinfo")} {
		if strings.Contains(where, "- tmpfs volume ") {
			t.Error("the mount left the node")
		}
	}
}

func readAll(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	c := upCluster(t)
	look := func() []string {
		var list []string
		for _, n := range c.Nodes {
			for _, p := range append(pinsIn(c.PinDir(n.Name)), pidPin(c.PinDir(n.Name))) {
				var st unix.Stat_t
				if err := unix.Stat(p.file, &st); err != nil {
					t.Fatal(err)
				}
				list = append(list, fmt.Sprintf("%s %s %d", n.Name, p.kind, st.Ino))
			}
			// The only IPv6 address is the one that the kernel gives the link, which is tentative at first. So only
			// IPv4 addresses are compared.
			list = append(list, run(t, c, n.Name, "sh", "-c", "cut -d' ' -f1-5,7- /proc/self/mountinfo; ip -o link; ip -o -4 addr; ip route; cat /etc/machine-id"))
		}
		bridge, err := netlink.LinkByName(c.Bridge())
		if err != nil {
			t.Fatal(err)
		}
		return append(list, fmt.Sprint(bridge.Attrs().Index, bridge.Attrs().HardwareAddr), readAll(t, filepath.Join(hostRunDir, "host.json")))
	}
	before := look()
	if err := c.Host().Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := c.Host().EnsureNode(t.Context(), n.Name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("the second run changed something (-before +after):\n%s", diff)
	}
}

// EnsureNode restores any part of a node that is missing.
func TestEnsureRepairs(t *testing.T) {
	c := upCluster(t)
	n := c.Nodes[0]
	pins := pinsIn(c.PinDir(n.Name))
	damage := map[string]func() error{
		"a pin":              pins[0].release,
		"the mount pin":      pins[len(pins)-1].release,
		"the power":          func() error { return killInit(c, n.Name) },
		"all pins":           func() error { return c.Host().namespaces(n).release() },
		"the link":           func() error { return deleteLinks(func(l string) bool { return l == c.Host().network().hostLink(n) }) },
		"the bridge":         func() error { return deleteLinks(func(l string) bool { return l == c.Bridge() }) },
		"the table":          c.Host().firewall().remove,
		"a bind":             func() error { return inNamespaces(pins, func() error { return unix.Unmount("/var/log", 0) }) },
		"the address inside": func() error { _, err := enterCommand(t, c, n.Name, "ip", "addr", "flush", "eth0").Output(); return err },
		"the cgroups":        func() error { return c.Host().KillAll(t.Context(), n.Name) },
	}
	for what, breakIt := range damage {
		if err := breakIt(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := c.Host().Ensure(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, n := range c.Nodes {
			if err := c.Host().EnsureNode(t.Context(), n.Name); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if ok, err := c.Host().NodeReady(n.Name); err != nil || !ok {
			t.Errorf("%s: NodeReady = %v, %v", what, ok, err)
		}
		run(t, c, n.Name, "sh", "-c", "test $(hostname) = node-1 && test -d /var/log && grep -q ' /var/log ' /proc/self/mountinfo")
		checkTCP(t, what, inNode(c, "node-2"), inNode(c, "node-1"), n.Address, true)
		checkTCP(t, what, inNode(c, "node-1"), onHost, c.Gateway, true)
	}
}

// Namespaces, and mounts inside, outlive every process. Killing reaches processes that left their parent and session.
func TestKillAll(t *testing.T) {
	c := upCluster(t)
	if err := writeCgroupsForTest(c); err != nil {
		t.Fatal(err)
	}
	const marker = "31415.9265" // seconds: finds this test's processes, wherever they are
	cmd := enterCommand(t, c, "node-1", "sh", "-c", "sleep "+marker+" & (setsid sh -c 'sleep "+marker+" & trap \"\" TERM; sleep "+marker+"' &) ; wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := enterCommand(t, c, "node-2", "sleep", marker)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	pod := exec.Command("sleep", marker)
	if err := pod.Start(); err != nil {
		t.Fatal(err)
	}
	if err := joinCgroup(c.PodCgroup("node-1")+"/kubepods", pod.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if err := waitFor(ctx, func() (bool, error) { return len(findProcesses(t, marker)) == 7, nil }); err != nil {
		t.Fatalf("processes %v: %v", findProcesses(t, marker), err)
	}
	if err := c.Host().KillAll(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the node's process ended by itself")
	}
	if err := pod.Wait(); err == nil {
		t.Error("the pod's process ended by itself")
	}
	if left := findProcesses(t, marker); len(left) != 1 {
		t.Errorf("processes %v are left, want node-2's only (of %d)", left, other.Process.Pid)
	}
	if err := c.Host().KillAll(ctx, "node-1"); err != nil {
		t.Errorf("the second KillAll: %v", err)
	}
	if ok, err := allPinned(pinsIn(c.PinDir("node-1"))); err != nil || !ok {
		t.Errorf("the namespaces did not outlive their processes: %v, %v", ok, err)
	}
	if ok, err := c.Host().NodeReady("node-1"); err != nil || ok {
		t.Errorf("NodeReady without a first process: %v, %v", ok, err)
	}
	if err := c.Host().EnsureNode(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, c, "node-1", "hostname"); got != "node-1" {
		t.Errorf("after KillAll the host name is %q", got)
	}
	if err := c.Host().RemoveNode(ctx, "node-2", false); err != nil {
		t.Error(err)
	}
	if err := other.Wait(); err == nil {
		t.Error("node-2's process ended by itself")
	}
	if _, err := os.Stat(filepath.Join(c.NodeDir("node-2"), "machine-id")); err != nil {
		t.Errorf("a node that is removed without purge lost its identity: %v", err)
	}
}

// writeCgroupsForTest makes a cgroup such as a kubelet makes below the node's.
func writeCgroupsForTest(c *Cluster) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	for _, m := range h.mounts {
		dir := filepath.Join(m, c.PodCgroup("node-1"), "kubepods")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := h.prepare(dir); err != nil {
			return err
		}
	}
	return nil
}

// findProcesses lists the sleep processes with that argument, and the shells that start them.
func findProcesses(t *testing.T, marker string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil && (string(raw) == "sleep\x00"+marker+"\x00" || strings.HasPrefix(string(raw), "sh\x00") && strings.Contains(string(raw), marker)) {
			var pid int
			if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// place runs a function in some network namespace.
type place func(fn func() error) error

func onHost(fn func() error) error { return fn() }

func inNode(c *Cluster, name string) place {
	return func(fn func() error) error { return inNamespaces(pinsIn(c.PinDir(name))[:1], fn) }
}

// checkTCP lets from connect to an address of to. It returns the address that to sees.
func checkTCP(t *testing.T, what string, from, to place, addr netip.Addr, want bool) netip.Addr {
	t.Helper()
	var server net.Listener
	err := to(func() (err error) { server, err = net.Listen("tcp4", netip.AddrPortFrom(addr, 0).String()); return err })
	if err != nil {
		t.Errorf("%s: listen: %v", what, err)
		return netip.Addr{}
	}
	defer server.Close()
	limit := 5 * time.Second
	if !want {
		limit = 300 * time.Millisecond
	}
	var client net.Conn
	err = from(func() (err error) { client, err = net.DialTimeout("tcp4", server.Addr().String(), limit); return err })
	if err == nil {
		defer client.Close()
	}
	if got := err == nil; got != want {
		t.Errorf("%s: connection to %v works: %v (%v), want %v", what, addr, got, err, want)
	}
	if err != nil {
		return netip.Addr{}
	}
	peer, err := server.Accept()
	if err != nil {
		t.Errorf("%s: accept: %v", what, err)
		return netip.Addr{}
	}
	defer peer.Close()
	return netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr()
}
