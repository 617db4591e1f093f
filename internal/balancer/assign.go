package balancer

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// Service is a service of type LoadBalancer.
type Service struct {
	// Key is "namespace/name". Created is a time in seconds, and only orders services.
	Key     string
	Created int64
	// Has is the address in its status; Wants the one that it asks for. Both may be
	// the zero address.
	Has, Wants netip.Addr
	// Local: only nodes with an endpoint of the service may get its traffic
	// (externalTrafficPolicy). Nodes lists these nodes.
	Local bool
	Nodes []string
}

// Node is a node that takes traffic.
type Node struct {
	Name    string
	Address netip.Addr
}

// Assignment is what one service gets.
type Assignment struct {
	Key string
	// Address is the zero address if there is none to give. Problem says why, and what to do.
	Address netip.Addr
	Problem string
	// Via is the address of the node that gets its traffic; zero: no node can at the moment.
	Via netip.Addr
}

// Range is a range of addresses that includes both ends.
type Range struct{ First, Last netip.Addr }

// ParseRange reads FIRST-LAST.
func ParseRange(text string) (Range, error) {
	first, last, _ := strings.Cut(text, "-")
	var r Range
	var errs [2]error
	r.First, errs[0] = netip.ParseAddr(first)
	r.Last, errs[1] = netip.ParseAddr(last)
	if errs[0] != nil || errs[1] != nil || !r.First.Is4() || !r.Last.Is4() || r.Last.Less(r.First) {
		return Range{}, fmt.Errorf("%q is not a range of IPv4 addresses: give the first and the last, for example 192.0.2.200-192.0.2.250", text)
	}
	return r, nil
}

// String returns FIRST-LAST.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Contains reports whether an address is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.IsValid() && !a.Less(r.First) && !r.Last.Less(a)
}

// Assign gives each service an address and a node. A service keeps what it has; if two have the
// same address, the older one keeps it. nodes are those that can take traffic. The assignments
// are in the order of the services' age, the oldest first.
func Assign(services []Service, nodes []Node, of Range) []Assignment {
	byAge := slices.Clone(services)
	slices.SortFunc(byAge, func(a, b Service) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Key, b.Key)) })
	taken, given := map[netip.Addr]bool{}, make([]Assignment, len(byAge))
	for i, s := range byAge { // those that have an address come first: an older service without one could take it
		given[i].Key = s.Key
		if of.Contains(s.Has) && !taken[s.Has] && (!s.Wants.IsValid() || s.Wants == s.Has) {
			given[i].Address, taken[s.Has] = s.Has, true
		}
	}
	for i, s := range byAge {
		if !given[i].Address.IsValid() {
			given[i].Address, given[i].Problem = choose(s, of, taken)
			taken[given[i].Address] = true
		}
		if given[i].Address.IsValid() {
			given[i].Via = via(s, given[i].Address, nodes)
		}
	}
	return given
}

// choose finds an address for a service that has none.
func choose(s Service, of Range, taken map[netip.Addr]bool) (a netip.Addr, problem string) {
	switch {
	case s.Wants.IsValid() && !of.Contains(s.Wants):
		return a, fmt.Sprintf("the service asks for the address %s, which is not one of %s: ask for one of these, or for none", s.Wants, of)
	case s.Wants.IsValid() && taken[s.Wants]:
		return a, fmt.Sprintf("the service asks for the address %s, which another service has: ask for another one of %s, or for none", s.Wants, of)
	case s.Wants.IsValid():
		return s.Wants, ""
	}
	for a = of.First; of.Contains(a); a = a.Next() {
		if !taken[a] {
			return a, ""
		}
	}
	return netip.Addr{}, fmt.Sprintf("all addresses of %s are in use: delete a service of type LoadBalancer", of)
}

// via chooses the node of an address. It stays the same as long as that node serves, and
// differs between addresses.
func via(s Service, address netip.Addr, nodes []Node) netip.Addr {
	serving := nodes
	if s.Local {
		serving = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !slices.Contains(s.Nodes, n.Name) })
	}
	if len(serving) == 0 {
		return netip.Addr{}
	}
	// The node with the highest weight for the address (rendezvous hashing): when a node
	// disappears, only its own addresses move.
	return slices.MaxFunc(serving, func(a, b Node) int {
		return cmp.Or(cmp.Compare(weight(address, a.Address), weight(address, b.Address)), a.Address.Compare(b.Address))
	}).Address
}

// weight returns a pseudorandom number that depends only on the two addresses.
func weight(address, node netip.Addr) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(address.AsSlice()) // a hash never fails
	_, _ = h.Write(node.AsSlice())
	return h.Sum64()
}
