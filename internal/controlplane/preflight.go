package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/retry"

	"everynode/internal/controlplane/pki"
	"everynode/internal/datadir"
)

// claim is what a running control plane occupies on its host.
type claim struct {
	dir      *datadir.Dir
	unlock   func() error
	listener net.Listener // nil once the API server has it
}

// preflight checks all that can be checked before anything is started, and
// takes the data directory's lock and the listen address. When it fails, it leaves
// nothing behind except a data directory that is marked as ours.
func preflight(s *settings) (*claim, error) {
	c, err := claimData(s)
	if err != nil {
		return nil, err
	}
	if c.listener, err = listen(s.listen); err == nil {
		err = c.dir.SetServed()
	}
	if err != nil {
		return nil, errors.Join(err, c.release())
	}
	return c, nil
}

// claimData takes the data directory and checks its content.
func claimData(s *settings) (*claim, error) {
	dir, err := datadir.Claim(s.DataDir, datadir.Server)
	if err != nil {
		return nil, err
	}
	unlock, err := s.data().lock()
	if err != nil {
		return nil, err
	}
	err = s.data().checkSecrets()
	if err == nil {
		err = checkStore(s, dir)
	}
	if err == nil {
		err = checkData(s)
	}
	if err == nil {
		err = s.data().clearSnapshots()
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return &claim{dir: dir, unlock: unlock}, nil
}

// release gives up the data directory, and the address if nobody took it over.
func (c *claim) release() error {
	var err error
	if c.listener != nil {
		err = c.listener.Close()
	}
	return errors.Join(err, c.unlock())
}

// checkStore refuses to create a new etcd where there was one: kubelets would
// take the empty cluster for theirs, and end all their pods.
func checkStore(s *settings, dir *datadir.Dir) error {
	if !s.embeddedStore || exists(s.data().storeDir()) {
		return nil
	}
	hadOne := dir.Store() == datadir.StoreMade
	if dir.Store() == datadir.StoreUnknown { // made by a release that did not record it
		ca, _ := pki.Paths(s.path("pki"), pki.ClusterCA)
		hadOne = exists(ca) && exists(s.path("version"))
	}
	if hadOne {
		return fmt.Errorf("the cluster in %s has lost its etcd: %s is missing, and a server that starts without it would be a new, empty cluster with the old keys, whose nodes end all their pods; "+
			"mount the disk that has it, restore it (everynode server snapshot restore FILE), name an external etcd with --etcd-servers, or name another data directory for a new cluster",
			s.DataDir, s.data().storeDir())
	}
	return dir.SetStore(datadir.StoreBegun)
}

// checkData compares the data directory and the host with the settings, and
// writes the record when the directory is new.
func checkData(s *settings) error {
	routes, err := hostRoutes()
	if err != nil {
		return err
	}
	old, err := readRecord(s.path("version"))
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return err
	}
	if !isNew {
		if err := old.allows(s); err != nil {
			return err
		}
	}
	if err := checkRanges(s, routes, !isNew); err != nil {
		return err
	}
	s.encryptSecrets = s.EncryptSecrets || old.Format != plainFormat
	now := dataRecord{max(plainFormat, old.Format), s.serviceRange.String(), s.podRange.String()}
	if s.embeddedStore && s.encryptSecrets { // for another store, its own record decides later
		now.Format = max(encryptedFormat, now.Format)
	}
	// If there is a store but no record, it was restored from etcd's own snapshot, and
	// nothing is known about it.
	s.keyringFirst = !s.embeddedStore || now.Format >= keyringFormat || isNew && exists(s.data().storeDir())
	if now == old {
		return nil
	}
	return s.data().writeRecord(now)
}

