package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Worlds in the middle of a release. The target is b and the stable revision a.

func drawReleased(t *rapid.T) *Input {
	in := drawInput(t)
	in.Set.Strategy, in.Set.Generation = RollingUpdate, 0
	for i := range in.Pods {
		p := &in.Pods[i]
		if rapid.IntRange(0, 5).Draw(t, "other") == 0 {
			p.Hash = "c"
		}
		p.Stuck, p.Restarts = rapid.IntRange(0, 5).Draw(t, "stuck") == 0, rapid.SampledFrom([]uint8{0, 0, 2, 3}).Draw(t, "restarts")
	}
	for i := range in.Nodes {
		in.Nodes[i].Leaving = rapid.IntRange(0, 5).Draw(t, "leaving") == 0
	}
	in.Reached, in.Refused = map[string]int{}, map[string]Refusal{}
	for i := range 7 {
		if rapid.IntRange(0, 3).Draw(t, "reached") == 0 {
			in.Reached[fmt.Sprintf("n%d", i)] = rapid.IntRange(1, 2).Draw(t, "release")
			in.Refused[fmt.Sprintf("n%d", i)] = Refusal{rapid.SampledFrom([]time.Duration{0, RefusedFor - 1, RefusedFor}).Draw(t, "refused"), drawAge(t)}
		}
	}
	in.Release = drawRelease(t, in)
	return in
}

func drawRelease(t *rapid.T, in *Input) *Release {
	r := &Release{Number: 2, Stable: in.Set, Ranks: map[string]int{}, Steps: []int{1, 3, 5}, Quota: rapid.SampledFrom([]int{1, 1, 3, 5, 7}).Draw(t, "quota"),
		Grants: rapid.IntRange(0, 3).Draw(t, "grants") > 0, Back: rapid.IntRange(0, 5).Draw(t, "back") == 0,
		Forgiven: rapid.IntRange(0, 1).Draw(t, "forgiven"), StartWithin: time.Minute, Restarts: 3}
	r.Stable.Hash, r.Stable.Placement, r.Stable.InPlace = "a", Placement{}, nil
	if in.Set.InPlace != nil {
		r.Stable.InPlace = map[string]bool{"b": true, "c": true}
	}
	if rapid.Bool().Draw(t, "stableSelector") {
		r.Stable.Placement.Selector = map[string]string{"ssd": "true"}
	}
	names := []string{"n0", "n1", "n2", "n3", "n4", "n5", "n6"}
	for i, name := range rapid.Permutation(names).Draw(t, "order") {
		if i < 6 {
			r.Ranks[name] = i
		}
	}
	return r
}

func checkReleases(t *testing.T, check func(t *rapid.T, w twin, out *Plan)) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawReleased(t)
		var out Plan
		Make(in, &out)
		if in.Set.Halt != NoReason {
			t.Skip()
		}
		check(t, twin{in}, &out)
	})
}

// has reports, by the definition, whether the node has the target, or is on its way to it.
func (w twin) has(node Node) bool {
	live, any := false, false
	for _, p := range w.podsOf(node.Name) {
		if p.Left {
			continue
		}
		any = true
		if p.Hash == "b" {
			return true
		}
		live = live || isLive(p)
		if p.Uncertain && w.in.Reached[node.Name] == 2 {
			return true
		}
	}
	b := w.in.Backoff[node.Name]
	if !live && (w.in.Reached[node.Name] == 2 || b.Hash == "b" && !b.Expired(w.in.Now)) {
		return true
	}
	return !any && w.rank(node.Name) < w.in.Release.Quota && !w.in.Set.Placement.Admits(&node).Run && w.in.Release.Stable.Placement.Admits(&node).Run
}

func (w twin) rank(node string) int {
	if rank, ok := w.in.Release.Ranks[node]; ok {
		return rank
	}
	return 1000
}

// R1: whichever nodes the order covers, no grant brings the number of exposed nodes above the quota, by the definition: the
// nodes that have the target and those that are granted it now.
func TestReleaseKeepsTheQuota(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		exposed, grants := 0, map[string]bool{}
		for i := range w.in.Nodes {
			count(&exposed, w.has(w.in.Nodes[i]), 1)
		}
		for _, d := range out.Deletes {
			if node, known := w.node(d.Node); d.Reaches && known && !w.has(node) {
				grants[d.Node] = true
			}
		}
		for _, c := range out.Creates {
			if node, known := w.node(c.Node); !c.Stable && known && !w.has(node) {
				grants[c.Node] = true
			}
		}
		if r := w.in.Release; !r.Back && len(grants) > 0 && exposed+len(grants) > r.Quota {
			t.Fatalf("%d have the target and %d are granted it, with a quota of %d\n%s", exposed, len(grants), r.Quota, Render(out, w.in.Now))
		}
	})
}

