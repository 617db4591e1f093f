package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"everynode/internal/plan"
)

func percent(n int) plan.Amount { return plan.Amount{Value: n, Percent: true} }

func TestAllowance(t *testing.T) {
	for _, c := range []struct {
		nodes          plan.Amount
		exposed, bound int
		want           int
	}{
		{percent(2), 49, 10, 0},
		{percent(2), 50, 10, 1},
		{percent(2), 99, 10, 1},
		{percent(100), 50, 10, 9},
		{plan.Amount{Value: 3}, 4, 10, 3},
		{plan.Amount{Value: 3}, 3, 10, 2},
		{plan.Amount{Value: 3}, 1, 10, 0},
		{plan.Amount{Value: 3}, 1, 1, 0},
		{plan.Amount{}, 100, 100, 0},
		{plan.Amount{Value: 3}, 0, 0, 0},
	} {
		f := Failure{Nodes: c.nodes}
		if got := f.Allowance(c.exposed, c.bound); got != c.want {
			t.Errorf("%s of %d exposed, %d at a time: %d may fail, want %d", amount(c.nodes), c.exposed, c.bound, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	if p := Default(); p.Check() != nil {
		t.Errorf("the default policy: %v", p.Check())
	}
	for _, c := range []struct {
		change func(*Policy)
		want   string
	}{
		{func(p *Policy) { p.Waves = nil }, "spec.waves: it is empty"},
		{func(p *Policy) { p.Waves[0].Nodes.Value = 0 }, "spec.waves[0].nodes: 0 is too few"},
		{func(p *Policy) { p.Waves[0].Nodes = percent(20) }, "spec.waves[1].nodes: 10% is fewer than the 20% of waves[0]"},
		{func(p *Policy) {
			p.Waves = append([]Wave{{Name: "a", Nodes: percent(20)}, {Name: "b", Nodes: plan.Amount{Value: 5}}}, p.Waves[1:]...)
		}, "spec.waves[2].nodes: 10% is fewer than the 20% of waves[0]"},
		{func(p *Policy) { p.Waves[1].Nodes = percent(101) }, "spec.waves[1].nodes: 101% is more than all"},
		{func(p *Policy) { p.Waves[2].Nodes = percent(99) }, "spec.waves[2].nodes: the last wave must be 100%"},
		{func(p *Policy) { p.Waves[2].Nodes = plan.Amount{Value: 1 << 40} }, "spec.waves[2].nodes: 1099511627776 is out of range"},
		{func(p *Policy) { p.Waves[2].Approval = true }, "spec.waves[2].approval: no wave comes after the last one"},
		{func(p *Policy) { p.Waves[1].Name = "first" }, `spec.waves[1].name: "first" is also the name of waves[0]`},
		{func(p *Policy) { p.Waves[1].Name = "" }, `spec.waves[1].name: a wave needs a name`},
		{func(p *Policy) { p.Waves[1].Soak = -time.Second }, "spec.waves[1].soak: -1s is negative"},
		{func(p *Policy) { p.Failure.Nodes.Value = -1 }, "spec.failure.nodes: -1% is too few"},
		{func(p *Policy) { p.Failure.StartWithin = 0 }, "spec.failure.startWithin: 0s is too short for any pod"},
		{func(p *Policy) { p.Failure.Restarts = 0 }, "spec.failure.restarts: 0; the smallest value is 1"},
		{func(p *Policy) { p.Removals = percent(200) }, "spec.guard.removals: 200% is more than all"},
		{func(p *Policy) { p.Windows = []Window{{From: 60, To: 60, Zone: time.UTC}} }, "spec.windows[0]: from 01:00 to 01:00 is never open"},
		{func(p *Policy) { p.Windows = []Window{{From: 0, To: 25 * 60, Zone: time.UTC}} }, "spec.windows[0]: from 00:00 to 25:00 is never open"},
		{func(p *Policy) { p.Windows = []Window{{From: 0, To: 60}} }, "spec.windows[0].timeZone: it is missing"},
	} {
		p := Default()
		c.change(&p)
		if got := p.Check(); len(got) == 0 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// Which node is first differs by DaemonSet, so that not every bad release hits the same one.
func TestRanksDiffer(t *testing.T) {
	p, nodes := Default(), []Node{}
	for i := range 20 {
		nodes = append(nodes, Node{Name: fmt.Sprint("n", i)})
	}
	first := map[string]bool{}
	for i := range 40 {
		first[NewLayout(&p, fmt.Sprint("uid-", i), nodes).Order[0]] = true
	}
	if len(first) < 10 {
		t.Errorf("40 DaemonSets begin on %d of 20 nodes", len(first))
	}
}

// A process that was suspended has watched nothing.
func TestSilenceIsNoSoak(t *testing.T) {
	w := newWorld()
	w.add("n1", nil)
	w.nodes["n1"].revision = "a"
	w.settle()
	w.target = "b"
	w.run(30 * time.Second)
	if w.state.Phase != Soaking {
		t.Fatalf("%+v", w.state)
	}
	before := w.state.Soaked
	after, _ := Advance(&w.policy, w.state, w.seen(), w.time().Add(time.Hour))
	if grown := after.Soaked - before; grown != 2*lookEvery || after.Phase != Soaking {
		t.Errorf("an hour's silence counts %s: %+v", grown, after)
	}
}
