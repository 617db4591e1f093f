package forecast

import "everynode/internal/plan"

// Held returns the nodes that the change would take running pods from that a policy's guard can hold, sorted by name. It
// cannot hold those that go anyway, such as pods that do not tolerate a taint of their node.
func Held(in *Input) (held []Left) {
	of := plan.Input{Now: in.Now, Set: in.Set, Nodes: in.Nodes, Pods: in.Pods, Guard: &plan.Guard{}}
	if in.Before != nil {
		of.Release = &plan.Release{Stable: *in.Before}
	}
	var out plan.Plan
	plan.Make(&of, &out)
	for i := range out.Verdicts {
		if v := &out.Verdicts[i]; v.Guarded() {
			held = append(held, Left{v.Node, plan.HeldByGuard, v.Detail})
		}
	}
	return held
}
