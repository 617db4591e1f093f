package plan

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawGuard(t *rapid.T) *Guard {
	g := &Guard{Allowed: map[string]bool{}}
	for i := range 7 {
		if rapid.IntRange(0, 2).Draw(t, "allowed") == 0 {
			g.Allowed[fmt.Sprintf("n%d", i)] = true
		}
	}
	return g
}

// asAffinity turns a placement's node selector into affinity, in half of the cases.
func asAffinity(t *rapid.T, p *Placement) {
	if p.Selector == nil || !rapid.Bool().Draw(t, "affinity") {
		return
	}
	var all Term
	for key, value := range p.Selector {
		all.Labels = append(all.Labels, Requirement{Key: key, Operator: In, Values: []string{value}})
	}
	*p = Placement{NodeName: p.NodeName, Terms: []Term{all}, Tolerations: p.Tolerations}
}

// tolerant makes a placement tolerate the taints of drawNode, in half of the cases.
func tolerant(t *rapid.T, p *Placement) {
	if rapid.Bool().Draw(t, "tolerates") {
		p.Tolerations = []Toleration{{Key: "k", Exists: true, Effect: rapid.SampledFrom([]Effect{AnyEffect, NoExecute}).Draw(t, "effect")}}
	}
}

// stands reports whether the pod would stay on a node with a NoExecute taint if nobody deleted it, as far as its revision is
// known.
func (w twin) stands(p Pod) bool {
	switch r := w.in.Release; {
	case w.isCurrent(p):
		return len(w.in.Set.Placement.Tolerations) > 0
	case r != nil && p.Hash == r.Stable.Hash:
		return len(r.Stable.Placement.Tolerations) > 0
	}
	return true
}

// goesBack reports whether a release that goes back is why the pod goes: the node is one for the target, and not for the
// stable revision.
func (w twin) goesBack(p *Pod) bool {
	r := w.in.Release
	if r == nil || !r.Back || !w.in.Set.made(p) {
		return false
	}
	i := slices.IndexFunc(w.in.Nodes, func(n Node) bool { return n.Name == p.Node })
	own, other := w.in.Set.Placement.Admits(&w.in.Nodes[i]), r.Stable.Placement.Admits(&w.in.Nodes[i])
	return own.Run && !other.Run || own.Keep && !other.Keep
}

// taken returns the nodes from which a plan removes a running pod because labels or the placement have no place for it.
func (w twin) taken(out *Plan) map[string]bool {
	taken := map[string]bool{}
	for _, d := range out.Deletes {
		i := slices.IndexFunc(w.in.Pods, func(p Pod) bool { return p.UID == d.UID })
		p := w.in.Pods[i]
		placed := d.Reason == NotSelected || d.Reason == NotNamed || d.Reason == AffinityNotMatched || d.Reason == TaintNotTolerated || d.Reason == TaintEvicts && w.stands(p)
		if placed && isLive(p) && p.Bound && !p.Assumed && !w.goesBack(&p) {
			taken[d.Node] = true
		}
	}
	return taken
}

// checkRemovable checks that the pods that would go now without a guard are those that may be allowed to go now.
func (w twin) checkRemovable(t *rapid.T, free *Plan) {
	guarded := *w.in
	guarded.Guard = &Guard{}
	l := keep(&guarded).ledger
	l.Settle(func(*Verdict) {})
	now := map[string]bool{}
	for _, name := range l.Removable() {
		now[name] = true
	}
	for node := range w.taken(free) {
		if !now[node] {
			t.Fatalf("the pod of %s would go now, and has to wait\n%s", node, Render(free, w.in.Now))
		}
	}
	for i := range free.Verdicts {
		if u := &free.Verdicts[i]; now[u.Node] && (u.Reason == AwaitsWave || u.Candidate() && !u.granted) {
			t.Fatalf("%s waits for its turn, and would be allowed to lose its pod\n%s", u.Node, Render(free, w.in.Now))
		}
	}
}

