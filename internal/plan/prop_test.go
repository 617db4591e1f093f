package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// The properties below are checked on worlds that no engine would make: any
// number of pods on any node in any state. The numbers are those of doc.go.

// drawInput makes a small, odd world. Ages are from a few values, so that equal
// times, and times just before and after others, are common.
func drawInput(t *rapid.T) *Input {
	in := &Input{Now: scriptNow(), Set: drawSpec(t), Gone: map[string]bool{}, Backoff: map[string]Backoff{}}
	for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
		in.Nodes = append(in.Nodes, drawNode(t, fmt.Sprintf("n%d", i)))
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "pods") {
		in.Pods = append(in.Pods, drawPod(t, fmt.Sprintf("p%d", i)))
	}
	for i := range 7 {
		name := fmt.Sprintf("n%d", i)
		if rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
			in.Gone[name] = true
		}
		if rapid.IntRange(0, 3).Draw(t, "backoff") == 0 {
			in.Backoff[name] = Backoff{Last: drawAge(t), Delay: drawDelay(t), Pod: "last-" + name, Refused: rapid.Bool().Draw(t, "refused")}
		}
	}
	return in
}

func drawSpec(t *rapid.T) Spec {
	set := Spec{
		Hash:           "b",
		Generation:     rapid.SampledFrom([]int64{0, 7}).Draw(t, "generation"),
		Strategy:       rapid.SampledFrom([]Strategy{RollingUpdate, RollingUpdate, RollingUpdate, OnDelete}).Draw(t, "strategy"),
		MaxUnavailable: drawAmount(t, "maxUnavailable"),
		MinReady:       rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "minReady"),
		Scheduled:      rapid.IntRange(0, 9).Draw(t, "scheduled") == 0,
	}
	if rapid.IntRange(0, 2).Draw(t, "surge") == 0 {
		set.MaxSurge = drawAmount(t, "maxSurge")
	}
	if rapid.Bool().Draw(t, "selector") {
		set.Placement.Selector = map[string]string{"ssd": "true"}
	}
	if rapid.IntRange(0, 15).Draw(t, "halt") == 0 {
		set.Halt = SelectsAll
	}
	return set
}

func drawAmount(t *rapid.T, label string) Amount {
	return rapid.SampledFrom([]Amount{{Value: 0}, {Value: 1}, {Value: 2}, {Value: 3}, {Value: 34, Percent: true}, {Value: 100, Percent: true}}).Draw(t, label)
}

func drawAge(t *rapid.T) time.Time {
	s := rapid.SampledFrom([]int{0, 1, 29, 30, 31, 60, 61, 3600}).Draw(t, "age")
	return scriptNow().Add(-time.Duration(s) * time.Second)
}

func drawDelay(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, time.Second, 31 * time.Second, 15 * time.Minute}).Draw(t, "delay")
}

func drawNode(t *rapid.T, name string) Node {
	n := Node{Name: name, UID: "uid-" + name, Labels: map[string]string{}, Ready: rapid.IntRange(0, 2).Draw(t, "ready") > 0}
	if rapid.IntRange(0, 4).Draw(t, "ssd") > 0 {
		n.Labels["ssd"] = "true"
	}
	if rapid.IntRange(0, 4).Draw(t, "taint") == 0 {
		effect := rapid.SampledFrom([]Effect{NoSchedule, NoSchedule, PreferNoSchedule, NoExecute}).Draw(t, "effect")
		n.Taints = []Taint{{Key: "k", Effect: effect}}
	}
	if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		n.ReadyChanged = drawAge(t)
	}
	return n
}

func drawPod(t *rapid.T, name string) Pod {
	p := Pod{
		Name: name, UID: "uid-" + name,
		Node:       fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "node")),
		Bound:      rapid.IntRange(0, 4).Draw(t, "bound") > 0,
		Hash:       rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "hash"),
		Generation: rapid.SampledFrom([]int64{0, 6, 7}).Draw(t, "gen"),
		Phase:      rapid.SampledFrom([]Phase{Pending, Running, Running, Running, Failed, Succeeded}).Draw(t, "phase"),
		Created:    drawAge(t),
		Ready:      rapid.Bool().Draw(t, "ready"),
		Uncertain:  rapid.IntRange(0, 9).Draw(t, "uncertain") == 0,
		Refused:    rapid.Bool().Draw(t, "refused"),
		Forced:     rapid.Bool().Draw(t, "forced"),
		WasReady:   rapid.Bool().Draw(t, "wasready"),
	}
	if rapid.IntRange(0, 9).Draw(t, "homeless") == 0 {
		p.Node, p.Bound = "", false
	}
	if rapid.IntRange(0, 9).Draw(t, "since") > 0 {
		p.ReadySince = drawAge(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
		p.Deleted = drawAge(t)
	}
	return p
}

