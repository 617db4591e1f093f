package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"everynode/internal/datadir"
	"everynode/internal/node/podnet"
)

// agentDir is a data directory of an agent, with files of these names.
func agentDir(t *testing.T, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "agent")
	if _, err := datadir.Claim(dir, datadir.Agent); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := writeFile(filepath.Join(dir, name), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNewLeaver(t *testing.T) {
	server, up := filepath.Join(t.TempDir(), "server"), filepath.Join(t.TempDir(), "up")
	_, err1 := datadir.Claim(server, datadir.Server)
	_, err2 := datadir.Claim(up, datadir.Up)
	_, err3 := datadir.ClaimWithin(filepath.Join(up, "nodes", "node-1"), datadir.Agent)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	broken := agentDir(t, recordName)
	for dir, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"):    "no agent's data",
		t.TempDir():                           "no agent's data",
		server:                                "is not the data directory of an agent",
		filepath.Join(up, "nodes", "node-1"):  "everynode node rm node-1",
		agentDir(t, "kubelet.yaml"):           "start it once with this version of everynode, then leave",
		broken:                                recordName + " is broken",
		agentDir(t):                           "", // it was refused before it changed anything
		agentDir(t, "containerd/config.toml"): "",
	} {
		_, err := newLeaver(LeaveOptions{DataDir: dir})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", dir, err, want)
		}
		if isNone := strings.HasPrefix(want, "no agent's"); errors.Is(err, ErrNoAgent) != isNone {
			t.Errorf("%s: ErrNoAgent: %v", dir, !isNone)
		}
	}
}

