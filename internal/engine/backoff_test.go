package engine

import (
	"testing"
	"time"

	"everynode/internal/plan"
)

// A back-off comes with the rest of what its delete brought: when the applier
// learns it, and not while the write is still under way.
func TestBackoffIsLearnedWithItsDelete(t *testing.T) {
	w := &write{state: newState(key("set")), remove: &plan.Delete{Node: "a", UID: "pod", Reason: plan.PodFailed}}
	r := (&engine{}).removed(w, func() {})
	if b := w.state.backoffOf("a", time.Now()); b != (plan.Backoff{}) {
		t.Errorf("before the result is learned: %+v", b)
	}
	r.learn()
	if b := w.state.backoffOf("a", time.Now()); b.Pod != "pod" {
		t.Errorf("after it: %+v", b)
	}
}
