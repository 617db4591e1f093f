package forecast

import (
	"slices"
	"testing"

	"everynode/internal/plan"
)

// Of the pods that go, the guard holds those that only the engine would remove.
func TestHeld(t *testing.T) {
	in := fleet(5)
	before := in.Set
	before.Hash = "old"
	before.Placement.Tolerations = []plan.Toleration{{Key: "pool", Exists: true}}
	for node, key := range []string{"pool", "pool", "repair", "pool"} {
		in.Nodes[node].Taints = []plan.Taint{{Key: key, Effect: plan.NoExecute}}
	}
	in.Pods[3].Bound = false // it does not run
	in.pod("gone", "old")
	in.Before = &before
	want := []Left{{"a", plan.HeldByGuard, "pool:NoExecute"}, {"b", plan.HeldByGuard, "pool:NoExecute"}}
	if got := Held(in); !slices.Equal(got, want) {
		t.Errorf("held are %v, want the pods of a and b", got)
	}
	in.Set.Placement = before.Placement
	if got := Held(in); len(got) != 0 {
		t.Errorf("the change takes no pod away, and these are held: %v", got)
	}
}

// With surge, a release takes the pods of tainted nodes too.
func TestHeldOnTaintedNodes(t *testing.T) {
	in := fleet(3)
	before := in.Set
	before.Hash = "old"
	in.Nodes[1].Taints = []plan.Taint{{Key: "repair", Effect: plan.NoSchedule}}
	for i := range in.Pods {
		in.Pods[i].Hash = before.Hash
	}
	in.Before = &before
	if got := Held(in); len(got) != 0 {
		t.Errorf("without surge these are held: %v", got)
	}
	in.Set.MaxSurge, in.Set.MaxUnavailable = plan.Amount{Value: 1}, plan.Amount{}
	if got, want := Held(in), []Left{{"b", plan.HeldByGuard, "repair:NoSchedule"}}; !slices.Equal(got, want) {
		t.Errorf("held are %v, want %v", got, want)
	}
}
