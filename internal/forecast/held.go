package forecast

import "everynode/internal/plan"

// Held returns how many nodes the change would take running pods from that a policy's guard can hold. It cannot hold
// those that go anyway, such as pods that do not tolerate a taint of their node. before is what the DaemonSet asks for
// until the change.
func Held(in *Input, before *plan.Spec) int {
	var out plan.Plan
	plan.Make(&plan.Input{Now: in.Now, Set: in.Set, Nodes: in.Nodes, Pods: in.Pods, Release: &plan.Release{Stable: *before}, Guard: &plan.Guard{}}, &out)
	return out.Guarded
}
