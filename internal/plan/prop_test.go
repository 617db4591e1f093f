package plan

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// The properties below are checked on worlds that no engine would produce: any number of pods on any node in any state.
// The numbers are those of doc.go.

// I1: after the plan, a node on which nothing was uncertain has at most one live pod, or with surge at most one of each
// kind.
func TestOnePodPerNode(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		if w.in.Set.Halt != NoReason {
			t.Skip()
		}
		deleted := map[string]bool{}
		for _, d := range out.Deletes {
			if deleted[d.Pod] {
				t.Fatalf("%s is deleted twice", d.Pod)
			}
			deleted[d.Pod] = true
			if p := w.pod(d.Pod); p.UID != d.UID || p.Node != d.Node || p.Uncertain {
				t.Fatalf("bad delete %+v of %+v", d, p)
			}
		}
		for _, n := range w.in.Nodes {
			count := map[bool]int{}
			for _, p := range w.podsOf(n.Name) {
				if p.Uncertain || p.Newer {
					count = map[bool]int{true: -100, false: -100}
				}
				if isLive(p) && !deleted[p.Name] {
					count[w.isCurrent(p)]++
				}
			}
			for _, c := range out.Creates {
				if c.Node == n.Name {
					count[true]++
				}
			}
			if w.waits(n.Name) {
				continue
			}
			if count[true] > 1 || count[false] > 1 || !w.surges() && count[true]+count[false] > 1 {
				t.Fatalf("%s ends with %v pods\n%s", n.Name, count, Render(out, w.in.Now))
			}
		}
	})
}

// I1, the other half: without surge, no pod is created beside one that runs or is still terminating, nor beside a failed
// one that still exists. With surge, never beside a current one. Never where something is uncertain.
func TestCreatesOnlyWhereThereIsRoom(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, c := range out.Creates {
			n, ok := w.node(c.Node)
			if run, _ := w.runs(n); !ok || !run || n.UID != c.NodeUID {
				t.Fatalf("create %+v on %+v (I2)", c, n)
			}
			for _, p := range w.podsOf(c.Node) {
				ended := p.Phase == Failed || p.Phase == Succeeded
				waits := p.Deleted.IsZero() || !ended // it waits for more than a finalizer
				if p.Uncertain || p.Newer || waits && !w.surges() || w.surges() && p.Deleted.IsZero() && w.isCurrent(p) {
					t.Fatalf("create %+v beside %+v", c, p)
				}
			}
		}
	})
}

// I3: pods that may not be on a node are all deleted at once. A pod that may stay goes only for a reason of its own.
func TestEviction(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		reasons := map[string]Reason{}
		for _, d := range out.Deletes {
			reasons[d.Pod] = d.Reason
		}
		for _, p := range w.in.Pods {
			n, known := w.node(p.Node)
			_, keep := w.runs(n)
			why, deleted := reasons[p.Name]
			switch {
			case w.in.Set.Halt != NoReason:
				if deleted {
					t.Fatalf("%s is deleted although the set is halted", p.Name)
				}
			case w.withholds(p.Node, Act{Kind: Deleting, Pod: p.UID, Now: !known && w.in.Gone[p.Node]}):
				if deleted {
					t.Fatalf("%s is deleted although that waits for its next try", p.Name)
				}
			case known && w.isHeld(p.Node):
				if deleted {
					t.Fatalf("%s is deleted on a node with a pod of a newer template (I13)", p.Name)
				}
			case known && !keep && p.Deleted.IsZero() && !p.Uncertain:
				if why != NotSelected && why != TaintEvicts {
					t.Fatalf("%s stays on %+v (%v)", p.Name, n, why)
				}
			case known && keep && (why == NotSelected || why == TaintEvicts || why == NodeGone):
				t.Fatalf("%s goes from %+v: %v", p.Name, n, why)
			case !known && deleted != (p.Node != "" && !p.Uncertain && (w.in.Gone[p.Node] && !p.Forced || !w.in.Gone[p.Node] && !p.Bound && p.Deleted.IsZero())):
				t.Fatalf("%+v of an unknown node: deleted %v", p, deleted)
			}
		}
	})
}

