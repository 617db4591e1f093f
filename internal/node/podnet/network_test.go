package podnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/knftables"

	"everynode/internal/sysctl"
)

func testNode(name, pods, addr string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: pods},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: addr}}},
	}
}

func testRoute(pods, via string) route {
	return route{pods: netip.MustParsePrefix(pods), via: netip.MustParseAddr(via)}
}

// compareAddrs lets cmp compare the address types.
func compareAddrs() cmp.Option {
	return cmp.Options{cmp.AllowUnexported(route{}), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}
}

func TestWantedRoutes(t *testing.T) {
	dual := testNode("d", "", "10.0.0.4")
	dual.Spec.PodCIDRs = []string{"fd00:1::/64", "10.42.4.0/24"}
	dual.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "fd00::4"}}, dual.Status.Addresses...)
	peers := peersOf([]*corev1.Node{
		testNode("c", "10.42.3.0/24", "10.0.0.3"),
		testNode("a", "10.42.1.0/24", "10.0.0.1"),
		testNode("new", "", "10.0.0.9"),                // no pod range yet
		testNode("sim", "10.42.255.0/24", "127.0.0.1"), // simulated: nothing is there
		testNode("odd", "10.42.8.0/24", "no-IP"),       // no address yet
		dual,
	})
	want := []route{testRoute("10.42.3.0/24", "10.0.0.3"), testRoute("10.42.4.0/24", "10.0.0.4")}
	if diff := cmp.Diff(want, wantedRoutes("a", peers), compareAddrs()); diff != "" {
		t.Errorf("routes of a (-want +got):\n%s", diff)
	}
}

func TestDiffRoutes(t *testing.T) {
	b, c := testRoute("10.42.2.0/24", "10.0.0.2"), testRoute("10.42.3.0/24", "10.0.0.3")
	moved := testRoute("10.42.2.0/24", "10.0.0.22")
	tests := []struct {
		name              string
		have, want        []route
		wantOff, wantOnto []route
	}{
		{"nothing to do", []route{b, c}, []route{c, b}, nil, nil},
		{"first", nil, []route{c, b}, nil, []route{b, c}},
		{"a node went", []route{b, c}, []route{b}, []route{c}, nil},
		{"a node moved", []route{b, c}, []route{moved, c}, []route{b}, []route{moved}},
		{"same twice", nil, []route{b, b}, nil, []route{b}},
		{"clean up", []route{c, b}, nil, []route{b, c}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			remove, add := diffRoutes(tt.have, tt.want)
			if diff := cmp.Diff(tt.wantOff, remove, compareAddrs()); diff != "" {
				t.Errorf("remove (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantOnto, add, compareAddrs()); diff != "" {
				t.Errorf("add (-want +got):\n%s", diff)
			}
		})
	}
}

// golden compares with testdata/NAME, which EVERYNODE_UPDATE=1 rewrites.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("EVERYNODE_UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

func TestMasquerade(t *testing.T) {
	fake := knftables.NewFake(knftables.IPv4Family, Table)
	bridged := false
	m := &masquerade{nft: fake, bridged: func() bool { return bridged }}
	own := netip.MustParsePrefix("10.42.1.0/24")
	two := []netip.Prefix{own, netip.MustParsePrefix("10.42.2.0/24")}
	set := func(all []netip.Prefix) {
		t.Helper()
		if err := m.set(t.Context(), own, all); err != nil {
			t.Fatal(err)
		}
	}
	set(two)
	golden(t, "masquerade.nft", []byte(fake.Dump()))
	before := fake.LastTransaction
	set(two)
	if fake.LastTransaction != before {
		t.Error("rules that are right were written again")
	}
	set(two[:1])
	if elements, err := fake.ListElements(t.Context(), "set", masqSet); err != nil || len(elements) != 1 {
		t.Errorf("%d pod ranges (%v) after a node went, want 1", len(elements), err)
	}
	// Somebody flushes all rules: the next repair puts them back.
	if err := m.nft.Run(t.Context(), deleteTable(m.nft)); err != nil {
		t.Fatal(err)
	}
	set(two[:1])
	if rules, err := fake.ListRules(t.Context(), masqChain); err != nil || len(rules) != 2 {
		t.Errorf("%d rules (%v) after a repair, want 2", len(rules), err)
	}
	// Once the kernel shows packets that only cross the bridge, pods of one node see each other's addresses.
	bridged = true
	set(two[:1])
	if rules, err := fake.ListRules(t.Context(), masqChain); err != nil || len(rules) != 1 || strings.Contains(rules[0].Rule, "dnat") {
		t.Errorf("rules with br_netfilter: %v, %v", rules, err)
	}
	for range 2 { // even if it no longer exists
		if err := m.remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if fake.Table != nil {
		t.Error("the table is still there")
	}
}

func deleteTable(nft knftables.Interface) *knftables.Transaction {
	tx := nft.NewTransaction()
	tx.Delete(&knftables.Table{})
	return tx
}

func TestRenderedConfiguration(t *testing.T) {
	got, err := conflist(netip.MustParsePrefix("10.42.3.0/24"), "/data/cni/ipam")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, ConfigName, got)
}

