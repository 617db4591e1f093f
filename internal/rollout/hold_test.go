package rollout

import (
	"fmt"
	"testing"
	"time"

	"everynode/internal/plan"
)

// held is a ledger of nodes with a pod each, whose labels have gone.
type held struct {
	Hold
	ledger plan.Ledger
	nodes  []plan.Node
	pods   []plan.Pod
}

func newHeld(n int) *held {
	h := &held{}
	spec := plan.Spec{Hash: "a", MaxUnavailable: plan.Amount{Value: 1}}
	spec.Placement.Selector = map[string]string{"pool": "main"}
	h.ledger.Reset(spec)
	for i := range n {
		name := fmt.Sprintf("n%d", i)
		h.nodes = append(h.nodes, plan.Node{Name: name, Ready: true})
		h.pods = append(h.pods, plan.Pod{Name: "p-" + name, UID: "uid-" + name, Node: name, Hash: "a", Bound: true, Phase: plan.Running, Ready: true})
	}
	h.Watch(true)
	return h
}

// look has the ledger look at all nodes by the guard of now; the pods of gone have gone.
func (h *held) look(now time.Time, gone ...int) {
	h.ledger.Guard(h.Guard())
	for i := range h.nodes {
		s := plan.Sight{Name: h.nodes[i].Name, Node: &h.nodes[i], Pods: []*plan.Pod{&h.pods[i]}}
		for _, g := range gone {
			if g == i {
				s.Pods = nil
			}
		}
		h.ledger.Look(now, s)
	}
	h.ledger.Settle(func(*plan.Verdict) {})
}

// What is let go may go for a while, and once for each node: what has not gone by then is pending again.
func TestHoldTakesBackWhatItAllowed(t *testing.T) {
	now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	h, p := newHeld(2), &Policy{Removals: plan.Amount{Value: 2}}
	h.look(now)
	if _, lets, wake := h.Judge(p, &h.ledger, Allowance{}, now); lets || !wake.Equal(now.Add(guardRest)) {
		t.Fatalf("at once: lets %v, looks again at %s", lets, wake)
	}
	now = now.Add(guardRest)
	next, lets, _ := h.Judge(p, &h.ledger, Allowance{}, now)
	if !lets {
		t.Fatal("two may go, and do not")
	}
	h.Kept = next
	h.Allow([]string{"n0", "n1"}, now)
	h.look(now)
	if n := h.ledger.Totals().Guarded; n != 0 {
		t.Errorf("%d are held that may go", n)
	}
	h.nodes[0].Labels = map[string]string{"pool": "main"}
	h.look(now)
	if h.Judge(p, &h.ledger, Allowance{}, now); len(h.Guard().Allowed) != 1 || !h.Guard().Allowed["n1"] {
		t.Errorf("when one has its label back these may go: %v", h.Guard().Allowed)
	}
	if h.Judge(p, &h.ledger, Allowance{}, now.Add(LetsFor)); len(h.Guard().Allowed) != 1 {
		t.Error("what may go is taken back too early")
	}
	now = now.Add(LetsFor + time.Second)
	if h.Judge(p, &h.ledger, Allowance{}, now); len(h.Guard().Allowed) != 0 {
		t.Error("what was let go long ago may go still")
	}
	h.look(now, 0)
	if next, lets, _ := h.Judge(p, &h.ledger, Allowance{}, now); lets || next.Held != 1 {
		t.Errorf("then it lets %v, and holds %d", lets, next.Held)
	}
	if h.Watch(false); h.Guard() != nil {
		t.Error("without a policy there is a guard")
	}
}