// I4, I5: the budget is kept, and it is used.
func TestBudget(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		if w.surges() || w.in.Set.Strategy == OnDelete || w.in.Set.Halt != NoReason {
			t.Skip()
		}
		allowed := w.in.Set.MaxUnavailable.Of(w.desired())
		if allowed == 0 {
			allowed = 1
		}
		down, _ := w.b()
		spent, young, waiting := 0, 0, 0
		for _, d := range outdated(out) {
			switch p := w.pod(d.Pod); {
			case d.Reason != Outdated:
			case w.isAvailable(p):
				spent++
			case p.Ready:
				young++
			}
		}
		for _, v := range out.Verdicts {
			if v.Reason == BudgetSpent {
				waiting++
			}
		}
		if young > 0 && down+spent > allowed {
			t.Fatalf("%d that serve, though not for long, are deleted, with %d of %d down\n%s", young, down+spent, allowed, Render(out, w.in.Now))
		}
		if spent > 0 && down+spent > allowed {
			t.Fatalf("%d down and %d more deleted, %d allowed\n%s", down, spent, allowed, Render(out, w.in.Now))
		}
		if waiting > 0 && down+spent < allowed {
			t.Fatalf("%d wait although %d are down, %d deleted and %d allowed\n%s", waiting, down, spent, allowed, Render(out, w.in.Now))
		}
		unavailableFirst(t, w, out)
	})
}

// outdated returns the deletes, and the changes as if they were deletes, because they cost the same.
func outdated(out *Plan) []Delete {
	all := slices.Clone(out.Deletes)
	for _, c := range out.Changes {
		all = append(all, Delete{Node: c.Node, Pod: c.Pod, UID: c.UID, Reason: Outdated, Hash: c.From, Reaches: c.Reaches})
	}
	return all
}

// P2, P3: a changed pod is the only live pod of a node that should run it; it is outdated, its revision can be changed in
// place, and its kubelet is there to do it. A pod that could be changed is not deleted for being outdated.
func TestChanges(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		could := func(p Pod) bool {
			n, ok := w.node(p.Node)
			run, _ := w.runs(n)
			return ok && run && n.Ready && isLive(p) && p.Phase == Running && p.Bound && !p.Unchangeable && !w.inDoubt(p) && !w.surges() &&
				w.in.Set.InPlace[p.Hash] && !w.isCurrent(p) && w.in.Set.Strategy == RollingUpdate && w.in.Set.Halt == NoReason
		}
		for _, c := range out.Changes {
			p := w.pod(c.Pod)
			lives := slices.DeleteFunc(w.podsOf(c.Node), func(p Pod) bool { return !isLive(p) })
			if p.UID != c.UID || p.Node != c.Node || p.Uncertain || c.From != p.Hash || !could(p) || len(lives) != 1 || w.withholds(c.Node, c.Act()) || w.isHeld(c.Node) {
				t.Fatalf("bad change %+v of %+v\n%s", c, p, Render(out, w.in.Now))
			}
			if slices.ContainsFunc(out.Creates, func(n Create) bool { return n.Node == c.Node }) || slices.ContainsFunc(out.Deletes, func(d Delete) bool { return d.Pod == c.Pod }) {
				t.Fatalf("more than the change of %s\n%s", c.Pod, Render(out, w.in.Now))
			}
		}
		for _, d := range out.Deletes {
			if p := w.pod(d.Pod); d.Reason == Outdated && could(p) {
				t.Fatalf("%+v is deleted, and could be changed\n%s", p, Render(out, w.in.Now))
			}
		}
	})
}