func TestWriteCNIConfig(t *testing.T) {
	own := netip.MustParsePrefix("10.42.1.0/24")
	n := &Network{Options: Options{ConfigDir: filepath.Join(t.TempDir(), "net.d"), IPAMDir: "/ipam", Log: slog.New(slog.DiscardHandler)}}
	name := filepath.Join(n.ConfigDir, ConfigName)
	write := func() os.FileInfo {
		t.Helper()
		if err := n.writeConfig(own); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := write()
	if !os.SameFile(first, write()) {
		t.Error("a configuration that is right was written again: the runtime reloads its network each time")
	}
	own = netip.MustParsePrefix("10.42.7.0/24")
	second := write()
	if os.SameFile(first, second) {
		t.Error("the new pod range was not written")
	}

	// First a service mesh has chained its plugin to everynode's. Then everynode's own
	// plugin is not what it should be.
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		from, to string
		stays    bool
	}{
		{"\n  ]\n}", ",\n{\"type\": \"mesh\"}]}", true},
		{"10.42.7.0/24", "10.42.8.0/24", false},
	} {
		changed := strings.Replace(string(text), change.from, change.to, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in %s", change.from, text)
		}
		if err := os.WriteFile(name, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		write()
		if now, err := os.ReadFile(name); err != nil || (string(now) == changed) != change.stays {
			t.Errorf("%q in place of %q: stays is to be %v; now: %s, %v", change.to, change.from, change.stays, now, err)
		}
	}

	// A runtime that the agent did not start keeps its network.
	n.Foreign = true
	n.ConfigDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(n.ConfigDir, "05-other.conflist"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.writeConfig(own); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(n.ConfigDir, ConfigName)); err == nil {
		t.Error("wrote a second pod network beside the runtime's own")
	}
}

// A node whose pod network is the operator's watches no other node, and gets none of
// everynode's rules, routes or configuration.
func TestNoPodNetwork(t *testing.T) {
	registered := 0
	n := &Network{Options: Options{Node: "a", None: true, Registered: func() { registered++ }}}
	var list metav1.ListOptions
	n.watched(&list)
	if list.FieldSelector != "metadata.name=a" {
		t.Errorf("field selector %q", list.FieldSelector)
	}
	n.tellRegistered(peersOf([]*corev1.Node{testNode("b", "10.42.1.0/24", "10.0.0.2")}))
	n.tellRegistered(peersOf([]*corev1.Node{testNode("a", "", "")}))
	if registered != 0 {
		t.Error("registered before the Node is there with its address")
	}
	for range 2 {
		n.tellRegistered(peersOf([]*corev1.Node{testNode("a", "", "10.0.0.1")}))
	}
	if registered != 1 {
		t.Errorf("registered %d times", registered)
	}
	list = metav1.ListOptions{}
	if (&Network{Options: Options{Node: "a"}}).watched(&list); list.FieldSelector != "" {
		t.Errorf("with our network the field selector is %q", list.FieldSelector)
	}
}

// Somebody has turned forwarding off: the next repair turns it on again.
func TestRepairTurnsForwardingOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	n := &Network{Options: Options{Node: "a", None: true, Log: slog.New(slog.DiscardHandler)}}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = sysctl.Write(sysctl.IPForward, "0")
		}
		if err == nil {
			n.repair(t.Context(), nil, nil)
			var now string
			if now, err = sysctl.Read(sysctl.IPForward); now != "1" {
				err = errors.Join(err, fmt.Errorf("ip_forward is %q", now))
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
