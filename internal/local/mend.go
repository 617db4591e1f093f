package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// Mend sets up again what somebody has removed on this machine from under a cluster that runs: nft flush ruleset, with
// which the service nftables restarts, takes every table with it. It returns what was gone.
func (h *Host) Mend(ctx context.Context) (gone []string, err error) {
	if h.cluster.Loopback {
		return nil, nil
	}
	if gone, err = h.gone(); err != nil || len(gone) == 0 {
		return nil, err
	}
	if err := h.Ensure(ctx); err != nil {
		return nil, err
	}
	for _, n := range h.cluster.Nodes {
		if n.Stopped {
			continue
		}
		if err := h.EnsureNode(ctx, n.Name); err != nil { // it was connected to a bridge that is gone
			return nil, err
		}
	}
	return gone, nil
}

// gone lists what is missing of what the nodes share.
func (h *Host) gone() (gone []string, err error) {
	if complete, err := h.firewall().complete(); err != nil {
		return nil, err
	} else if !complete {
		gone = append(gone, "the nftables table "+h.firewall().name)
	}
	if complete, err := h.network().complete(); err != nil {
		return nil, err
	} else if !complete {
		gone = append(gone, "the bridge "+h.cluster.Bridge()+" or its route")
	}
	forwarding, err := sysctl.Read(sysctl.IPForward)
	if err == nil && forwarding != "1" {
		gone = append(gone, "the kernel setting net.ipv4.ip_forward")
	}
	return gone, err
}

// complete reports whether the table has all of its rules. It counts them: nobody edits the rules of a table of ours.
func (f firewall) complete() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	want := map[string]int{"postrouting": 2, "input": 1, "forward": 3}
	for _, chain := range chains {
		if chain.Table.Name != f.name {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return false, fmt.Errorf("list the rules of the nftables table %s: %w", f.name, err)
		}
		if len(rules) == want[chain.Name] {
			delete(want, chain.Name)
		}
	}
	return len(want) == 0, nil
}

// complete reports whether the bridge has its address and the route to the pods.
func (w network) complete() (bool, error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("look at the bridge %s: %w", w.bridge, err) }
	link, err := netlink.LinkByName(w.bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil
	}
	if err != nil {
		return fail(err)
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, unix.AF_INET) })
	if err != nil {
		return fail(err)
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(link, unix.AF_INET) })
	if err != nil {
		return fail(err)
	}
	address, route := false, false
	for _, a := range addrs {
		address = address || a.IPNet.String() == netip.PrefixFrom(w.gateway, w.subnet.Bits()).String()
	}
	for _, r := range routes {
		route = route || r.Dst != nil && r.Dst.String() == w.pods.String()
	}
	return address && route, nil
}