// R1, R4, R6, R9b: nodes are granted the target only below the quota, while Grants is true, and only as many as may be under
// way. On the way back none is.
func TestReleaseGrants(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		r := w.in.Release
		granted := map[string]bool{}
		check := func(name, what string) {
			node, ok := w.node(name)
			switch {
			case !ok:
				t.Fatalf("%s on %s, which is not there", what, name)
			case r.Back:
				t.Fatalf("%s on %s, although the release goes back", what, name)
			case w.has(node):
			case !r.Grants || w.rank(name) >= r.Quota || !node.Ready || node.Leaving:
				t.Fatalf("%s on %s (%+v), which is not granted\n%s", what, name, node, Render(out, w.in.Now))
			default:
				granted[name] = true
			}
		}
		for _, c := range out.Creates {
			if !c.Stable {
				check(c.Node, "create")
			}
		}
		dropped := 0
		for _, d := range outdated(out) {
			if d.Reaches && !granted[d.Node] {
				check(d.Node, "delete")
				node, _ := w.node(d.Node)
				count(&dropped, !w.in.Set.Placement.Admits(&node).Run, 1)
			}
		}
		maxUnavailable, maxSurge := w.in.Set.Budget(out.Status.Desired)
		if room := max(maxUnavailable, maxSurge) + r.Forgiven - out.Exposure.UnderWay; len(granted)-dropped > max(room, 0) {
			t.Fatalf("%d are granted with room for %d\n%s", len(granted), room, Render(out, w.in.Now))
		}
	})
}

// A pod is created from the revision of its node, where that revision may run.
func TestReleaseAssigns(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		r := w.in.Release
		for _, c := range out.Creates {
			node, _ := w.node(c.Node)
			set := &w.in.Set
			if c.Stable {
				set = &r.Stable
			}
			if !set.Placement.Admits(&node).Run || c.Stable && !r.Back && w.has(node) {
				t.Fatalf("create %+v on %+v\n%s", c, node, Render(out, w.in.Now))
			}
		}
	})
}

// R9: a serving pod goes only while the budget holds, whichever revision it has. R4: while nothing may be granted, no pod of
// the stable revision goes for being outdated unless its node has a pod of the target.
func TestReleaseKeepsTheBudget(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		spent, held := 0, 0
		for _, d := range outdated(out) {
			if p := w.pod(d.Pod); w.isAvailable(p) && d.Reason == Outdated {
				spent++
			}
			if node, ok := w.node(d.Node); ok && d.Reason == Outdated && !w.has(node) {
				held++
			}
		}
		for _, v := range out.Verdicts {
			if v.down {
				spent++
			}
		}
		allowed, _ := w.in.Set.Budget(out.Status.Desired)
		serving := slices.ContainsFunc(outdated(out), func(d Delete) bool { return w.isAvailable(w.pod(d.Pod)) && d.Reason == Outdated })
		if serving && spent > allowed && !w.surges() {
			t.Fatalf("%d are down or go, %d may\n%s", spent, allowed, Render(out, w.in.Now))
		}
		if r := w.in.Release; !r.Grants && !r.Back {
			for _, d := range outdated(out) {
				if p := w.pod(d.Pod); d.Reason == Outdated && p.Hash == "a" && isLive(p) && !slices.ContainsFunc(w.podsOf(p.Node), func(q Pod) bool { return q.Hash == "b" }) {
					t.Fatalf("%+v goes while nothing may\n%s", p, Render(out, w.in.Now))
				}
			}
		}
	})
}

// R2: of the candidates of one kind those that come first by rank move.
func TestReleaseFollowsRanks(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		for _, v := range out.Verdicts {
			for _, o := range out.Verdicts {
				if v.candidate == o.candidate && v.Candidate() && !v.granted && o.granted && w.rank(v.Node) < w.rank(o.Node) && !w.in.Release.Back {
					t.Fatalf("%s moves before %s\n%s", o.Node, v.Node, Render(out, w.in.Now))
				}
			}
		}
	})
}

// The exposure is a recount.
func TestExposureIsARecount(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		if w.in.Release.Back {
			t.Skip()
		}
		exposed, well, other, refusals := 0, 0, 0, 0
		for _, n := range w.in.Nodes {
			if w.has(n) {
				exposed++
				continue
			}
			count(&other, slices.ContainsFunc(w.podsOf(n.Name), func(p Pod) bool { return p.Hash == "c" && isLive(p) && !p.Left }), 1)
		}
		for _, v := range out.Verdicts {
			refused := v.Failure() == NotAdmitted && !v.release.Exposed
			tried := v.Failure() == NotAdmitted && v.release.Exposed && slices.ContainsFunc(w.podsOf(v.Node), func(p Pod) bool {
				return p.Assumed && isLive(p) && !p.Left && w.isCurrent(p)
			}) && slices.ContainsFunc(w.podsOf(v.Node), func(p Pod) bool { return isLive(p) && !p.Left && !w.isCurrent(p) })
			if v.Failure() != Unfailed && (v.release.Well || v.release.Reachable && !refused || v.release.UnderWay == refused || v.release.Exposed == refused) {
				t.Fatalf("%s has failed and is well, or not under way", v.Node)
			}
			count(&refusals, refused || tried, 1)
			count(&well, v.release.Well, 1)
		}
		e := out.Exposure
		if e.Exposed != exposed || e.Other != other || e.Well != well || e.Refused != refusals || e.Well+e.UnderWay > e.Exposed {
			t.Fatalf("%+v, want %d exposed and %d others\n%s", e, exposed, other, Render(out, w.in.Now))
		}
	})
}

