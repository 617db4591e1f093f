package engine

import (
	"maps"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/plan"
)

// What is remembered about a DaemonSet for its events is dropped with it, even if an
// event came after the rest was forgotten.
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

// Housekeeping, decisions and watches run in parallel: none of them waits for a lock
// that another holds while it waits for one of its own.
func TestSweepBesideDecisions(t *testing.T) {
	ix, s, now := newIndex(), newState(identity{}), time.Now()
	var all sync.WaitGroup
	for _, do := range []func(){
		func() {
			s.announce("uid-ended")
			s.sweep(now, ix)
		},
		func() { ix.look("", []string{"node-01"}, func(*plan.Sight) { s.waitsOf("node-01", now) }) },
		func() { ix.bury("uid-other") },
	} {
		all.Go(func() {
			for range 20_000 {
				do()
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("they wait for each other")
	}
}