// allows returns an error if a cluster that was made with r cannot run with s.
func (r dataRecord) allows(s *settings) error {
	if r.Format > dataFormat {
		return fmt.Errorf("the data directory %s has format %d, made by a newer everynode; this one reads up to format %d: use the newer everynode, or another data directory",
			s.DataDir, r.Format, dataFormat)
	}
	if !s.embeddedStore {
		return nil // its objects are elsewhere, and so is the record of their ranges
	}
	for _, c := range []struct{ what, was, is string }{
		{"service range", r.ServiceCIDR, s.serviceRange.String()},
		{"pod range", r.PodCIDR, s.podRange.String()},
	} {
		if c.was != c.is {
			return fmt.Errorf("the cluster in %s was made with the %s %s, and its objects use addresses of that range; it cannot change to %s: use the old range, or another data directory",
				s.DataDir, c.what, c.was, c.is)
		}
	}
	return nil
}

// listen takes the API server's address before anything else is done, so that
// a port in use is reported at once.
func listen(addr netip.AddrPort) (net.Listener, error) {
	l, err := net.Listen("tcp", addr.String())
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use by another program: stop it, or listen on another port: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("the address %s belongs to no interface of this machine: listen on one that does (ip address shows them): %w", addr.Addr(), err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listening on port %d needs root: run as root, or listen on a port above 1023: %w", addr.Port(), err)
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// route is one row of the host's routing table.
type route struct {
	to     netip.Prefix
	device string
}

// hostRoutes lists the routes that lead to a part of the address space. It leaves
// out default routes, and routes to halves of the space that stand in for one.
func hostRoutes() ([]route, error) {
	// If a change of the routes interrupts the listing, the list may have gaps.
	interrupted := func(err error) bool { return errors.Is(err, netlink.ErrDumpInterrupted) }
	var list []netlink.Route
	err := retry.OnError(retry.DefaultBackoff, interrupted, func() (err error) {
		list, err = netlink.RouteList(nil, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the host's routes: %w", err)
	}
	var routes []route
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if !ok || bits < 8 {
			continue
		}
		out := route{to: netip.PrefixFrom(addr.Unmap(), bits)}
		if link, err := net.InterfaceByIndex(r.LinkIndex); err == nil {
			out.device = link.Name
		}
		routes = append(routes, out)
	}
	return routes, nil
}

// checkRanges refuses ranges that overlap each other or a route of the host.
// joined: this cluster has run before, so a route inside the pod range leads
// to one of its own nodes.
func checkRanges(s *settings, routes []route, joined bool) error {
	own := ownRoutes(s, routes, joined)
	type named struct {
		what string
		cidr netip.Prefix
	}
	ranges := []named{{"service range", s.serviceRange}, {"pod range", s.podRange}}
	if s.nodeRange.IsValid() {
		ranges = append(ranges, named{"node range", s.nodeRange})
	}
	for i, a := range ranges {
		for _, b := range ranges[i+1:] {
			if a.cidr.Overlaps(b.cidr) {
				return fmt.Errorf("the %s %s and the %s %s overlap: choose another range for one of them", a.what, a.cidr, b.what, b.cidr)
			}
		}
		for _, r := range routes {
			if a.cidr.Overlaps(r.to) && !own(r) {
				return fmt.Errorf("the %s %s overlaps the route to %s (device %s) of this machine: choose another %s, or remove the route",
					a.what, a.cidr, r.to, r.device, a.what)
			}
		}
	}
	return nil
}

// ownRoutes returns a predicate: whether the cluster itself needs a route, which
// leads to its nodes, or over their bridge to their pods.
func ownRoutes(s *settings, routes []route, joined bool) func(route) bool {
	bridges := sets.New[string]()
	for _, r := range routes {
		if s.nodeRange.IsValid() && within(r.to, s.nodeRange) {
			bridges.Insert(r.device)
		}
	}
	return func(r route) bool {
		if within(r.to, s.podRange) {
			return joined || bridges.Has(r.device)
		}
		return s.nodeRange.IsValid() && within(r.to, s.nodeRange)
	}
}

func within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
