package local

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// foreign is a network namespace that is not a node, connected to another namespace by a veth pair.
type foreign struct {
	ns   netns.NsHandle
	link string
}

func (f foreign) do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(f.ns), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// newForeign makes a namespace with the address inside. Its default route goes to near, an address in the place
// at.
func newForeign(t *testing.T, at place, link string, near, inside netip.Prefix) foreign {
	t.Helper()
	f := foreign{link: link}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f.ns, err = netns.Get()
		return err
	}))
	t.Cleanup(func() { f.ns.Close() })
	must(at(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = link
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(f.ns)}); err != nil {
			return err
		}
		return setUp(link, near, netip.Addr{})
	}))
	t.Cleanup(func() {
		if err := at(func() error { return deleteLinks(func(name string) bool { return name == link }) }); err != nil {
			t.Error(err)
		}
	})
	must(f.do(func() error { return setUp("eth0", inside, near.Addr()) }))
	return f
}

func setUp(name string, addr netip.Prefix, gateway netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil || !gateway.IsValid() {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
}

// Which of nodes, pods, this machine and a local network reach each other, and under which address.
func TestTraffic(t *testing.T) {
	c := upCluster(t)
	hostLAN, outsider := netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")
	lan := newForeign(t, onHost, "ev"+c.ID+"lan", hostLAN, outsider)
	podRange := c.PodCIDR.Addr().As4()
	podRange[2] = 7
	podGateway, podAddr := podRange, podRange
	podGateway[3], podAddr[3] = 1, 5
	pod := newForeign(t, inNode(c, "node-1"), "pod0",
		netip.PrefixFrom(netip.AddrFrom4(podGateway), 24), netip.PrefixFrom(netip.AddrFrom4(podAddr), 24))
	node1, node2 := c.Nodes[0].Address, c.Nodes[1].Address

	tests := []struct {
		what     string
		from, to place
		addr     netip.Addr
		sees     netip.Addr // the zero value: no connection
	}{
		{"node to node", inNode(c, "node-1"), inNode(c, "node-2"), node2, node1},
		{"node to the API server", inNode(c, "node-1"), onHost, c.Gateway, node1},
		{"this machine to a node", onHost, inNode(c, "node-1"), node1, c.Gateway},
		{"this machine to itself", onHost, onHost, c.Gateway, c.Gateway},
		{"pod to the API server", pod.do, onHost, c.Gateway, netip.AddrFrom4(podAddr)},
		{"this machine to a pod", onHost, pod.do, netip.AddrFrom4(podAddr), c.Gateway},
		{"another node to a pod", inNode(c, "node-2"), pod.do, netip.AddrFrom4(podAddr), node2},
		{"node to the outside", inNode(c, "node-1"), lan.do, outsider.Addr(), hostLAN.Addr()},
		{"pod to the outside", pod.do, lan.do, outsider.Addr(), hostLAN.Addr()},
		{"the local network to this machine", lan.do, onHost, hostLAN.Addr(), outsider.Addr()},
		{"the local network to the API server", lan.do, onHost, c.Gateway, netip.Addr{}},
		{"the local network to a node", lan.do, inNode(c, "node-1"), node1, netip.Addr{}},
		{"the local network to a pod", lan.do, pod.do, netip.AddrFrom4(podAddr), netip.Addr{}},
	}
	for _, tt := range tests {
		if got := checkTCP(t, tt.what, tt.from, tt.to, tt.addr, tt.sees.IsValid()); got != tt.sees {
			t.Errorf("%s: seen as %v, want %v", tt.what, got, tt.sees)
		}
	}
	// The table causes the drops above: without it, the same packets arrive.
	if err := c.Host().firewall().remove(); err != nil {
		t.Fatal(err)
	}
	checkTCP(t, "without the table: the local network to the API server", lan.do, onHost, c.Gateway, true)
	checkTCP(t, "without the table: the local network to a node", lan.do, inNode(c, "node-1"), node1, true)
}

// A registry gets a port that is free, and keeps it.
func TestChooseRegistryPort(t *testing.T) {
	if l, err := net.Listen("tcp", "127.0.0.1:5000"); err == nil { // otherwise another program has it
		defer l.Close()
	}
	c := &Cluster{}
	if err := c.ChooseRegistryPort(); err != nil {
		t.Fatal(err)
	}
	first := c.RegistryPort
	l, err := net.Listen("tcp", c.RegistryHost())
	if err != nil || first == 5000 {
		t.Fatalf("the port is %d, %v", first, err)
	}
	defer l.Close()
	if err := c.ChooseRegistryPort(); err != nil || c.RegistryPort != first {
		t.Errorf("it was %d and is %d, %v", first, c.RegistryPort, err)
	}
}
