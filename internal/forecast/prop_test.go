package forecast

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
)

// TestPlayProperties checks what holds for every change: the budget is kept, what can
// be reached is reached, the input is not modified, and its order does not matter.
func TestPlayProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := fmt.Sprintf("%+v", *in)
		f := Play(in)
		if after := fmt.Sprintf("%+v", *in); after != before {
			t.Fatalf("the input was changed:\n%s\n%s", before, after)
		}
		if f.Endless {
			t.Fatalf("no end of\n%s", before)
		}
		slices.Reverse(in.Nodes)
		slices.Reverse(in.Pods)
		if again := Play(in).text(); again != f.text() {
			t.Fatalf("in another order:\n%s\n%s", f.text(), again)
		}
		checkBudget(t, in, f)
		checkEnd(t, in, f)
	})
}

// drawInput draws a fleet whose pods are all healthy and current, except for some that
// are missing.
func drawInput(t *rapid.T) *Input {
	in := &Input{Now: changeAt(),
		Start: time.Duration(rapid.IntRange(1, 30).Draw(t, "start")) * time.Second,
		Stop:  time.Duration(rapid.IntRange(0, 30).Draw(t, "stop")) * time.Second}
	in.Set = plan.Spec{Hash: "new", MinReady: time.Duration(rapid.IntRange(0, 9).Draw(t, "minReady")) * time.Second}
	amount := plan.Amount{Value: rapid.IntRange(1, 4).Draw(t, "amount")}
	if rapid.Bool().Draw(t, "percent") {
		amount = plan.Amount{Value: rapid.IntRange(1, 100).Draw(t, "percentage"), Percent: true}
	}
	if rapid.Bool().Draw(t, "surge") {
		in.Set.MaxSurge = amount
	} else {
		in.Set.MaxUnavailable = amount
	}
	if rapid.Bool().Draw(t, "selects") {
		in.Set.Placement.Selector = map[string]string{"in": "yes"}
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "nodes") {
		node := in.node(fmt.Sprint("n", i))
		if rapid.Bool().Draw(t, "selected") {
			node.Labels["in"] = "yes"
		}
		if rapid.IntRange(0, 3).Draw(t, "pod") > 0 {
			in.pod(node.Name, rapid.SampledFrom([]string{"old", "older", "new"}).Draw(t, "hash"))
		}
	}
	return in
}

// checkBudget checks that no more nodes stop serving than the strategy allows.
func checkBudget(t *rapid.T, in *Input, f *Forecast) {
	unavailable, _ := in.Set.Budget(f.Status.Desired)
	if f.MostDown > unavailable {
		t.Fatalf("%d nodes down, %d may be:\n%s", f.MostDown, unavailable, f.text())
	}
}

// checkEnd checks that all nodes have what they should, that no node is named twice,
// and that nothing happens to a node whose pod was right.
func checkEnd(t *rapid.T, in *Input, f *Forecast) {
	if len(f.Left) > 0 || f.Status.Updated != f.Status.Desired || f.Status.Available != f.Status.Desired || f.Status.Misscheduled > 0 {
		t.Fatalf("not all is well at the end: %+v\n%s", f.Status, f.text())
	}
	changed := map[string]bool{}
	for _, s := range f.Steps {
		if changed[s.Node] || s.Ends < s.Begins || s.Ends > f.Took {
			t.Fatalf("step %+v of\n%s", s, f.text())
		}
		changed[s.Node] = true
	}
	for i := range in.Nodes {
		n := &in.Nodes[i]
		wanted := in.Set.Placement.Admits(n).Run
		at := slices.IndexFunc(in.Pods, func(p plan.Pod) bool { return p.Node == n.Name })
		right := at < 0 && !wanted || at >= 0 && wanted && in.Pods[at].Hash == "new"
		if right == changed[n.Name] {
			t.Fatalf("node %s: wanted %v, changed %v:\n%s", n.Name, wanted, changed[n.Name], f.text())
		}
	}
}