// leaving is a leaver that collects its warnings.
func leaving(t *testing.T, dir string, o LeaveOptions) (*leaver, *[]string) {
	t.Helper()
	warnings := &[]string{}
	o.DataDir = dir
	o.Step = func() func(string, ...any) { return func(string, ...any) {} }
	o.Warn = func(format string, args ...any) { *warnings = append(*warnings, fmt.Sprintf(format, args...)) }
	l, err := newLeaver(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, warnings
}

func TestLeaveWithoutServers(t *testing.T) {
	dir := agentDir(t)
	l, _ := leaving(t, dir, LeaveOptions{})
	for range 2 { // the second time it waits for a certificate
		if err := l.connect(t.Context()); err != nil || l.cluster != nil {
			t.Errorf("a machine that has not joined: %v", err)
		}
		if err := writeFile(l.cfg.files().kubeconfig(), nil); err != nil {
			t.Fatal(err)
		}
	}
	writeCredentials(t, l.cfg, newAuthority(t), time.Now().Add(time.Hour))
	for _, servers := range [][]string{nil, {"https://" + deadAddress(t)}} {
		l, _ := leaving(t, dir, LeaveOptions{Servers: servers})
		err := l.connect(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no API server answers: ") || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("with the servers %v: %v", servers, err)
		}
		l, warnings := leaving(t, dir, LeaveOptions{Servers: servers, Force: true})
		if err := l.connect(t.Context()); err != nil || l.cluster != nil {
			t.Errorf("by force: %v", err)
		}
		if len(*warnings) != 1 || !strings.Contains((*warnings)[0], "everynode kubectl delete node") || !strings.Contains((*warnings)[0], "everynode node revoke") {
			t.Errorf("by force it says %q", *warnings)
		}
	}
}

func TestDeleteData(t *testing.T) {
	ours := []string{"machine.json", "agent.lock", "kubelet.kubeconfig", "bootstrap.kubeconfig", "servers.json", "cluster-dns", "kubelet.yaml", "kube-proxy.yaml",
		"containerd.log", "kubelet.log.1", ".tmp-123", "containerd/config.toml", "containerd/root/a/b", "cni/ipam/x", "pki/ca.crt", "pki/kubelet-client-2026.pem"}
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(more ...string) string {
		dir := agentDir(t, append(ours, more...)...)
		err := errors.Join(os.WriteFile(filepath.Join(dir, recordName), []byte("{}"), 0o600), os.Symlink(outside, filepath.Join(dir, "pki", "kubelet-client-current.pem")))
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir := fill()
	l, warnings := leaving(t, dir, LeaveOptions{})
	if err := l.deleteData(t.Context()); err != nil || exists(dir) || len(*warnings) > 0 {
		t.Errorf("%v; it is there: %v; %q", err, exists(dir), *warnings)
	}
	dir = fill("notes.txt", "pki/mine.key", "mine.kubeconfig")
	l, warnings = leaving(t, dir, LeaveOptions{})
	if err := l.deleteData(t.Context()); err != nil || len(*warnings) != 1 {
		t.Errorf("with somebody's files: %v, %q", err, *warnings)
	}
	var left []string
	for _, name := range append(ours, "notes.txt", "pki/mine.key", "mine.kubeconfig", datadir.MarkName) {
		if exists(filepath.Join(dir, name)) {
			left = append(left, name)
		}
	}
	if want := []string{"notes.txt", "pki/mine.key", "mine.kubeconfig"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if !exists(outside) {
		t.Error("a link was followed")
	}
}

func TestNoteMachine(t *testing.T) {
	cfg := Config{DataDir: agentDir(t), Name: "a", CgroupRoot: "/x"}
	if err := noteMachine(cfg); err != nil {
		t.Fatal(err)
	}
	first, err := readRecord(cfg.DataDir)
	if err != nil || first.Name != "a" || first.CgroupRoot != "/x" || len(first.Sysctls) < 3 {
		t.Fatalf("noted %+v, %v", first, err)
	}
	for _, s := range first.Sysctls {
		if s.Was == "" {
			t.Errorf("%s has no value", s.Name)
		}
	}
	// What was recorded first in this boot counts, and what was made once stays the
	// agent's.
	first.Sysctls, first.Made = first.Sysctls[:1], []string{"/made/once"}
	rewrite(t, cfg, first)
	if err := noteMachine(cfg); err != nil {
		t.Fatal(err)
	}
	again, err := readRecord(cfg.DataDir)
	if err != nil || len(again.Sysctls) != 1 || !slices.Contains(again.Made, "/made/once") {
		t.Errorf("the second start notes %+v, %v", again, err)
	}
	again.BootID = "another"
	rewrite(t, cfg, again)
	if err := noteMachine(cfg); err != nil {
		t.Fatal(err)
	}
	if booted, err := readRecord(cfg.DataDir); err != nil || len(booted.Sysctls) < 3 || !slices.Contains(booted.Made, "/made/once") {
		t.Errorf("after a reboot: %+v, %v", booted, err)
	}
	local := Config{DataDir: agentDir(t), Local: true}
	if err := noteMachine(local); err != nil || exists(filepath.Join(local.DataDir, recordName)) {
		t.Errorf("a local node has a record (%v)", err)
	}
}

func rewrite(t *testing.T, cfg Config, r machineRecord) {
	t.Helper()
	if err := r.write(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
}

func TestFirstMissing(t *testing.T) {
	dir := t.TempDir()
	if got, want := firstMissing(filepath.Join(dir, "a", "b", "c")), filepath.Join(dir, "a"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := firstMissing(dir); got != "" {
		t.Errorf("%q is missing", got)
	}
}

func TestUnitIn(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/everynode-agent.service\n":                             "everynode-agent.service",
		"12:pids:/x\n1:name=systemd:/system.slice/everynode-agent.service\n0::/": "everynode-agent.service",
		"12:pids:/system.slice/other.service\n0::/user.slice/session-1.scope\n":  "",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n":       "",
		"0::/\n": "",
	} {
		if got := unitIn(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTerminate(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "agent.lock")
	cmd := exec.Command("flock", lock, "sh", "-c", `echo $PPID > "$0"; read -r line`, lock)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Skip("no program flock: ", err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	pid, runs := 0, false
	for !runs {
		select {
		case <-tick.C:
			pid, runs = datadir.Running(lock)
		case <-deadline:
			t.Fatal("the process never holds its lock")
		}
	}
	// Another process with that pid, which holds no lock, must not be ended.
	if err := terminate(t.Context(), os.Getppid(), lock); err != nil {
		t.Errorf("a process without the lock: %v", err)
	}
	if err := terminate(t.Context(), pid, lock); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestShimsOf(t *testing.T) {
	proc := t.TempDir()
	for pid, args := range map[string][]string{
		"7":    {"/opt/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-address", "/ours.sock"},
		"8":    {"/opt/bin/containerd-shim-runc-v2", "-address", "/others.sock"},
		"9":    {"less", "/ours.sock"},
		"self": {"containerd-shim-runc-v2", "/ours.sock"},
	} {
		dir := filepath.Join(proc, pid)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "cmdline"), []byte(strings.Join(args, "\x00")+"\x00"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if pids, err := shimsOf(proc, "/ours.sock"); err != nil || !slices.Equal(pids, []int{7}) {
		t.Errorf("%v, %v; want 7 alone", pids, err)
	}
}

func TestAsAsked(t *testing.T) {
	for text, want := range map[string]int64{"": containerGrace, "0": 0, "30": 30, "3600": longestGrace, "-1": containerGrace, "x": containerGrace} {
		if got := asAsked(&runtimeapi.Container{Annotations: map[string]string{graceAnnotation: text}}); got != want {
			t.Errorf("grace %q: %d, want %d", text, got, want)
		}
	}
}

func TestRemoveSockets(t *testing.T) {
	dir := t.TempDir()
	sockets := filepath.Join(dir, "s")
	if err := os.Mkdir(sockets, 0o700); err != nil {
		t.Fatal(err)
	}
	live, err := net.Listen("unix", filepath.Join(sockets, "live"))
	if err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(sockets, "dead"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := errors.Join(dead.Close(), removeDeadSockets(sockets), removeEmpty(dir)); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(sockets, "live")) || exists(filepath.Join(sockets, "dead")) {
		t.Error("the live socket is to stay, the dead one to go")
	}
	if err := errors.Join(live.Close(), removeDeadSockets(sockets), removeEmpty(dir)); err != nil || exists(dir) {
		t.Errorf("an empty folder stays (%v)", err)
	}
}

// Only everynode's part of the network is removed.
func TestRemoveNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = removeNetworkHere(t)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func removeNetworkHere(t *testing.T) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, name := range []string{podnet.Table, "kube-proxy", "mine"} {
		conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: name})
	}
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv6, Name: "kube-proxy"})
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv6, Name: "cni_hostport"})
	shared := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "cni_hostport"})
	chain := conn.AddChain(&nftables.Chain{Table: shared, Name: "hostports"})
	conn.AddRule(&nftables.Rule{Table: shared, Chain: chain})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	for _, name := range []string{podnet.Bridge, "other0"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		ends := netlink.NewLinkAttrs()
		ends.Name, ends.MasterIndex = "veth-"+name, bridge.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: ends, PeerName: "peer-" + name}); err != nil {
			return err
		}
	}
	l, _ := leaving(t, agentDir(t), LeaveOptions{})
	// Without everynode's configuration, the bridge belongs to somebody else.
	if err := l.removeNetwork(); err != nil {
		return err
	}
	links(t, "cni0", "other0", "peer-cni0", "peer-other0", "veth-cni0", "veth-other0")
	if err := writeFile(filepath.Join(l.cfg.cniConfigDir(), podnet.ConfigName), nil); err != nil {
		return err
	}
	for range 2 {
		if err := l.removeNetwork(); err != nil {
			return err
		}
		links(t, "other0", "peer-other0", "veth-other0")
	}
	tables, err := conn.ListTables()
	if err != nil {
		return err
	}
	var left []string
	for _, table := range tables {
		left = append(left, table.Name)
	}
	if slices.Sort(left); !slices.Equal(left, []string{"cni_hostport", "mine"}) {
		t.Errorf("the tables %v are left, want that with a port of somebody's, and mine", left)
	}
	return nil
}

func links(t *testing.T, want ...string) {
	t.Helper()
	list, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	var have []string
	for _, l := range list {
		if name := l.Attrs().Name; strings.Contains(name, "cni0") || strings.Contains(name, "other0") {
			have = append(have, name)
		}
	}
	if slices.Sort(have); !slices.Equal(have, want) {
		t.Errorf("links %v, want %v", have, want)
	}
}