// The twin: the same questions, answered from the definitions, slowly.

type twin struct{ in *Input }

func (w twin) podsOf(node string) (pods []Pod) {
	for _, p := range w.in.Pods {
		if p.Node == node {
			pods = append(pods, p)
		}
	}
	return pods
}

func (w twin) isCurrent(p Pod) bool {
	return p.Hash == w.in.Set.Hash || w.in.Set.Generation != 0 && p.Generation == w.in.Set.Generation
}

func isLive(p Pod) bool {
	return p.Deleted.IsZero() && p.Phase != Failed && p.Phase != Succeeded
}

func (w twin) isAvailable(p Pod) bool {
	if !isLive(p) || !p.Ready || p.Uncertain {
		return false
	}
	if w.in.Set.MinReady == 0 {
		return true
	}
	return !p.ReadySince.IsZero() && w.in.Now.Sub(p.ReadySince) >= w.in.Set.MinReady
}

func (w twin) runs(n Node) (run, keep bool) {
	if w.in.Set.Placement.Selector != nil && n.Labels["ssd"] != "true" {
		return false, false
	}
	for _, t := range n.Taints {
		switch t.Effect {
		case NoExecute:
			return false, false
		case NoSchedule:
			return false, true
		}
	}
	return true, true
}

func (w twin) isExcused(n Node) bool {
	if n.Ready || n.ReadyChanged.IsZero() {
		return false
	}
	moments := []time.Time{}
	for _, p := range w.podsOf(n.Name) {
		if w.isCurrent(p) {
			moments = append(moments, p.Created)
		} else if !p.Deleted.IsZero() {
			moments = append(moments, p.Deleted)
		}
	}
	for _, m := range moments {
		if !n.ReadyChanged.Before(m) {
			return false
		}
	}
	return !w.in.Backoff[n.Name].Last.After(n.ReadyChanged)
}

// b is the set B of I4, without and with an available pod.
func (w twin) b() (down, serving int) {
	for _, n := range w.in.Nodes {
		pods := w.podsOf(n.Name)
		run, keep := w.runs(n)
		holds := func(p Pod) bool { return isLive(p) && (w.isCurrent(p) && p.Bound || w.isAvailable(p)) }
		if !run && !(keep && slices.ContainsFunc(pods, holds)) {
			continue
		}
		switch {
		case slices.ContainsFunc(pods, w.isAvailable):
			serving++
		case !w.isExcused(n):
			down++
		}
	}
	return down, serving
}

func (w twin) desired() (n int) {
	for _, node := range w.in.Nodes {
		if run, _ := w.runs(node); run {
			n++
		}
	}
	return n
}

func (w twin) surges() bool {
	return w.in.Set.Strategy == RollingUpdate && w.in.Set.MaxSurge.Value > 0
}

func (w twin) pod(name string) Pod {
	i := slices.IndexFunc(w.in.Pods, func(p Pod) bool { return p.Name == name })
	return w.in.Pods[i]
}

func (w twin) node(name string) (Node, bool) {
	i := slices.IndexFunc(w.in.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return w.in.Nodes[i], true
}

func checkWorlds(t *testing.T, check func(t *rapid.T, w twin, out *Plan)) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		var out Plan
		Make(in, &out)
		check(t, twin{in}, &out)
	})
}

// I1: after the plan, a node that had nothing uncertain has at most one live
// pod, or with surge at most one of each kind.
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
				if p.Uncertain {
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
			if count[true] > 1 || count[false] > 1 || !w.surges() && count[true]+count[false] > 1 {
				t.Fatalf("%s ends with %v pods\n%s", n.Name, count, Render(out, w.in.Now))
			}
		}
	})
}

