package engine

import (
	"testing"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A back-off comes with the rest of what its delete brought: when the applier
// learns it, and not while the write is still under way.
func TestBackoffIsLearnedWithItsDelete(t *testing.T) {
	w := &write{state: newState(key("set")), remove: &plan.Delete{Node: "a", UID: "pod", Reason: plan.PodFailed}}
	s := sender{engine: &engine{index: newIndex()}, w: w}
	learn := s.learn(delivery.Outcome{Fate: delivery.OK, Lesson: delivery.Gone})
	if b := w.state.backoffOf("a", time.Now()); b != (plan.Backoff{}) {
		t.Errorf("before the result is learned: %+v", b)
	}
	learn()
	if b := w.state.backoffOf("a", time.Now()); b.Pod != "pod" {
		t.Errorf("after it: %+v", b)
	}
}
