package plan

import (
	"testing"

	"pgregory.net/rapid"
)

// Worlds in which another controller creates and repairs the pods.

func drawAssisted(t *rapid.T) *Input {
	in := drawReleased(t)
	in.Set.Assists, in.Set.MaxSurge = true, Amount{}
	in.Release.Stable.Assists, in.Release.Stable.MaxSurge = true, Amount{}
	for i := range in.Pods {
		in.Pods[i].Left = in.Pods[i].Left || rapid.IntRange(0, 7).Draw(t, "left") == 7
	}
	if rapid.IntRange(0, 3).Draw(t, "noRelease") == 0 {
		in.Release = nil
		in.Set.Strategy = rapid.SampledFrom([]Strategy{RollingUpdate, OnDelete}).Draw(t, "strategy")
	}
	return in
}

// isExposed reports, by the definition, whether the node has the target, or gets it next.
func (w twin) isExposed(node Node) bool {
	live := false
	for _, p := range w.podsOf(node.Name) {
		switch {
		case p.Hash == w.in.Set.Hash, p.Uncertain && w.in.Reached[node.Name] == w.in.Release.Number:
			return true
		default:
			live = live || isLive(p)
		}
	}
	return !live && w.in.Set.Placement.Admits(&node).Run
}

// R1, R4, R9, R9b, R18 beside another controller: nothing is created; what is deleted is outdated, on a node whose turn has come,
// while the target is granted, within the quota minus the nodes that have it already, and within the budget.
func TestAssistGrants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawAssisted(t)
		var out Plan
		Make(in, &out)
		if in.Set.Halt != NoReason {
			t.Skip()
		}
		w := twin{in}
		if len(out.Creates) > 0 {
			t.Fatalf("something is created\n%s", Render(&out, in.Now))
		}
		exposed, leaked, granted, spent := 0, 0, map[string]bool{}, 0
		for i := range in.Nodes {
			if in.Release != nil && w.isExposed(in.Nodes[i]) {
				exposed++
				count(&leaked, w.rank(in.Nodes[i].Name) >= in.Release.Quota, 1)
			}
		}
		for _, d := range out.Deletes {
			node, known := w.node(d.Node)
			p := w.pod(d.Pod)
			switch {
			case !known, d.Reason != Outdated, granted[d.Node], p.Hash == in.Set.Hash, !isLive(p):
				t.Fatalf("%+v is deleted\n%s", d, Render(&out, in.Now))
			case in.Release == nil && in.Set.Strategy == OnDelete:
				t.Fatalf("%+v is deleted although nobody asked for it\n%s", d, Render(&out, in.Now))
			case in.Release != nil && (in.Release.Back || !in.Release.Grants || w.rank(d.Node) >= in.Release.Quota || !node.Ready || node.Leaving || !d.Reaches || w.isExposed(node)):
				t.Fatalf("%+v of %+v is not granted\n%s", d, node, Render(&out, in.Now))
			}
			granted[d.Node] = true
			count(&spent, w.isAvailable(p), 1)
		}
		if r := in.Release; r != nil && len(granted) > 0 && exposed+len(granted) > r.Quota {
			t.Fatalf("%d have the target and %d are granted it, of %d\n%s", exposed, len(granted), r.Quota, Render(&out, in.Now))
		}
		if e := &out.Exposure; in.Release != nil && (e.Exposed != exposed || e.Leaked != leaked) {
			t.Fatalf("%d exposed, %d leaked, want %d, %d\n%s", e.Exposed, e.Leaked, exposed, leaked, Render(&out, in.Now))
		}
		allowed, _ := in.Set.Budget(out.Status.Desired)
		for _, v := range out.Verdicts {
			count(&spent, v.down && !granted[v.Node], 1)
		}
		if serving := spent > 0 && anyAvailable(w, &out); serving && spent > allowed {
			t.Fatalf("%d are down or go, %d may\n%s", spent, allowed, Render(&out, in.Now))
		}
	})
}

func anyAvailable(w twin, out *Plan) bool {
	for _, d := range out.Deletes {
		if w.isAvailable(w.pod(d.Pod)) {
			return true
		}
	}
	return false
}

func TestLedgerIsMakeBesideAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawAssisted(t)
		if in.Release == nil {
			t.Skip()
		}
		k := keep(in)
		for i := range rapid.IntRange(1, 8).Draw(t, "changes") {
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
