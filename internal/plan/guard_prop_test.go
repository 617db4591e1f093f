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

// taken returns the nodes from which a plan removes a running pod because labels or the placement have no place for it.
func (w twin) taken(out *Plan) map[string]bool {
	taken := map[string]bool{}
	for _, d := range out.Deletes {
		i := slices.IndexFunc(w.in.Pods, func(p Pod) bool { return p.UID == d.UID })
		if p := w.in.Pods[i]; (d.Reason == NotSelected || d.Reason == NotNamed || d.Reason == AffinityNotMatched) && isLive(p) && p.Bound && !p.Assumed &&
			!(w.in.Release != nil && w.in.Release.Back && w.in.Set.made(&p)) {
			taken[d.Node] = true
		}
	}
	return taken
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
		if in.Release != nil {
			asAffinity(t, &in.Release.Stable.Placement)
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
		for i := range 7 {
			guarded.Guard.Allowed[fmt.Sprintf("n%d", i)] = true
		}
		if Make(&guarded, &open); Render(&open, in.Now) != Render(&free, in.Now) {
			t.Fatalf("all are allowed, and something is held:\n%s\n%s", Render(&free, in.Now), Render(&open, in.Now))
		}
	})
}
