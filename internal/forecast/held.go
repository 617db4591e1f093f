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
	if in.Before != nil {
		of.Release = &plan.Release{Stable: *in.Before}
	}
	var out plan.Plan
	plan.Make(&of, &out)
	guarded := map[string]bool{}
	for i := range out.Verdicts {
		guarded[out.Verdicts[i].Node] = out.Verdicts[i].Guarded()
	}
	for i := range in.Nodes {
		if n := &in.Nodes[i]; guarded[n.Name] {
			held = append(held, Left{n.Name, plan.HeldByGuard, in.Set.Placement.Admits(n).Detail})
		}
	}
	slices.SortFunc(held, func(a, b Left) int { return strings.Compare(a.Node, b.Node) })
	return held
}
