package forecast

import (
	"slices"
	"strings"

	"everynode/internal/plan"
)

// Held returns the nodes that the change would take running pods from that a policy's guard can hold, sorted by name. It
// cannot hold those that go anyway, such as pods that do not tolerate a taint of their node.
func Held(in *Input) (held []Left) {
	of := plan.Input{Now: in.Now, Set: in.Set, Nodes: in.Nodes, Pods: in.Pods, Guard: &plan.Guard{}}
	atLast := guarded(&of) // what a release with surge takes from tainted nodes goes at its end
	if in.Before != nil {
		of.Release = &plan.Release{Stable: *in.Before}
	}
	inTurn := guarded(&of)
	for i := range in.Nodes {
		n := &in.Nodes[i]
		fit := in.Set.Placement.Admits(n)
		if inTurn[n.Name] || fit.Keep && atLast[n.Name] {
			held = append(held, Left{n.Name, plan.HeldByGuard, fit.Detail})
		}
	}
	slices.SortFunc(held, func(a, b Left) int { return strings.Compare(a.Node, b.Node) })
	return held
}

// guarded returns the nodes whose pods the guard holds.
func guarded(in *plan.Input) map[string]bool {
	var out plan.Plan
	plan.Make(in, &out)
	names := map[string]bool{}
	for i := range out.Verdicts {
		names[out.Verdicts[i].Node] = out.Verdicts[i].Guarded()
	}
	return names
}