// unavailableFirst checks that an outdated pod that is not ready, alone on a node that should run one, is always
// replaced.
func unavailableFirst(t *rapid.T, w twin, out *Plan) {
	for _, n := range w.in.Nodes {
		pods := slices.DeleteFunc(w.podsOf(n.Name), func(p Pod) bool { return !isLive(p) && !p.Uncertain })
		run, _ := w.runs(n)
		if !run || w.isHeld(n.Name) || w.waits(n.Name) || len(pods) != 1 || w.isCurrent(pods[0]) || pods[0].Ready || pods[0].Uncertain {
			continue
		}
		if !slices.ContainsFunc(outdated(out), func(d Delete) bool { return d.Pod == pods[0].Name && d.Reason == Outdated }) {
			t.Fatalf("%s is down and outdated, but stays\n%s", pods[0].Name, Render(out, w.in.Now))
		}
	}
}

// I4 with surge: no node that serves stops serving because of an update, unless it should not have a pod and enough
// others serve; and the slots are kept.
func TestSurgeBudget(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		if !w.surges() || w.in.Set.Halt != NoReason {
			t.Skip()
		}
		_, serving := w.b()
		left := 0
		for _, d := range out.Deletes {
			p := w.pod(d.Pod)
			if !p.Ready || d.Reason != Outdated && d.Reason != Surged && d.Reason != TaintNotTolerated {
				continue
			}
			n, _ := w.node(p.Node)
			run, _ := w.runs(n)
			other := slices.ContainsFunc(w.podsOf(p.Node), func(q Pod) bool { return q.Name != p.Name && w.isAvailable(q) })
			if !other && run {
				t.Fatalf("%s serves, and no other pod of its node is available\n%s", p.Name, Render(out, w.in.Now))
			}
			if !w.isAvailable(p) {
				continue
			}
			if !other {
				left++
			}
		}
		if left > 0 && serving-left < w.desired() {
			t.Fatalf("%d serve, %d leave, %d desired\n%s", serving, left, w.desired(), Render(out, w.in.Now))
		}
		slots(t, w, out)
	})
}

func slots(t *rapid.T, w twin, out *Plan) {
	held, taken := 0, 0
	for _, n := range w.in.Nodes {
		pods := w.podsOf(n.Name)
		run, keep := w.runs(n)
		old := slices.ContainsFunc(pods, func(p Pod) bool { return isLive(p) && !w.isCurrent(p) && (run || p.Bound) })
		failed := slices.ContainsFunc(pods, func(p Pod) bool { return w.isCurrent(p) && !isLive(p) && p.Deleted.IsZero() })
		live := slices.DeleteFunc(pods, func(p Pod) bool { return !w.isCurrent(p) || !isLive(p) || !run && !p.Bound })
		if keep && old && (failed || len(live) > 0 && !slices.ContainsFunc(live, w.isAvailable)) {
			held++
		}
	}
	for _, c := range out.Creates {
		if slices.ContainsFunc(w.podsOf(c.Node), func(p Pod) bool { return isLive(p) && p.Ready }) {
			taken++
		}
	}
	if taken > 0 && held+taken > w.in.Set.MaxSurge.Of(w.desired()) {
		t.Fatalf("%d slots held, %d taken\n%s", held, taken, Render(out, w.in.Now))
	}
}

// I7: OnDelete never deletes a live pod that is alone on a node that may keep it.
func TestOnDelete(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, d := range out.Deletes {
			if w.in.Set.Strategy != OnDelete {
				t.Skip()
			}
			if d.Reason == Outdated || d.Reason == Surged || d.Reason == TaintNotTolerated {
				t.Fatalf("OnDelete deletes %+v", d)
			}
			if d.Reason == Duplicate && len(slices.DeleteFunc(w.podsOf(d.Node), func(p Pod) bool { return !isLive(p) })) < 2 {
				t.Fatalf("%+v is not a duplicate", d)
			}
		}
	})
}

// I3: an unbound pod, on a node that only keeps what runs, changes nothing on other nodes.
func TestUnboundAndKept(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		without := clone(w.in)
		keeps := map[string]bool{}
		for _, n := range w.in.Nodes {
			run, keep := w.runs(n)
			keeps[n.Name] = keep && !run && !w.isHeld(n.Name)
		}
		without.Pods = slices.DeleteFunc(without.Pods, func(p Pod) bool {
			// A ready pod does not count here, and an uncertain one holds up its node.
			return keeps[p.Node] && !p.Bound && isLive(p) && !p.Ready && !p.Uncertain
		})
		if slices.ContainsFunc(w.in.Nodes, func(n Node) bool { return w.isExcused(n) != twin{without}.isExcused(n) }) {
			t.Skip() // the pod shows since when its node has been in trouble
		}
		var other Plan
		Make(without, &other)
		if diff := cmp.Diff(actsElsewhere(&other, keeps), actsElsewhere(out, keeps)); diff != "" {
			t.Fatalf("elsewhere (-without +with):\n%s", diff)
		}
	})
}

