package sim

import (
	"testing"

	"pgregory.net/rapid"
)

// drawChanging draws a cluster whose pods are changed in place, with or without a policy.
func drawChanging(t *rapid.T) *Scenario {
	var sc *Scenario
	if rapid.Bool().Draw(t, "released") {
		sc = drawReleased(t)
	} else {
		sc = drawScenario(t)
	}
	sc.InPlace = true
	if rare(t, "downgraded") {
		at := drawPause(t)
		sc.Events = append(sc.Events, Event{At: at, Op: "engine", Args: []string{"old"}}, Event{At: at + drawPause(t), Op: "engine", Args: []string{"new"}})
	}
	return sc
}

// Whatever happens while pods are changed in place, the invariants hold: no pod counts that does not serve, no pod is
// changed that may not be, and in the end every node has what it should have.
func TestInPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawChanging(t)
		if err := Run(sc); err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
	})
}
