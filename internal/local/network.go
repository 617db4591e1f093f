package local

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

const nodeLink = "eth0" // the node's end of its veth pair

// network connects the nodes of a cluster to each other and to this machine: a bridge, and a pair of links for each
// node.
type network struct {
	id, bridge   string
	gateway      netip.Addr // the bridge's
	subnet, pods netip.Prefix
}

// ensureBridge makes the cluster's bridge, with the gateway's address and the route to all pods.
func (w network) ensureBridge() error {
	fail := func(err error) error { return fmt.Errorf("set up the bridge %s: %w", w.bridge, err) }
	mtu, err := uplinkMTU()
	if err != nil {
		return fail(err)
	}
	link, err := netlink.LinkByName(w.bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		// A bridge without an address of its own takes the address of its lowest port, and changes it whenever a node
		// comes or goes. Every neighbour would then have a stale one.
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = w.bridge, w.hardwareAddr(0), mtu
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fail(err)
		}
		link, err = netlink.LinkByName(w.bridge)
	}
	if err != nil {
		return fail(err)
	}
	if link.Type() != "bridge" {
		return fail(fmt.Errorf("a link of that name exists already, of type %s: delete it with: ip link del %s", link.Type(), w.bridge))
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(w.gateway, w.subnet.Bits()))}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fail(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fail(err)
	}
	// Nodes answer for the addresses of their pods (proxy_arp), so one route finds every pod on every node.
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(w.pods), Src: w.gateway.AsSlice(), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(route); err != nil {
		return fail(fmt.Errorf("route to the pod range %v: %w", w.pods, err))
	}
	return nil
}

// hardwareAddr is the address of the node with that index, or of the bridge (0). It never changes, so neighbours find
// a node that was made again at once, and not only when their caches forget the old address.
func (w network) hardwareAddr(index int) net.HardwareAddr {
	sum := sha256.Sum256([]byte(w.id))
	return append(net.HardwareAddr{0x02}, sum[0], sum[1], sum[2], sum[3], byte(index)) // 02: locally administered, unicast
}

// uplinkMTU is the MTU of the default route's link: larger packets of nodes would not get out. It is 1500 without a
// default route.
func uplinkMTU() (int, error) {
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	mtu := 1500
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("look at the default route's link: %w", err)
		}
		mtu = min(mtu, link.Attrs().MTU)
	}
	return mtu, nil
}

// ensureLink connects the node's network namespace to the bridge: one end of a veth pair is a port of the bridge, the
// other one is eth0 inside, with the node's address and the default route. It is a no-op on a connected node. pins is
// the directory of its namespaces.
func (w network) ensureLink(n Node, pins string) error {
	fail := func(err error) error { return fmt.Errorf("node %s: connect it to the bridge: %w", n.Name, err) }
	ns, err := netns.GetFromPath(filepath.Join(pins, "net"))
	if err != nil {
		return fail(err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fail(err)
	}
	defer inside.Close()
	bridge, err := netlink.LinkByName(w.bridge)
	if err != nil {
		return fail(fmt.Errorf("%w; run: everynode up", err))
	}
	if err := w.ensureVeth(n, ns, inside, bridge); err != nil {
		return fail(err)
	}
	if err := w.configureInside(n, inside); err != nil {
		return fail(err)
	}
	err = inNamespaces(pinsIn(pins)[:1], func() error {
		// The node forwards packets to its pods, and eth0 answers ARP requests for their addresses, without delay.
		return errors.Join(sysctl.Write("net/ipv4/ip_forward", "1"),
			sysctl.Write("net/ipv4/conf/"+nodeLink+"/proxy_arp", "1"),
			sysctl.Write("net/ipv4/neigh/"+nodeLink+"/proxy_delay", "0"))
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// ensureVeth makes the veth pair, or makes it again if only one end is where it belongs.
func (w network) ensureVeth(n Node, ns netns.NsHandle, inside *netlink.Handle, bridge netlink.Link) error {
	host, err := netlink.LinkByName(w.hostLink(n))
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err
	}
	there := err == nil
	_, err = inside.LinkByName(nodeLink)
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err
	}
	if there && err != nil {
		// Its other end is in a namespace that no longer exists or is about to go.
		if err := netlink.LinkDel(host); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
		there = false
	}
	if !there {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.MasterIndex = w.hostLink(n), bridge.Attrs().MTU, bridge.Attrs().Index
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: nodeLink, PeerHardwareAddr: w.hardwareAddr(n.Index),
			PeerMTU: uint32(attrs.MTU), PeerNamespace: netlink.NsFd(ns)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make the veth pair %s: %w", attrs.Name, err)
		}
	}
	if host, err = netlink.LinkByName(w.hostLink(n)); err != nil {
		return err
	}
	if host.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(host, bridge); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(host)
}

// configureInside sets addresses and routes in the node's network namespace.
func (w network) configureInside(n Node, inside *netlink.Handle) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := inside.LinkByName(nodeLink)
	if err != nil {
		return err
	}
	if err := errors.Join(inside.LinkSetUp(lo), inside.LinkSetUp(eth)); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(n.Address, w.subnet.Bits()))}
	if err := inside.AddrReplace(eth, addr); err != nil {
		return fmt.Errorf("set the address %v: %w", addr, err)
	}
	if err := inside.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: w.gateway.AsSlice()}); err != nil {
		return fmt.Errorf("set the default route: %w", err)
	}
	return nil
}

// hostLink is the name of the host's end of the node's veth pair: at most 12 of 15 characters.
func (w network) hostLink(n Node) string { return fmt.Sprintf("ev%sn%d", w.id, n.Index) }

// deleteLinks deletes the host's links whose names match.
func deleteLinks(match func(name string) bool) error {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if !match(l.Attrs().Name) {
			continue
		}
		// ENODEV: it went away with its namespace or with its other end.
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("delete the link %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}
