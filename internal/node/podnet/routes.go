package podnet

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/util/retry"
)

// routeProtocol marks routes as the agent's own. The agent never touches other
// routes.
const routeProtocol netlink.RouteProtocol = 110

// route leads to the pods of another node.
type route struct {
	pods netip.Prefix
	via  netip.Addr
}

func compareRoutes(a, b route) int {
	return cmp.Or(a.pods.Compare(b.pods), a.via.Compare(b.via))
}

// wantedRoutes are the routes that a node needs to its peers' pods. A peer with
// a loopback address is simulated: there are no pods to reach.
func wantedRoutes(self string, peers []peer) []route {
	var routes []route
	for _, p := range peers {
		if p.name != self && p.pods.IsValid() && p.addr.IsValid() && !p.addr.IsLoopback() {
			routes = append(routes, route{pods: p.pods, via: p.addr})
		}
	}
	return routes
}

// diffRoutes returns what to remove from the existing routes, and what to add to
// them, to get the wanted ones. Removals come first, because a destination has only
// one route.
func diffRoutes(have, want []route) (remove, add []route) {
	for _, r := range have {
		if !slices.Contains(want, r) {
			remove = append(remove, r)
		}
	}
	for _, r := range want {
		if !slices.Contains(have, r) && !slices.Contains(add, r) {
			add = append(add, r)
		}
	}
	slices.SortFunc(remove, compareRoutes)
	slices.SortFunc(add, compareRoutes)
	return remove, add
}

// RemoveRoutes removes the routes that carry our mark.
func RemoveRoutes(log *slog.Logger) error { return syncRoutes(log, nil) }

// syncRoutes makes the agent's routes the wanted ones.
func syncRoutes(log *slog.Logger, want []route) error {
	have, err := ownRoutes()
	if err != nil {
		return err
	}
	var errs []error
	remove, add := diffRoutes(have, want)
	for _, r := range remove {
		if err := netlink.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the route to %s: %w", r.pods, err))
		}
	}
	for _, r := range add {
		if err := addRoute(r); err != nil {
			errs = append(errs, err)
			continue
		}
		log.Info("route to another node's pods", "pods", r.pods, "via", r.via)
	}
	return errors.Join(errs...)
}

func (r route) netlink() *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: r.pods.Addr().AsSlice(), Mask: net.CIDRMask(r.pods.Bits(), 32)},
		Gw:       r.via.AsSlice(),
		Protocol: routeProtocol,
	}
}

// ownRoutes lists the routes that carry our mark.
func ownRoutes() ([]route, error) {
	// A list that was interrupted by a change may have holes.
	interrupted := func(err error) bool { return errors.Is(err, netlink.ErrDumpInterrupted) }
	var list []netlink.Route
	err := retry.OnError(retry.DefaultBackoff, interrupted, func() (err error) {
		list, err = netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	var routes []route
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		dst, ok1 := netip.AddrFromSlice(r.Dst.IP)
		via, ok2 := netip.AddrFromSlice(r.Gw)
		if bits, _ := r.Dst.Mask.Size(); ok1 && ok2 {
			routes = append(routes, route{pods: netip.PrefixFrom(dst.Unmap(), bits), via: via.Unmap()})
		}
	}
	return routes, nil
}

// addRoute adds a route, if the other node is on a network of this node: a router
// in between would not know the pod ranges.
func addRoute(r route) error {
	paths, err := netlink.RouteGet(r.via.AsSlice())
	if err != nil {
		return fmt.Errorf("no route to the pods %s: the node's address %s cannot be reached: %w", r.pods, r.via, err)
	}
	if len(paths) == 0 || len(paths[0].Gw) > 0 {
		return fmt.Errorf("no route to the pods %s: their node %s is behind a router, and pods reach each other only if their nodes share a network; "+
			"put the nodes on one network, or add this route to the router", r.pods, r.via)
	}
	if err := netlink.RouteAdd(r.netlink()); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("no route to the pods %s via %s: a route that everynode did not make exists already; remove it, or give the cluster another pod range", r.pods, r.via)
		}
		return fmt.Errorf("add the route to the pods %s via %s: %w", r.pods, r.via, err)
	}
	return nil
}