// R10: what labels or the placement would remove is removed from allowed nodes only, and each of the others is counted.
// On nodes that do not concern the guard everything is as without it, except for whose turn it is.
func TestGuardHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		if rapid.Bool().Draw(t, "released") {
			in = drawReleased(t)
		}
		asAffinity(t, &in.Set.Placement)
		tolerant(t, &in.Set.Placement)
		if in.Release != nil {
			asAffinity(t, &in.Release.Stable.Placement)
			tolerant(t, &in.Release.Stable.Placement)
		}
		for i := range in.Nodes {
			if rapid.IntRange(0, 3).Draw(t, "evicts") == 0 {
				in.Nodes[i].Taints = []Taint{{Key: "k", Effect: NoExecute}}
			}
		}
		var free, out, open Plan
		Make(in, &free)
		guarded := *in
		guarded.Guard = drawGuard(t)
		Make(&guarded, &out)
		w := twin{in}
		held := map[string]bool{}
		for i := range out.Verdicts {
			if v := &out.Verdicts[i]; v.Guarded() {
				held[v.Node] = true
			}
		}
		if len(held) != out.Guarded {
			t.Fatalf("%d nodes are held and %d counted", len(held), out.Guarded)
		}
		for node := range w.taken(&out) {
			if !guarded.Guard.Allowed[node] {
				t.Fatalf("a pod is taken from %s, which is not allowed\n%s", node, Render(&out, in.Now))
			}
		}
		for node := range w.taken(&free) {
			if guarded.Guard.Allowed[node] == held[node] {
				t.Fatalf("%s: allowed %v, held %v\n%s", node, guarded.Guard.Allowed[node], held[node], Render(&out, in.Now))
			}
		}
		for i, v := range out.Verdicts {
			if u := free.Verdicts[i]; !held[v.Node] && (u.candidate != v.candidate || len(u.deletes) != len(v.deletes) || len(u.creates) != len(v.creates) || len(u.changes) != len(v.changes)) {
				t.Fatalf("%s is not held, and differs:\n%s\n%s", v.Node, Render(&free, in.Now), Render(&out, in.Now))
			}
		}
		w.checkRemovable(t, &free)
		guarded.Guard = &Guard{Allowed: map[string]bool{}}
		for i := range 7 {
			guarded.Guard.Allowed[fmt.Sprintf("n%d", i)] = true
		}
		if Make(&guarded, &open); Render(&open, in.Now) != Render(&free, in.Now) {
			t.Fatalf("all are allowed, and something is held:\n%s\n%s", Render(&free, in.Now), Render(&open, in.Now))
		}
	})
}

// A guard costs no memory per event where it has to find out whether a taint evicts the pod anyway.
func TestGuardDoesNotAllocate(t *testing.T) {
	in := releasedFleet(500)
	tolerates := &in.Release.Stable.Placement.Tolerations
	*tolerates = append(slices.Clone(*tolerates), Toleration{Key: "k", Exists: true})
	for i := range in.Nodes {
		in.Nodes[i].Taints = []Taint{{Key: "k", Effect: NoExecute}}
	}
	var allocates [2]float64 // without a guard, and with one; the verdict names the taint
	for i, g := range []*Guard{nil, {}} {
		in.Guard = g
		k, evicted, held := keepFleet(in)
		event := func() {
			for j, s := range []Sight{evicted, held} {
				k.ledger.Look(k.in.Now, s)
				k.ledger.Settle(func(*Verdict) {})
				if v := k.ledger.Verdict(s.Name); v.Guarded() != (i*j == 1) {
					t.Fatalf("guard %d, event %d: held %v", i, j, v.Guarded())
				}
			}
		}
		allocates[i] = testing.AllocsPerRun(100, event)
	}
	if allocates[1] > allocates[0] {
		t.Errorf("two events allocate %v times, and with a guard %v times", allocates[0], allocates[1])
	}
}
