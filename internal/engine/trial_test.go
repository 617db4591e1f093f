package engine

import (
	"fmt"
	"math"
	"testing"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// Few creates are handed over until one succeeds; then all are. Slots that are refused
// in large numbers wait together, at growing pauses, even while others succeed.
func TestTrial(t *testing.T) {
	s, now := newState(identity{}), time.Now()
	if a, b := s.room(0), s.room(trialCreates+5); a != trialCreates || b != 0 {
		t.Errorf("room for %d, and beside many for %d", a, b)
	}
	for i := range 100 {
		s.leave(fmt.Sprintf("n%02d", i))
	}
	if some, _ := s.takeLate(10, now, nil); len(some) != 10 || !s.stalls(now) {
		t.Errorf("%d of those that were left have their turn", len(some))
	}
	s.made("n00", "h", now)
	if n := s.room(1000); n != math.MaxInt {
		t.Errorf("after a success there is room for %d", n)
	}
	if rest, _ := s.takeLate(math.MaxInt, now, nil); len(rest) != 90 || s.stalls(now) {
		t.Errorf("%d of those that were left have their turn", len(rest))
	}
	for i := range 2 * manyFailed {
		s.createFailed(fmt.Sprintf("n%02d", i), delivery.FailedPace(), now, "create")
	}
	if n := s.room(0); n != trialCreates {
		t.Errorf("after many failures there is room for %d", n)
	}
	var pauses []time.Duration
	for range 9 {
		none, at := s.takeLate(math.MaxInt, now, nil)
		if len(none) != 0 || !s.waits("n60", plan.Act{}, now) || s.stalls(now) {
			t.Fatalf("%q are tried before their time", none)
		}
		pauses = append(pauses, at.Sub(now))
		now = at
		all, _ := s.takeLate(math.MaxInt, now, nil)
		if len(all) < manyFailed || s.waits("n60", plan.Act{}, now) {
			t.Fatalf("%d are tried together", len(all))
		}
		for _, n := range all {
			s.createFailed(n, delivery.FailedPace(), now, "create")
		}
		s.made("another", "h", now)
	}
	if pauses[0] != time.Second || pauses[1] != 2*time.Second || pauses[8] != delivery.MaxRetry {
		t.Errorf("pauses %v", pauses)
	}
}

// One node that is refused forever keeps its own long pause, and delays no other: once
// creates succeed, a node that is refused now and then is retried as soon as ever.
func TestOneRefusedNodeSetsNoPauseForOthers(t *testing.T) {
	s, now := newState(identity{}), time.Now()
	for i := range manyFailed {
		s.createFailed(fmt.Sprintf("n%02d", i), delivery.FailedPace(), now, "create")
	}
	turn := func() (all []string) {
		all, _ = s.retryable(now, nil)
		all, _ = s.takeLate(math.MaxInt, now, all)
		return all
	}
	for range 10 { // all but n00 are admitted
		now = now.Add(delivery.MaxRetry)
		for _, n := range turn() {
			if n == "n00" {
				s.createFailed(n, delivery.FailedPace(), now, "create")
			} else {
				s.made(n, "h", now)
				s.worked(n, plan.Act{})
			}
		}
		s.made("another", "h", now)
	}
	s.createFailed("n40", delivery.FailedPace(), now, "create")
	waits := func(node string, d time.Duration) bool { return s.waits(node, plan.Act{}, now.Add(d)) }
	if !waits("n00", delivery.MaxRetry-1) || waits("n00", delivery.MaxRetry) || !waits("n40", delivery.FirstRetry-1) || waits("n40", delivery.FirstRetry) {
		t.Errorf("the one waits for %+v, the other for %+v", s.waitsOf("n00", now), s.waitsOf("n40", now))
	}
}