func actsElsewhere(p *Plan, not map[string]bool) (acts []any) {
	for _, d := range p.Deletes {
		if !not[d.Node] {
			acts = append(acts, d)
		}
	}
	for _, c := range p.Creates {
		acts = append(acts, c)
	}
	return acts
}

// Before WakeAt, time alone changes nothing. Where there is something to do it may: it is done by then.
func TestNothingChangesBeforeWakeAt(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		if len(out.Creates)+len(out.Deletes) > 0 {
			t.Skip()
		}
		later := clone(w.in)
		later.Now = later.Now.Add(rapid.SampledFrom([]time.Duration{
			time.Nanosecond, time.Second, 30 * time.Second, 20 * time.Minute, time.Hour}).Draw(t, "later"))
		if at := out.WakeAt; !at.IsZero() && !later.Now.Before(at) {
			later.Now = at.Add(-1)
		}
		var again Plan
		Make(later, &again)
		if diff := diffPlans(out, &again); diff != "" {
			t.Fatalf("after %v (-then +now):\n%s", later.Now.Sub(w.in.Now), diff)
		}
	})
}

// I8: neither the order of the input matters nor what the plan contained before. And Make does not write to its input.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := clone(in)
		var out, again Plan
		Make(in, &out)
		if diff := cmp.Diff(before, in); diff != "" {
			t.Fatalf("Make changed its input:\n%s", diff)
		}
		Make(drawInput(t), &again)
		shuffled := clone(in)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled.Nodes), func(i, j int) {
			shuffled.Nodes[i], shuffled.Nodes[j] = shuffled.Nodes[j], shuffled.Nodes[i]
		})
		r.Shuffle(len(shuffled.Pods), func(i, j int) {
			shuffled.Pods[i], shuffled.Pods[j] = shuffled.Pods[j], shuffled.Pods[i]
		})
		Make(shuffled, &again)
		if diff := diffPlans(&out, &again); diff != "" {
			t.Fatalf("another order gives another plan:\n%s", diff)
		}
	})
}

func clone(in *Input) *Input {
	c := *in
	c.Nodes, c.Pods = slices.Clone(in.Nodes), slices.Clone(in.Pods)
	c.Gone, c.Backoff = maps.Clone(in.Gone), maps.Clone(in.Backoff)
	c.Waits, c.Left = maps.Clone(in.Waits), maps.Clone(in.Left)
	return &c
}

func diffPlans(a, b *Plan) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Plan{}, Verdict{}))
}

// I9: the status is a recount.
func TestStatusIsARecount(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		var want Status
		for _, n := range w.in.Nodes {
			pods := slices.DeleteFunc(w.podsOf(n.Name), func(p Pod) bool {
				return p.Assumed || !p.Deleted.IsZero() && (p.Phase == Failed || p.Phase == Succeeded)
			})
			run, _ := w.runs(n)
			if !run {
				count(&want.Misscheduled, len(pods) > 0, 1)
				continue
			}
			want.Desired++
			count(&want.Current, len(pods) > 0, 1)
			pods = slices.DeleteFunc(pods, func(p Pod) bool { return !p.Deleted.IsZero() })
			serves := slices.ContainsFunc(pods, w.isAvailable)
			count(&want.Available, serves, 1)
			count(&want.Unavailable, !serves, 1)
			// Without surge a node has one pod, which is the best one. With several, everything is reported about the
			// same one: one that serves, if any does.
			if len(pods) == 1 {
				count(&want.Ready, pods[0].Ready && isLive(pods[0]), 1)
				count(&want.Updated, w.isCurrent(pods[0]), 1)
				continue
			}
			if live := slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return !isLive(p) }); len(live) > 0 {
				pods = live
			}
			if serves {
				pods = slices.DeleteFunc(pods, func(p Pod) bool { return !w.isAvailable(p) })
			}
			updated := slices.ContainsFunc(pods, w.isCurrent)
			pods = slices.DeleteFunc(pods, func(p Pod) bool { return w.isCurrent(p) != updated })
			count(&want.Updated, updated, 1)
			count(&want.Ready, slices.ContainsFunc(pods, func(p Pod) bool { return p.Ready && isLive(p) }), 1)
		}
		if diff := cmp.Diff(want, out.Status); diff != "" {
			t.Fatalf("status (-recount +plan):\n%s\n%s", diff, Render(out, w.in.Now))
		}
	})
}

