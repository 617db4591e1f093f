package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// kept is a Ledger with the snapshot that it stands for.
type kept struct {
	in     Input
	ledger Ledger
	// What the last calls of Settle have reported, by node.
	creates map[string][]Create
	deletes map[string][]Delete
	changes map[string][]Change
}

func keep(in *Input) *kept {
	k := &kept{in: *in}
	k.reset()
	return k
}

func (k *kept) reset() {
	k.creates, k.deletes, k.changes = map[string][]Create{}, map[string][]Delete{}, map[string][]Change{}
	k.ledger.Reset(k.in.Set)
	k.ledger.Follow(k.in.Release)
	k.ledger.Guard(k.in.Guard)
	names := map[string]bool{}
	for i := range k.in.Nodes {
		names[k.in.Nodes[i].Name] = true
	}
	for i := range k.in.Pods {
		names[k.in.Pods[i].Node] = true
	}
	for name := range names {
		k.look(name)
	}
}

func (k *kept) look(name string) {
	if name == "" {
		return
	}
	s := Sight{Name: name, Gone: k.in.Gone[name], Backoff: k.in.Backoff[name], Waits: k.in.Waits[name], Left: k.in.Left[name], Reached: k.in.Reached[name], Refused: k.in.Refused[name]}
	for i := range k.in.Nodes {
		if k.in.Nodes[i].Name == name {
			s.Node = &k.in.Nodes[i]
		}
	}
	for i := range k.in.Pods {
		if k.in.Pods[i].Node == name {
			s.Pods = append(s.Pods, &k.in.Pods[i])
		}
	}
	k.ledger.Look(k.in.Now, s)
}

func (k *kept) settle() {
	k.ledger.Settle(func(v *Verdict) {
		k.creates[v.Node], k.deletes[v.Node], k.changes[v.Node] = slices.Clone(v.Creates()), slices.Clone(v.Deletes()), slices.Clone(v.Changes())
	})
}

// inOrder returns the elements of the map, sorted by key.
func inOrder[T any](m map[string][]T) (all []T) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[name]...)
	}
	return all
}

// differs compares the ledger to Make.
func (k *kept) differs() string {
	var want Plan
	Make(&k.in, &want)
	want.Verdicts = slices.DeleteFunc(want.Verdicts, func(v Verdict) bool { return v.empty() })
	got := Plan{Creates: inOrder(k.creates), Deletes: inOrder(k.deletes), Changes: inOrder(k.changes), Status: k.ledger.Status(), Exposure: k.ledger.Totals().Exposure, Guarded: k.ledger.Totals().Guarded, WakeAt: k.ledger.WakeAt()}
	k.ledger.Nodes(func(v *Verdict) { got.Verdicts = append(got.Verdicts, *v) })
	slices.SortFunc(got.Verdicts, func(a, b Verdict) int { return strings.Compare(a.Node, b.Node) })
	return cmp.Diff(want, got, cmpopts.IgnoreUnexported(Plan{}), cmp.AllowUnexported(Verdict{}), cmpopts.EquateEmpty())
}

// change draws something that happens to one node, or to all.
func (k *kept) change(t *rapid.T) {
	name := fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "where"))
	switch rapid.SampledFrom([]string{"node", "no node", "pod", "pod", "no pods", "gone", "left", "backoff", "no backoff", "wait", "no wait", "guard", "time", "time", "spec"}).Draw(t, "what") {
	case "node":
		k.in.Nodes = slices.DeleteFunc(k.in.Nodes, func(n Node) bool { return n.Name == name })
		k.in.Nodes = append(k.in.Nodes, drawNode(t, name))
	case "no node":
		k.in.Nodes = slices.DeleteFunc(k.in.Nodes, func(n Node) bool { return n.Name == name })
	case "pod":
		p := drawPod(t, fmt.Sprintf("p%d", rapid.IntRange(0, 11).Draw(t, "pod")))
		for _, old := range k.in.Pods {
			if old.Name == p.Name {
				k.in.Pods = slices.DeleteFunc(k.in.Pods, func(o Pod) bool { return o.Name == p.Name })
				k.look(old.Node)
				break
			}
		}
		k.in.Pods = append(k.in.Pods, p)
		name = p.Node
	case "no pods":
		k.in.Pods = slices.DeleteFunc(k.in.Pods, func(p Pod) bool { return p.Node == name })
	case "gone":
		k.in.Gone[name] = !k.in.Gone[name]
	case "left":
		k.in.Left[name] = !k.in.Left[name]
	case "wait":
		k.in.Waits[name] = drawWaits(t, &k.in, name)
	case "no wait":
		delete(k.in.Waits, name)
	case "backoff":
		k.in.Backoff[name] = drawBackoff(t, "last-"+name)
	case "no backoff":
		delete(k.in.Backoff, name)
	case "time":
		k.pass(t)
		return
	case "guard":
		if k.in.Guard = nil; rapid.Bool().Draw(t, "guarded") {
			k.in.Guard = drawGuard(t)
		}
		k.ledger.Guard(k.in.Guard)
		for i := range 7 {
			k.look(fmt.Sprintf("n%d", i))
		}
		return
	case "spec":
		k.in.Set = drawSpec(t)
		k.reset()
		return
	}
	k.look(name)
}

// pass lets time go by: until something is due, or a little.
func (k *kept) pass(t *rapid.T) {
	if at := k.ledger.WakeAt(); !at.IsZero() && rapid.Bool().Draw(t, "due") {
		k.in.Now = at
	} else {
		k.in.Now = k.in.Now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 1000, 3600}).Draw(t, "seconds")) * time.Second)
	}
	for _, name := range k.ledger.Due(k.in.Now, nil) {
		k.look(name)
	}
}