// In a release, too, the ledger's result is that of Make, even when the release advances.
func TestLedgerIsMakeInARelease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := keep(drawReleased(t))
		for i := range rapid.IntRange(1, 10).Draw(t, "changes") {
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				k.changeRelease(t)
			}
			k.settle()
			if diff := k.differs(); diff != "" {
				t.Fatalf("after %d changes (-Make +Ledger):\n%s", i, diff)
			}
		}
	})
}

func (k *kept) changeRelease(t *rapid.T) {
	next := *k.in.Release
	switch rapid.SampledFrom([]string{"quota", "grants", "reached", "number", "any", "any", "any"}).Draw(t, "release") {
	case "quota":
		next.Quota = rapid.SampledFrom([]int{1, 3, 5, 7}).Draw(t, "quota")
		k.follow(&next)
	case "grants":
		next.Grants, next.Forgiven = !next.Grants, rapid.IntRange(0, 2).Draw(t, "forgiven")
		k.follow(&next)
	case "reached":
		name := fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "where"))
		k.in.Reached[name] = next.Number
		k.look(name)
	case "number":
		next.Number++
		k.in.Release = &next
		k.reset()
	case "any":
		set := k.in.Set
		k.change(t)
		if !cmp.Equal(set, k.in.Set) { // another specification
			k.in.Set.Generation, k.in.Set.Strategy = 0, RollingUpdate
			k.in.Release = drawRelease(t, &k.in)
			k.reset()
		}
	}
}

// follow advances within the same release, and looks only at the nodes that it must.
func (k *kept) follow(next *Release) {
	before := k.in.Release.Quota
	k.in.Release = next
	k.ledger.Follow(next)
	for i := range 7 {
		name := fmt.Sprintf("n%d", i)
		if rank := next.rank(name); rank >= min(before, next.Quota) && rank < max(before, next.Quota) {
			k.look(name)
		}
	}
}

// I8 and time, in a release.
func TestReleaseIsOfTheSnapshotAlone(t *testing.T) {
	checkReleases(t, func(t *rapid.T, w twin, out *Plan) {
		shuffled := clone(w.in)
		shuffled.Reached = maps.Clone(w.in.Reached)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled.Nodes), func(i, j int) {
			shuffled.Nodes[i], shuffled.Nodes[j] = shuffled.Nodes[j], shuffled.Nodes[i]
		})
		r.Shuffle(len(shuffled.Pods), func(i, j int) {
			shuffled.Pods[i], shuffled.Pods[j] = shuffled.Pods[j], shuffled.Pods[i]
		})
		var again Plan
		Make(shuffled, &again)
		if diff := diffPlans(out, &again); diff != "" {
			t.Fatalf("another order gives another plan:\n%s", diff)
		}
		if len(out.Creates)+len(out.Deletes) > 0 {
			return
		}
		later := clone(w.in)
		later.Now = later.Now.Add(rapid.SampledFrom([]time.Duration{1, time.Second, time.Minute, time.Hour}).Draw(t, "later"))
		if at := out.WakeAt; !at.IsZero() && !later.Now.Before(at) {
			later.Now = at.Add(-1)
		}
		Make(later, &again)
		if diff := diffPlans(out, &again); diff != "" {
			t.Fatalf("after %v (-then +now):\n%s\n%s", later.Now.Sub(w.in.Now), diff, Render(out, w.in.Now))
		}
	})
}

// Tries that follow one another after pauses that double are a row. Two short outages are not.
func TestRefusalContinues(t *testing.T) {
	last := time.Now()
	for _, c := range []struct {
		lasts, asked, after time.Duration
		want                bool
	}{
		{after: 5 * time.Second, want: true},
		{after: 6 * time.Second},
		{asked: time.Minute, after: time.Minute, want: true},
		{lasts: 15750 * time.Millisecond, after: 16 * time.Second, want: true},
		{lasts: 1750 * time.Millisecond, after: time.Minute},
		{lasts: RefusedFor - 1, after: 2 * time.Minute},
		{lasts: RefusedFor, after: 100 * time.Hour, want: true},
	} {
		if got := (Refusal{For: c.lasts, Last: last}).Continues(last.Add(c.after), c.asked); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
