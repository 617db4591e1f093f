package local

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// inPrivateNet runs fn in a network namespace with settings of its own.
func inPrivateNet(t *testing.T, fn func() error) {
	t.Helper()
	needMachine(t)
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The record of an earlier boot, on a machine whose /run is on disk, does not apply to the settings of this boot.
func TestHostRecordOfEarlierBoot(t *testing.T) {
	dir := t.TempDir()
	r, err := readHostRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Sysctls, r.Created = []sysctl.Setting{{Name: "x", Was: "1"}}, []string{"/made"}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if again, err := readHostRecord(dir); err != nil || len(again.Sysctls) != 1 {
		t.Errorf("the record was not kept: %v, %v", again, err)
	}
	r.BootID = "another"
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if again, err := readHostRecord(dir); err != nil || len(again.Sysctls) != 0 || len(again.Created) != 1 {
		t.Errorf("after a reboot: %v, %v; want the paths only", again, err)
	}
	if err := os.WriteFile(r.file(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = readHostRecord(dir)
	checkError(t, err, "is broken")
}

func TestMountPoints(t *testing.T) {
	dir := t.TempDir()
	join := func(p string) string { return filepath.Join(dir, p) }
	var made []string
	for _, b := range []bind{{target: join("a/b/c")}, {target: join("a/b/c")}, {target: join("a/d")}, {target: join("id"), file: true}, {target: join("kept"), file: true}} {
		paths, err := makeMountPoint(b)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, paths...)
	}
	if want := []string{join("a"), join("a/b"), join("a/b/c"), join("a/d"), join("id"), join("kept")}; strings.Join(made, " ") != strings.Join(want, " ") {
		t.Errorf("made %v, want %v", made, want)
	}
	for _, f := range []string{"kept", "a/d/file"} {
		if err := os.WriteFile(join(f), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeMountPoints(append(made, join("never"))); err != nil {
		t.Error(err)
	}
	for p, want := range map[string]bool{"a": true, "a/b": false, "a/d/file": true, "id": false, "kept": true} {
		if _, err := os.Stat(join(p)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", p, err == nil, want)
		}
	}
}

// Two clusters get ranges of their own. The first one that is removed leaves the machine's settings to the other.
func TestTwoClusters(t *testing.T) {
	a := upCluster(t)
	b, err := Create(filepath.Join(t.TempDir(), "data"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a.ID == b.ID || a.Subnet.Overlaps(b.Subnet) || a.PodCIDR.Overlaps(b.PodCIDR) {
		t.Errorf("clusters %s and %s share %v %v, %v %v", a.ID, b.ID, a.Subnet, a.PodCIDR, b.Subnet, b.PodCIDR)
	}
	if err := b.Host().Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Host().Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := sysctl.Read(sysctl.IPForward); err != nil || got != "1" {
		t.Errorf("ip_forward is %s, %v with a cluster up", got, err)
	}
	checkTCP(t, "after the other cluster went", inNode(a, "node-1"), inNode(a, "node-2"), a.Nodes[1].Address, true)

	b.Subnet, b.Gateway = a.Subnet, a.Gateway
	checkError(t, b.Host().Ensure(t.Context()), "is in use on this machine by")
	if _, err := b.Host().Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// The v2 code runs wherever the v2 tree is mounted, even beside v1.
func TestKillAllOnV2(t *testing.T) {
	needMachine(t)
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) == 0 {
		t.Skip("needs a cgroup2 mount: this machine has none")
	}
	h := hierarchies{v2: true, mounts: []string{mounts[0].Mountpoint}}
	c := &Cluster{ID: clusterID(t.TempDir())}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if err := c.Host().cgroups("node-1").ensureIn(h, Size{}); err != nil {
		t.Fatal(err)
	}
	pod := filepath.Join(h.mounts[0], c.PodCgroup("node-1"), "pod")
	if err := os.Mkdir(pod, 0o755); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if err := writeCgroup(filepath.Join(pod, "cgroup.procs"), strconv.Itoa(sleep.Process.Pid)); err != nil {
		t.Error(err)
	}
	if err := c.Host().cgroups("node-1").killAllIn(ctx, h); err != nil {
		t.Error(err)
	}
	if err := sleep.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	if err := removeParentCgroupIn(h, c.cgroup()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.mounts[0], c.cgroup())); err == nil {
		t.Error("the cluster's cgroup is still there")
	}
}

func TestWarnings(t *testing.T) {
	c := &Cluster{ID: "0a1b2c"}
	inPrivateNet(t, func() error {
		before, err := c.Host().Warnings(t.Context())
		if err != nil {
			return err
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
		drop := nftables.ChainPolicyDrop
		conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
		conn.AddChain(&nftables.Chain{Name: "plain", Table: table})
		if err := conn.Flush(); err != nil {
			return err
		}
		after, err := c.Host().Warnings(t.Context())
		if err != nil {
			return err
		}
		if len(after) != len(before)+1 || !strings.Contains(strings.Join(after, "\n"), "iptables -I FORWARD -i ev0a1b2c -j ACCEPT") {
			t.Errorf("warnings are %q, and %q with a policy that drops", before, after)
		}
		return nil
	})
}

func TestPreflight(t *testing.T) {
	needMachine(t)
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Preflight(t.Context(), dir); err != nil && !strings.Contains(err.Error(), "apt-get install") && !strings.Contains(err.Error(), "free some space") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(dir, want string) {
		t.Helper()
		_, err := Preflight(t.Context(), dir)
		checkError(t, err, want)
	}
	refused(filepath.Join(file, "data"), "cannot be created")
	refused("/var/log/everynode-test/data", "belongs to other programs")
	if _, err := os.Stat("/var/log/everynode-test"); err == nil {
		t.Error("a refused data directory was made")
	}
	t.Setenv("PATH", t.TempDir())
	refused(dir, "apt-get install runc")
	checkError(t, missingControllers(map[string]bool{"cpu": true}, []string{"cpu", "memory", "pids"}), "no cgroup controller memory, pids")
}

// Removing the Host also removes a node that is no longer in the record, as after a crash in the middle of a
// removal.
func TestRemoveHostFindsLeftovers(t *testing.T) {
	c := upCluster(t) // its end checks that nothing is left
	if err := c.ForgetNode("node-2"); err != nil {
		t.Fatal(err)
	}
	if err := c.Host().namespaces(Node{Name: "node-1"}).release(); err != nil {
		t.Fatal(err)
	}
	if err := c.ForgetNode("node-1"); err != nil {
		t.Fatal(err)
	}
	names, err := c.Host().nodes()
	if err != nil || strings.Join(names, " ") != "node-1 node-2" {
		t.Errorf("leftovers are %v, %v; want both nodes", names, err)
	}
}
