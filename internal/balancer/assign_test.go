package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func addr(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(text)
}

var (
	ours  = Range{addr("10.0.0.201"), addr("10.0.0.203")}
	nodes = []Node{{"node-1", addr("10.0.0.101")}, {"node-2", addr("10.0.0.102")}, {"node-3", addr("10.0.0.103")}}
)

func TestAssign(t *testing.T) {
	one, two, three := addr("10.0.0.201"), addr("10.0.0.202"), addr("10.0.0.203")
	for _, c := range []struct {
		name     string
		services []Service
		want     []string // by age: KEY=ADDRESS, or how KEY: PROBLEM begins
	}{
		{"the first that is free, by age", []Service{{Key: "young", Created: 2}, {Key: "old", Created: 1}}, []string{"old=10.0.0.201", "young=10.0.0.202"}},
		{"what it has stays", []Service{{Key: "old", Created: 1}, {Key: "new", Created: 2, Has: one}}, []string{"old=10.0.0.202", "new=10.0.0.201"}},
		{"two have the same", []Service{{Key: "new", Created: 2, Has: two}, {Key: "old", Created: 1, Has: two}}, []string{"old=10.0.0.202", "new=10.0.0.201"}},
		{"what is not ours goes", []Service{{Key: "moved", Has: addr("192.0.2.1")}}, []string{"moved=10.0.0.201"}},
		{"what it asks for", []Service{{Key: "asks", Wants: three}}, []string{"asks=10.0.0.203"}},
		{"it asks for another than it has", []Service{{Key: "asks", Has: one, Wants: three}}, []string{"asks=10.0.0.203"}},
		{"it asks for what another has", []Service{{Key: "asks", Created: 1, Wants: three}, {Key: "has", Created: 2, Has: three}},
			[]string{"asks: the service asks for the address 10.0.0.203, which another", "has=10.0.0.203"}},
		{"it asks for one that is not ours", []Service{{Key: "asks", Wants: addr("192.0.2.1")}},
			[]string{"asks: the service asks for the address 192.0.2.1, which is not one of 10.0.0.201-10.0.0.203"}},
		{"too many", []Service{{Key: "a"}, {Key: "b"}, {Key: "c"}, {Key: "d"}}, []string{"a=10.0.0.201", "b=10.0.0.202", "c=10.0.0.203", "d: all addresses of"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := Assign(c.services, nodes, ours)
			if len(given) != len(c.want) {
				t.Fatalf("%d services get %v", len(c.services), given)
			}
			for i, a := range given {
				got := fmt.Sprintf("%s=%s", a.Key, a.Address)
				if a.Problem != "" {
					got = fmt.Sprintf("%s: %s", a.Key, a.Problem)
				}
				if !strings.HasPrefix(got, c.want[i]) || a.Address.IsValid() == (a.Problem != "") {
					t.Errorf("got %s, want %s", got, c.want[i])
				}
			}
		})
	}
}

func TestNodeOfAnAddress(t *testing.T) {
	local := Service{Key: "a/local", Local: true, Nodes: []string{"node-2", "gone"}}
	if got := Assign([]Service{local}, nodes, ours)[0].Via; got != nodes[1].Address {
		t.Errorf("a service with endpoints on node-2 alone is served by %v", got)
	}
	local.Nodes = nil
	if got := Assign([]Service{local}, nodes, ours)[0].Via; got.IsValid() {
		t.Errorf("a service without endpoints is served by %v", got)
	}
	if got := Assign([]Service{{Key: "a/b"}}, nil, ours)[0]; got.Via.IsValid() || !got.Address.IsValid() {
		t.Errorf("without nodes: %+v", got)
	}
	used := map[netip.Addr]int{}
	for last := range 50 {
		used[via(Service{}, netip.AddrFrom4([4]byte{10, 0, 0, byte(201 + last)}), nodes)]++
	}
	for _, n := range nodes {
		if used[n.Address] < 5 {
			t.Errorf("of 50 addresses %s has %d", n.Name, used[n.Address])
		}
	}
}

// TestAssignIsStable: services that already have what Assign gave them get the same
// again. No address is given twice. When a node disappears, only its own addresses move.
func TestAssignIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := Range{addr("10.0.0.201"), netip.AddrFrom4([4]byte{10, 0, 0, byte(201 + rapid.IntRange(0, 8).Draw(t, "size"))})}
		any := rapid.Custom(func(t *rapid.T) netip.Addr {
			return rapid.SampledFrom([]netip.Addr{{}, {}, addr("10.0.0.201"), addr("10.0.0.203"), addr("10.0.0.205"), addr("192.0.2.9")}).Draw(t, "address")
		})
		services := make([]Service, rapid.IntRange(0, 12).Draw(t, "services"))
		for i := range services {
			services[i] = Service{Key: fmt.Sprint("a/", i), Created: rapid.Int64Range(0, 3).Draw(t, "created"), Has: any.Draw(t, "has"), Wants: any.Draw(t, "wants")}
		}
		given := Assign(services, nodes, of)
		seen := map[netip.Addr]bool{}
		for _, a := range given {
			if a.Address.IsValid() && (seen[a.Address] || !of.Contains(a.Address)) {
				t.Fatalf("%s gets %s, which another has, or is not ours", a.Key, a.Address)
			}
			seen[a.Address] = true
			i := slices.IndexFunc(services, func(s Service) bool { return s.Key == a.Key })
			services[i].Has = a.Address
		}
		if again := Assign(services, nodes, of); !slices.Equal(again, given) {
			t.Fatalf("asked again:\n%v\n%v", given, again)
		}
		for i, a := range Assign(services, nodes[1:], of) {
			if given[i].Via != nodes[0].Address && a.Via != given[i].Via {
				t.Fatalf("node-1 went, and %s moved from %s to %s", a.Address, given[i].Via, a.Via)
			}
		}
	})
}

func TestParseRange(t *testing.T) {
	for _, text := range []string{"", "10.0.0.1", "10.0.0.9-10.0.0.1", "10.0.0.1-x", "::1-::2", "10.0.0.1-10.0.0.2-10.0.0.3"} {
		if r, err := ParseRange(text); err == nil {
			t.Errorf("%q is taken for %v", text, r)
		}
	}
	r, err := ParseRange("10.0.0.201-10.0.0.203")
	if err != nil || r != ours || r.Contains(addr("10.0.0.200")) || r.Contains(addr("10.0.0.204")) || !r.Contains(addr("10.0.0.203")) {
		t.Errorf("%v, %v", r, err)
	}
}
