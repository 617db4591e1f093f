package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// usedRange is an address range that this machine uses already, and what it is used for.
type usedRange struct {
	prefix netip.Prefix
	what   string // "address 10.0.0.5/24 of eth0"
}

// chooseRanges sets the cluster's three ranges. Ranges that the user gave must be free. The others are the first free
// ones of a fixed list, so that most machines get 10.0.0.0/24, 10.42.0.0/16 and 10.96.0.0/16.
func (c *Cluster) chooseRanges(o Options, taken []usedRange) error {
	given := []struct {
		name string
		p    netip.Prefix
	}{{"pod range", o.PodCIDR}, {"service range", o.ServiceCIDR}}
	for _, g := range given {
		if !g.p.IsValid() {
			continue
		}
		if !g.p.Addr().Is4() || g.p != g.p.Masked() {
			return fmt.Errorf("%s %v: give an IPv4 network such as 10.42.0.0/16", g.name, g.p)
		}
		if u, hit := overlap(g.p, taken); hit {
			return fmt.Errorf("%s %v is in use on this machine by %s: choose another", g.name, g.p, u.what)
		}
		taken = append(taken, usedRange{g.p, "the cluster's " + g.name})
	}
	var err error
	pick := func(name string, wish netip.Prefix, candidates []netip.Prefix) netip.Prefix {
		if wish.IsValid() {
			return wish
		}
		for _, p := range candidates {
			if _, hit := overlap(p, taken); !hit {
				taken = append(taken, usedRange{p, "the cluster's " + name})
				return p
			}
		}
		err = errors.Join(err, fmt.Errorf("no free %s: each of %v to %v overlaps an address or a route of this machine "+
			"(see: ip route)", name, candidates[0], candidates[len(candidates)-1]))
		return netip.Prefix{}
	}
	c.PodCIDR = pick("pod range", o.PodCIDR, podCandidates())
	c.ServiceCIDR = pick("service range", o.ServiceCIDR, serviceCandidates())
	c.Subnet = pick("node range", netip.Prefix{}, subnetCandidates())
	if err != nil {
		return err
	}
	c.Gateway = c.Subnet.Addr().Next()
	return nil
}

// overlap returns the first of taken that shares an address with p.
func overlap(p netip.Prefix, taken []usedRange) (usedRange, bool) {
	for _, u := range taken {
		if u.prefix.Overlaps(p) {
			return u, true
		}
	}
	return usedRange{}, false
}

// subnetCandidates do not overlap the candidates for pods and services. The last ones are for machines whose whole
// 10.0.0.0/8 is routed into a company's network.
func subnetCandidates() []netip.Prefix {
	var list []netip.Prefix
	for i := range 42 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24))
	}
	for i := 100; i < 255; i++ {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24))
	}
	return list
}

func podCandidates() []netip.Prefix {
	return append(wideRanges(10, 42, 95), wideRanges(172, 24, 27)...)
}

func serviceCandidates() []netip.Prefix {
	return append(wideRanges(10, 96, 127), wideRanges(172, 28, 31)...)
}

func wideRanges(first byte, from, to int) []netip.Prefix {
	var list []netip.Prefix
	for i := from; i <= to; i++ {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{first, byte(i), 0, 0}), 16))
	}
	return list
}

// checkRanges returns an error for each range of the cluster that something else on this machine has taken meanwhile.
// A wider route does no harm, because the cluster's own is more specific.
func (h *Host) checkRanges(taken []usedRange) error {
	var errs []error
	for _, r := range []usedRange{{h.cluster.Subnet, "node range"}, {h.cluster.PodCIDR, "pod range"}} {
		narrow := slices.DeleteFunc(slices.Clone(taken), func(u usedRange) bool { return u.prefix.Bits() < r.prefix.Bits() })
		if u, hit := overlap(r.prefix, narrow); hit {
			errs = append(errs, fmt.Errorf("the cluster's %s %v is in use on this machine by %s: free it, "+
				"or make a new cluster, which chooses a free range, after: everynode down --purge", r.what, r.prefix, u.what))
		}
	}
	return errors.Join(errs...)
}

// hostRanges lists the IPv4 ranges of this machine's addresses and routes, except the default route and what belongs
// to the link named own.
func hostRanges(own string) ([]usedRange, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list network links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("list network addresses: %w", err)
	}
	var list []usedRange
	add := func(n *net.IPNet, index int, kind string) {
		p, ok := prefixOf(n)
		if ok && p.Bits() > 0 && names[index] != own {
			list = append(list, usedRange{p.Masked(), fmt.Sprintf("%s %v of %s", kind, p, names[index])})
		}
	}
	for _, a := range addrs {
		add(a.IPNet, a.LinkIndex, "address")
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		add(r.Dst, r.LinkIndex, "route")
	}
	return list, nil
}

// free reports whether nothing listens on an address of this machine.
func free(address netip.AddrPort) bool {
	l, err := net.Listen("tcp", address.String())
	return err == nil && l.Close() == nil
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// Ports for a local registry. The first is the usual one.
const firstRegistryPort, lastRegistryPort = 5000, 5099

// ChooseRegistryPort records a port for the local registry on which nothing listens, unless the record has one
// already. The port is part of the images' names, so it is kept.
func (c *Cluster) ChooseRegistryPort() error {
	if c.RegistryPort != 0 {
		return nil
	}
	for port := firstRegistryPort; port <= lastRegistryPort; port++ {
		if free(netip.AddrPortFrom(loopback(), uint16(port))) {
			c.RegistryPort = port
			return nil
		}
	}
	return fmt.Errorf("no port from %d to %d is free on %s for the registry: stop a program that listens there", firstRegistryPort, lastRegistryPort, loopback())
}

// RegistryAddresses are where the local registry listens: for this machine, and for nodes.
func (c *Cluster) RegistryAddresses() (push, pull netip.AddrPort) {
	return netip.AddrPortFrom(loopback(), uint16(c.RegistryPort)), netip.AddrPortFrom(c.Gateway, uint16(c.RegistryPort))
}

// RegistryHost is the registry in the names of its images.
func (c *Cluster) RegistryHost() string { return fmt.Sprintf("localhost:%d", c.RegistryPort) }

// freePort returns a port of host on which nothing listens.
func freePort(host netip.Addr) (int, error) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", host, err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok && a.Unmap().Is4()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
