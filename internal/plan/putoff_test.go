package plan

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is put off holds no room: with its wait over, the other nodes move as they
// do now, but for what this one then takes; and while it waits nothing is done
// there, and the verdict says so.
func TestPutOffHoldsNoRoom(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, v := range out.Verdicts {
			if !w.waits(v.Node) {
				continue
			}
			if v.acts() || v.Candidate() {
				t.Fatalf("%+v waits, and acts", v)
			}
			free := clone(w.in)
			delete(free.Waits, v.Node)
			var other Plan
			Make(free, &other)
			i := slices.IndexFunc(other.Verdicts, func(o Verdict) bool { return o.Node == v.Node })
			o := &other.Verdicts[i]
			acts := o.acts()
			if acts != (v.Reason == WriteFailed) || acts && v.Until.IsZero() {
				t.Fatalf("without its wait %+v, with it %+v", o, v)
			}
		}
		// As if the candidates that wait were not there, to the budget.
		if w.surges() || w.in.Set.Strategy == OnDelete || w.in.Set.Halt != NoReason {
			return
		}
		down, _ := w.b()
		moves, waits := 0, 0
		for _, v := range out.Verdicts {
			moves += len(v.Deletes()) + len(v.Changes())
			count(&waits, v.Reason == BudgetSpent, 1)
		}
		if allowed := max(w.in.Set.MaxUnavailable.Of(w.desired()), 1); waits > 0 && moves == 0 && down < allowed {
			t.Fatalf("nobody moves, %d wait, %d are down of %d\n%s", waits, down, allowed, Render(out, w.in.Now))
		}
	})
}
