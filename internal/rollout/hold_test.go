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

// narrow makes the ledger follow a release, with a quota, whose target is not for the first half of the nodes.
func (h *held) narrow(quota int) {
	stable := plan.Spec{Hash: "a", MaxUnavailable: plan.Amount{Value: 1}}
	target := stable
	target.Hash, target.Placement.Selector = "b", map[string]string{"pool": "main"}
	r := &plan.Release{Number: 1, Stable: stable, Ranks: map[string]int{}, Steps: []int{len(h.nodes)}, Quota: quota, Grants: true}
	for i := range h.nodes {
		r.Ranks[h.nodes[i].Name] = i
		if i >= len(h.nodes)/2 {
			h.nodes[i].Labels = target.Placement.Selector
		}
	}
	h.ledger.Reset(target)
	h.ledger.Follow(r)
}

// A release that takes no more pods than may go gets through its waves, however long they take and whoever leads: a node is
// allowed to lose its pod, and counted, when its turn has come.
func TestHoldLetsEachGoInItsTurn(t *testing.T) {
	for leads, removals := range map[string]plan.Amount{"one leader": {Value: 50, Percent: true}, "two leaders": {Value: 50, Percent: true}} {
		t.Run(leads, func(t *testing.T) {
			now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
			h, p := newHeld(20), &Policy{Removals: removals}
			var gone []int
			for quota := 0; quota <= 10; quota++ {
				h.narrow(quota)
				h.look(now, gone...)
				h.Judge(p, &h.ledger, Allowance{}, now)
				now = now.Add(guardRest)
				next, lets, _ := h.Judge(p, &h.ledger, Allowance{}, now)
				if want := min(quota, 1); len(lets) != want || next.Held > 0 {
					t.Fatalf("with a quota of %d these go: %v; %d are held", quota, lets, next.Held)
				}
				h.Kept = next
				h.Allow(lets, now)
				h.look(now, gone...)
				h.wantInTurn(t, quota, lets)
				if gone = append(gone, quota-1); quota == 0 {
					gone = nil
				}
				if now = now.Add(LetsFor + 5*time.Minute); quota == 5 && leads == "two leaders" {
					h.Hold = Hold{Kept: h.Kept}
					h.Watch(true)
				}
			}
		})
	}
}

// wantInTurn checks that nodes above the quota wait for their turn only, and that those which may lose their pods do.
func (h *held) wantInTurn(t *testing.T, quota int, lets []string) {
	t.Helper()
	for i := range h.nodes {
		if v := h.ledger.Verdict(h.nodes[i].Name); i >= quota && v.Reason != plan.AwaitsWave {
			t.Errorf("with a quota of %d node %d is %v", quota, i, v.Reason)
		}
	}
	for _, name := range lets {
		if got := h.ledger.Verdict(name).Deletes(); len(got) != 1 {
			t.Errorf("with a quota of %d there are the deletes %+v", quota, got)
		}
	}
}

// What is let go may go for a while, and once for each node: what has not gone by then is pending again.
func TestHoldTakesBackWhatItAllowed(t *testing.T) {
	now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	h, p := newHeld(2), &Policy{Removals: plan.Amount{Value: 2}}
	h.look(now)
	if _, lets, wake := h.Judge(p, &h.ledger, Allowance{}, now); len(lets) > 0 || !wake.Equal(now.Add(guardRest)) {
		t.Fatalf("at once: lets %v, looks again at %s", lets, wake)
	}
	now = now.Add(guardRest)
	next, lets, _ := h.Judge(p, &h.ledger, Allowance{}, now)
	if len(lets) != 2 {
		t.Fatalf("two may go, and %v do", lets)
	}
	h.Kept = next
	h.Allow(lets, now)
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
	epoch := h.Epoch()
	if _, _, wake := h.Judge(p, &h.ledger, Allowance{}, now); len(h.Guard().Allowed) != 0 || !wake.Equal(now) || h.Epoch() == epoch {
		t.Errorf("what was let go long ago may go still: %v, looks again at %s, epoch %d as %d", h.Guard().Allowed, wake, h.Epoch(), epoch)
	}
	h.look(now, 0)
	if next, lets, _ := h.Judge(p, &h.ledger, Allowance{}, now); len(lets) > 0 || next.Held != 1 {
		t.Errorf("then it lets %v, and holds %d", lets, next.Held)
	}
	if h.Watch(false); h.Guard() != nil {
		t.Error("without a policy there is a guard")
	}
}
