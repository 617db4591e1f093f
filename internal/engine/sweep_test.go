package engine

import (
	"maps"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
)

// What is remembered of a DaemonSet for its events goes with it, also when an event
// came after the rest of it was forgotten.
func TestSweepOfAllowances(t *testing.T) {
	take := map[types.UID]flowcontrol.PassiveRateLimiter{"alive": nil, "gone": nil}
	r := &recorder{allowances: maps.Clone(take), lookUps: maps.Clone(take)}
	r.sweep(map[types.UID]bool{"alive": true})
	for name, left := range map[string]map[types.UID]flowcontrol.PassiveRateLimiter{"events": r.allowances, "reads": r.lookUps} {
		if _, ok := left["alive"]; !ok || len(left) != 1 {
			t.Errorf("of the allowances for %s %d are left, want that of the DaemonSet that is there", name, len(left))
		}
	}
}