// A ledger that looked only at nodes where something has changed has the same result as Make for the whole.
func TestLedgerIsMake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := keep(drawInput(t))
		k.settle()
		if diff := k.differs(); diff != "" {
			t.Fatalf("at first (-Make +Ledger):\n%s", diff)
		}
		for i := range rapid.IntRange(1, 12).Draw(t, "changes") {
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				k.change(t)
			}
			k.settle()
			if diff := k.differs(); diff != "" {
				t.Fatalf("after %d changes (-Make +Ledger):\n%s", i+1, diff)
			}
		}
	})
}

// Of the pods that wait for the budget the first by name moves, even if one that comes later by name was let
// go before: that one waits again.
func TestLedgerMovesTheFirst(t *testing.T) {
	in := fleet(4)
	in.Set.Hash, in.Set.MaxUnavailable = "next", Amount{Value: 1}
	i := slices.IndexFunc(in.Pods, func(p Pod) bool { return p.Node == "node-000000" })
	in.Pods[i].Hash = "next"
	k := keep(in)
	moves := func() (nodes []string) {
		k.settle()
		for _, d := range inOrder(k.deletes) {
			nodes = append(nodes, d.Node)
		}
		return nodes
	}
	if got := moves(); !slices.Equal(got, []string{"node-000001"}) {
		t.Fatalf("%q move, want the second node", got)
	}
	k.in.Pods[i].Hash = "a"
	k.look("node-000000")
	if got := moves(); !slices.Equal(got, []string{"node-000000"}) {
		t.Errorf("%q move, want the first node", got)
	}
	if diff := k.differs(); diff != "" {
		t.Errorf("-Make +Ledger:\n%s", diff)
	}
}

// Pods that are ready on nodes that still count as down, because minReadySeconds have not passed, take
// nothing away: where the budget allows as many nodes down as exist, all of them move at once.
func TestLedgerMovesYoungPodsTogether(t *testing.T) {
	in := fleet(4)
	in.Set.Hash, in.Set.MinReady, in.Set.MaxUnavailable = "next", 2*time.Hour, Amount{Value: 4}
	k := keep(in)
	k.settle()
	if got := len(inOrder(k.deletes)); got != 4 {
		t.Errorf("%d pods move, want all four", got)
	}
	if diff := k.differs(); diff != "" {
		t.Errorf("-Make +Ledger:\n%s", diff)
	}
}

// keepFleet returns a ledger over fleet, with a Sight of a node that is updated and one of the same node when
// its pod is not.
func keepFleet(in *Input) (k *kept, busy, idle Sight) {
	k = &kept{in: *in}
	k.ledger.Reset(k.in.Set)
	k.ledger.Follow(in.Release)
	k.ledger.Guard(in.Guard)
	nodes := len(in.Nodes)
	for i := range k.in.Nodes {
		k.ledger.Look(k.in.Now, Sight{Name: k.in.Nodes[i].Name, Node: &k.in.Nodes[i], Pods: []*Pod{&k.in.Pods[i]}})
	}
	k.ledger.Settle(func(*Verdict) {})
	n, p := &k.in.Nodes[nodes/2], k.in.Pods[nodes/2]
	p.Hash, p.Ready = "b", false
	busy = Sight{Name: n.Name, Node: n, Pods: []*Pod{&p}}
	idle = Sight{Name: n.Name, Node: n, Pods: []*Pod{&k.in.Pods[nodes/2]}}
	return k, busy, idle
}

// An event costs the same in a fleet of any size, and allocates nothing, in a release or without one.
func TestLedgerDoesNotAllocate(t *testing.T) {
	for what, in := range map[string]*Input{"without a release": fleet(5000), "in a release": releasedFleet(5000)} {
		t.Run(what, func(t *testing.T) {
			k, busy, idle := keepFleet(in)
			moved := 0
			event := func() {
				k.ledger.Look(k.in.Now, busy)
				k.ledger.Settle(func(*Verdict) { moved++ })
				k.ledger.Look(k.in.Now, idle)
				k.ledger.Settle(func(*Verdict) { moved++ })
			}
			event()
			if moved < 4 {
				t.Fatalf("%d verdicts changed: a node that goes down takes another's place", moved)
			}
			if got := testing.AllocsPerRun(100, event); got > 0 {
				t.Errorf("two events allocate %v times", got)
			}
		})
	}
}

// releasedFleet returns a fleet in the middle of a release, which has reached half of the nodes.
func releasedFleet(nodes int) *Input {
	in := fleet(nodes)
	in.Release = &Release{Number: 1, Stable: in.Set, Ranks: map[string]int{}, Steps: []int{1, nodes / 2, nodes}, Quota: nodes / 2,
		Grants: true, StartWithin: 10 * time.Minute, Restarts: 3}
	in.Release.Stable.Hash = "a"
	for i := range in.Nodes {
		in.Release.Ranks[in.Nodes[i].Name] = i
	}
	return in
}

// BenchmarkLedgerPodEventInARelease measures the same in the middle of a release.
func BenchmarkLedgerPodEventInARelease(b *testing.B) {
	k, busy, idle := keepFleet(releasedFleet(100_000))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := busy
		if i%2 == 1 {
			s = idle
		}
		k.ledger.Look(k.in.Now, s)
		k.ledger.Settle(func(*Verdict) {})
	}
}

func BenchmarkLedgerPodEvent(b *testing.B) {
	for _, nodes := range []int{500, 20000, 100000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			k, busy, idle := keepFleet(fleet(nodes))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s := busy
				if i%2 == 1 {
					s = idle
				}
				k.ledger.Look(k.in.Now, s)
				k.ledger.Settle(func(*Verdict) {})
			}
		})
	}
}
