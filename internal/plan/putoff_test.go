package plan

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A postponed write holds no room: when its wait is over, the other nodes move as they
// do now, except for the room that this one then takes.
func TestPutOffHoldsNoRoom(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
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

// A wait is for the act that was refused. The verdict says so, and the node's update
// waits, too; what must be done in any case is done. A wait for an act that is not
// planned changes nothing.
func TestWaitIsForOneAct(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for i := range out.Verdicts {
			v := &out.Verdicts[i]
			if !w.waits(v.Node) || w.in.Set.Halt != NoReason {
				continue
			}
			free := clone(w.in)
			delete(free.Waits, v.Node)
			var other Plan
			Make(free, &other)
			at := slices.IndexFunc(other.Verdicts, func(o Verdict) bool { return o.Node == v.Node })
			w.compareWaiting(t, v, &other.Verdicts[at])
		}
	})
}

// compareWaiting compares a verdict with the one without waits.
func (w twin) compareWaiting(t *rapid.T, v, free *Verdict) {
	acts, all := actsOf(v), actsOf(free)
	held := w.claims(v.Node) || slices.ContainsFunc(all, func(a Act) bool { return w.withholds(v.Node, a) })
	if held != (v.Reason == WriteFailed) || held && (v.Until.IsZero() || v.Candidate()) {
		t.Fatalf("held %v: %+v, without its waits %+v", held, v, free)
	}
	for _, a := range acts {
		if !slices.Contains(all, a) || w.withholds(v.Node, a) {
			t.Fatalf("%+v is done: %+v, without its waits %+v", a, v, free)
		}
	}
	if !held && len(acts) != len(all) {
		t.Fatalf("nothing of it waits: %+v, without its waits %+v", v, free)
	}
	for _, d := range free.deletes {
		update := d.Reason == Outdated || d.Reason == Surged || d.Reason == TaintNotTolerated
		if held && !w.withholds(v.Node, d.Act()) && slices.Contains(acts, d.Act()) == update {
			t.Fatalf("%+v: of an update %v, and %+v", d, update, v)
		}
	}
	if held && len(v.creates)+len(v.changes) > 0 {
		t.Fatalf("the update goes on: %+v", v)
	}
}

// claims reports whether a pod of the node waits to be claimed.
func (w twin) claims(node string) bool {
	return slices.ContainsFunc(w.in.Waits[node], func(o Wait) bool { return o.Act.Kind == Claiming && o.Until.Sub(w.in.Now) > 0 })
}

// actsOf returns all acts of a verdict, including those of a candidate that does not
// move.
func actsOf(v *Verdict) (acts []Act) {
	for i := range v.deletes {
		acts = append(acts, v.deletes[i].Act())
	}
	for i := range v.changes {
		acts = append(acts, v.changes[i].Act())
	}
	for range v.creates {
		acts = append(acts, Act{})
	}
	return acts
}
