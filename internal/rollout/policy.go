package rollout

import (
	"time"

	"everynode/internal/plan"
)

// Policy says how releases of a DaemonSet go. A valid one (see Check) has at least one wave.
type Policy struct {
	Name       string
	Generation int64
	Waves      []Wave
	Failure    Failure
	// Windows are when nodes may be granted the target. None: always.
	Windows []Window
	// Removals is the share of the running pods that labels or the placement may take
	// away in an hour before a person is asked.
	Removals plan.Amount
}

// Wave is one step of a release.
type Wave struct {
	Name string
	// Nodes is how many nodes have the target at the end of the wave, including those of earlier
	// waves. Percentages are of the eligible nodes, rounded up.
	Nodes plan.Amount
	// Prefer are labels of nodes that come first.
	Prefer map[string]string
	// Cover are label keys: the wave includes a node for each combination of their values, as far as
	// there is room.
	Cover []string
	// Soak is how long all must be well, without a break, before the next wave.
	Soak time.Duration
	// Approval: a person must let the next wave begin.
	Approval bool
	// OneAtATime is a label key. The nodes of each of its values are a separate step with its own
	// soak.
	OneAtATime string
}

// Failure is when a release stops.
type Failure struct {
	// Nodes is how many of the exposed nodes may fail, rounded down.
	Nodes plan.Amount
	// StartWithin is how long a pod has to become available.
	StartWithin time.Duration
	// Restarts is how many restarts of its container make a pod fail.
	Restarts int
	// Back: nodes with the target go back to the stable revision. Otherwise they stay as they are,
	// for inspection.
	Back bool
}

// Default returns the policy with no fields set: one node, then a tenth, then all, with ten minutes
// after each.
func Default() Policy {
	const soak = 10 * time.Minute
	return Policy{
		Waves: []Wave{
			{Name: "first", Nodes: plan.Amount{Value: 1}, Soak: soak},
			{Name: "tenth", Nodes: plan.Amount{Value: 10, Percent: true}, Soak: soak},
			{Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}, Soak: soak},
		},
		Failure:  Failure{Nodes: plan.Amount{Value: 2, Percent: true}, StartWithin: 10 * time.Minute, Restarts: 3},
		Removals: plan.Amount{Value: 10, Percent: true},
	}
}

// Allowance returns how many nodes may have failed while the given number is exposed and bound may
// be under way. A failed node counts as under way, so at least one place must stay free: otherwise a
// release would stop without saying why. And at least one of the exposed nodes must be well.
func (f *Failure) Allowance(exposed, bound int) int {
	n := f.Nodes.Value
	if f.Nodes.Percent {
		n = f.Nodes.Value * exposed / 100
	}
	return max(0, min(n, bound-1, exposed-1))
}