// I1, the other half: without surge, no pod is created beside one that runs or
// still terminates, nor beside one that has failed and is still there. With
// surge, never beside a current one. Never where something is uncertain.
func TestCreatesOnlyWhereThereIsRoom(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, c := range out.Creates {
			n, ok := w.node(c.Node)
			if run, _ := w.runs(n); !ok || !run || n.UID != c.NodeUID {
				t.Fatalf("create %+v on %+v (I2)", c, n)
			}
			for _, p := range w.podsOf(c.Node) {
				ended := p.Phase == Failed || p.Phase == Succeeded
				waits := p.Deleted.IsZero() || !ended // not only for a finalizer
				if p.Uncertain || waits && !w.surges() || w.surges() && p.Deleted.IsZero() && w.isCurrent(p) {
					t.Fatalf("create %+v beside %+v", c, p)
				}
			}
		}
	})
}

// I3: what may not be there goes, all of it, at once. What may, goes only for
// a reason of its own.
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
		for _, d := range out.Deletes {
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

// unavailableFirst: an outdated pod that is not ready, alone on a node that
// should run one, is always replaced.
func unavailableFirst(t *rapid.T, w twin, out *Plan) {
	for _, n := range w.in.Nodes {
		pods := slices.DeleteFunc(w.podsOf(n.Name), func(p Pod) bool { return !isLive(p) && !p.Uncertain })
		run, _ := w.runs(n)
		if !run || len(pods) != 1 || w.isCurrent(pods[0]) || pods[0].Ready || pods[0].Uncertain {
			continue
		}
		if !slices.ContainsFunc(out.Deletes, func(d Delete) bool { return d.Pod == pods[0].Name && d.Reason == Outdated }) {
			t.Fatalf("%s is down and outdated, but stays\n%s", pods[0].Name, Render(out, w.in.Now))
		}
	}
}

// I4 with surge: no node that serves stops serving by an update, unless it
// should have no pod and there are enough without it; and the slots are kept.
func TestSurgeBudget(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		if !w.surges() || w.in.Set.Halt != NoReason {
			t.Skip()
		}
		_, serving := w.b()
		left := 0
		for _, d := range out.Deletes {
			p := w.pod(d.Pod)
			if !w.isAvailable(p) || d.Reason != Outdated && d.Reason != Surged && d.Reason != TaintNotTolerated {
				continue
			}
			n, _ := w.node(p.Node)
			run, _ := w.runs(n)
			other := slices.ContainsFunc(w.podsOf(p.Node), func(q Pod) bool { return q.Name != p.Name && w.isAvailable(q) })
			if !other && run {
				t.Fatalf("%s is the only available pod of its node\n%s", p.Name, Render(out, w.in.Now))
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
		_, keep := w.runs(n)
		old := slices.ContainsFunc(pods, func(p Pod) bool { return isLive(p) && !w.isCurrent(p) })
		failed := slices.ContainsFunc(pods, func(p Pod) bool { return w.isCurrent(p) && !isLive(p) && p.Deleted.IsZero() })
		live := slices.DeleteFunc(pods, func(p Pod) bool { return !w.isCurrent(p) || !isLive(p) })
		if keep && old && (failed || len(live) > 0 && !slices.ContainsFunc(live, w.isAvailable)) {
			held++
		}
	}
	for _, c := range out.Creates {
		if slices.ContainsFunc(w.podsOf(c.Node), func(p Pod) bool { return w.isAvailable(p) }) {
			taken++
		}
	}
	if taken > 0 && held+taken > w.in.Set.MaxSurge.Of(w.desired()) {
		t.Fatalf("%d slots held, %d taken\n%s", held, taken, Render(out, w.in.Now))
	}
}

// I7: OnDelete deletes a pod that is alone and alive on a node that may keep
// it for no reason at all.
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
				t.Fatalf("%+v is no duplicate", d)
			}
		}
	})
}

// I8: the order of the input does not matter; nor does what the plan held
// before. And Make does not write to its input.
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
				return !p.Deleted.IsZero() && (p.Phase == Failed || p.Phase == Succeeded)
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
			// Without surge a node has one pod, and that is the best. What is
			// said of several is one thing: it is of those that serve, if any.
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

// The totals of single verdicts, added in any order and with detours, and Roll
// over them, give the plan of Make: that is what an engine does which looks
// only at what changed.
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
		Roll(&in.Set, &Totals{}, candidates) // with totals that are wrong
		Roll(&in.Set, &totals, candidates)
		got := Plan{Status: totals.Status}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			v := verdicts[name]
			got.Verdicts = append(got.Verdicts, *v)
			got.Creates, got.Deletes = append(got.Creates, v.Creates()...), append(got.Deletes, v.Deletes()...)
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

// I12: what is done on a node does not depend on another one, but for the
// budget: taking the other one away changes only who waits for it.
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
