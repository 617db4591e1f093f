package plan

import (
	"testing"

	"pgregory.net/rapid"
)

// Whenever a node waits for the budget of an update, some other node holds it, and a
// node whose only pod is an available current one never does.
func TestSomebodyHoldsTheBudget(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		holders, waiting := 0, 0
		for i := range out.Verdicts {
			v := &out.Verdicts[i]
			if v.HoldsBudget() {
				holders++
			}
			if v.Reason == BudgetSpent {
				waiting++
			}
			if v.HoldsBudget() && v.Reason == UpToDate {
				t.Fatalf("%+v is up to date and holds the budget", v)
			}
		}
		if waiting > 0 && holders == 0 {
			t.Fatalf("%d nodes wait, and nobody holds the budget", waiting)
		}
	})
}