// The totals of single verdicts, added in any order and with detours, and Roll over them, give the plan of Make. This is
// what an engine does that looks only at what has changed.
func TestTotalsAgreeWithMake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, other := drawInput(t), drawInput(t)
		var out Plan
		Make(in, &out)
		var totals Totals
		verdicts := map[string]*Verdict{}
		names := map[string]bool{}
		for _, w := range []*Input{other, in} {
			for _, v := range verdicts {
				totals.Remove(v)
			}
			w.Set = in.Set
			clear(names)
			for _, n := range w.Nodes {
				names[n.Name] = true
			}
			for _, p := range w.Pods {
				names[p.Node] = p.Node != "" || names[""]
			}
			delete(names, "")
			classifyAll(w, names, verdicts)
			for name := range names {
				totals.Add(verdicts[name])
			}
			maps.DeleteFunc(verdicts, func(name string, _ *Verdict) bool { return !names[name] })
		}
		var candidates []*Verdict
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if verdicts[name].Candidate() {
				candidates = append(candidates, verdicts[name])
			}
		}
		Roll(in, &Totals{}, candidates) // with wrong totals
		Roll(in, &totals, candidates)
		got := Plan{Status: totals.Status}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			v := verdicts[name]
			got.Verdicts = append(got.Verdicts, *v)
			got.Creates, got.Deletes, got.Changes = append(got.Creates, v.Creates()...), append(got.Deletes, v.Deletes()...), append(got.Changes, v.Changes()...)
		}
		got.WakeAt = earliest(got.Verdicts)
		if diff := diffPlans(&out, &got); diff != "" {
			t.Fatalf("piece by piece (-Make +pieces):\n%s", diff)
		}
	})
}

func classifyAll(in *Input, names map[string]bool, verdicts map[string]*Verdict) {
	for name := range names {
		var node *Node
		for i := range in.Nodes {
			if in.Nodes[i].Name == name {
				node = &in.Nodes[i]
			}
		}
		var pods []*Pod
		for i := range in.Pods {
			if in.Pods[i].Node == name {
				pods = append(pods, &in.Pods[i])
			}
		}
		if verdicts[name] == nil {
			verdicts[name] = &Verdict{}
		}
		Classify(in, name, node, pods, verdicts[name])
	}
}

// I12: what is done on a node does not depend on another node, except for the budget: removing the other node changes
// only which nodes wait for it.
func TestNodesAreIndependent(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, v := range out.Verdicts {
			one := clone(w.in)
			one.Nodes = slices.DeleteFunc(one.Nodes, func(n Node) bool { return n.Name != v.Node })
			one.Pods = slices.DeleteFunc(one.Pods, func(p Pod) bool { return p.Node != v.Node })
			var alone Plan
			Make(one, &alone)
			a := alone.Verdicts[0]
			if a.Candidate() != v.Candidate() {
				t.Fatalf("%s is a candidate: %v, alone %v", v.Node, v.Candidate(), a.Candidate())
			}
			if v.Candidate() {
				continue
			}
			if diff := cmp.Diff(v, a, cmp.AllowUnexported(Verdict{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s (-with others +alone):\n%s", v.Node, diff)
			}
		}
	})
}
