package balancer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks our routes. Routes of other origin are never touched.
const protocol netlink.RouteProtocol = 111

// hostRoutes are the routes of this machine into a range.
type hostRoutes struct{ of Range }

// HostRoutes sets routes on this machine, for addresses of a range and no others.
func HostRoutes(of Range) Routes { return hostRoutes{of} }

func (h hostRoutes) Set(want map[netip.Addr]netip.Addr) error {
	var errs []error
	have, err := h.list()
	if err != nil {
		return err
	}
	for a, via := range have {
		if want[a] == via {
			continue
		}
		if _, stays := want[a]; stays {
			continue // it is replaced below, so that there is a route at any moment
		}
		if err := netlink.RouteDel(routeTo(a, via)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the route to %s: %w", a, err))
		}
	}
	for a, via := range want {
		if have[a] == via {
			continue
		}
		if err := netlink.RouteReplace(routeTo(a, via)); err != nil {
			errs = append(errs, fmt.Errorf("set the route to %s by way of %s: %w", a, via, err))
		}
	}
	return errors.Join(errs...)
}

func routeTo(a, via netip.Addr) *netlink.Route {
	return &netlink.Route{Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}, Gw: via.AsSlice(), Protocol: protocol}
}

// list returns our routes to addresses of the range, node by address. If a change of
// the routes interrupts the listing, the list may have gaps, and that is an error.
func (h hostRoutes) list() (map[netip.Addr]netip.Addr, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	routes := map[netip.Addr]netip.Addr{}
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		to, ok := netip.AddrFromSlice(r.Dst.IP)
		via, viaOK := netip.AddrFromSlice(r.Gw)
		if ok && viaOK && h.of.Contains(to.Unmap()) {
			routes[to.Unmap()] = via.Unmap()
		}
	}
	return routes, nil
}
