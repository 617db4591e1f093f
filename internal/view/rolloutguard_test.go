package view

import (
	"encoding/json"
	"testing"

	"everynode/internal/rollout"
)

// A permission that is written by hand, to a fraction of a second, is the same one when it is read back from the record.
func TestAllowanceIsRecognized(t *testing.T) {
	var o DaemonSetRollout
	if err := json.Unmarshal([]byte(`{"spec": {"allowRemovals": {"nodes": 3, "before": "2026-11-30T10:00:00.75Z"}}}`), &o); err != nil {
		t.Fatal(err)
	}
	allowed := RolloutAllowance(&o)
	o.Status.Guard = guardStatus(&rollout.Guard{Used: 2, Before: allowed.Before})
	if g, err := RolloutGuard(&o); err != nil || allowed.Nodes != 3 || !g.Before.Equal(allowed.Before) {
		t.Errorf("%+v is recorded as %+v (%v)", allowed, g, err)
	}
}
