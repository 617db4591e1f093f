package rollout

import (
	"fmt"
	"math"
	"time"

	"everynode/internal/plan"
)

// Check returns what is wrong with a policy, one sentence for each mistake. A sentence begins
// with the field as it is written in a RolloutPolicy. Nil: nothing is wrong.
func (p *Policy) Check() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(p.Waves) == 0 {
		say("spec.waves: it is empty; leave the field out to get those of the default policy")
	}
	names, last := map[string]int{}, map[bool]int{} // last: of the waves that count in percent, and of the others
	for i := range p.Waves {
		w, at := &p.Waves[i], fmt.Sprintf("spec.waves[%d]", i)
		checkAmount(say, at+".nodes", w.Nodes, 1)
		if before, taken := names[w.Name]; w.Name == "" {
			say("%s.name: a wave needs a name", at)
		} else if taken {
			say("%s.name: %q is also the name of waves[%d]", at, w.Name, before)
		}
		names[w.Name] = i
		if w.Soak < 0 {
			say("%s.soak: %s is negative", at, w.Soak)
		}
		if before, is := last[w.Nodes.Percent]; is && w.Nodes.Value < p.Waves[before].Nodes.Value {
			say("%s.nodes: %s is fewer than the %s of waves[%d]; the number counts all nodes that have the revision by then", at, amount(w.Nodes), amount(p.Waves[before].Nodes), before)
		}
		last[w.Nodes.Percent] = i
	}
	if n := len(p.Waves); n > 0 {
		if last := &p.Waves[n-1]; last.Nodes != (plan.Amount{Value: 100, Percent: true}) {
			say("spec.waves[%d].nodes: the last wave must be 100%%, or the release never ends", n-1)
		} else if last.Approval {
			say("spec.waves[%d].approval: no wave comes after the last one", n-1)
		}
	}
	p.Failure.check(say)
	checkAmount(say, "spec.guard.removals", p.Removals, 0)
	for i := range p.Windows {
		p.Windows[i].check(say, fmt.Sprintf("spec.windows[%d]", i))
	}
	return wrong
}

func (f *Failure) check(say func(string, ...any)) {
	checkAmount(say, "spec.failure.nodes", f.Nodes, 0)
	if f.StartWithin < time.Second {
		say("spec.failure.startWithin: %s is too short for any pod", f.StartWithin)
	}
	if f.Restarts < 1 {
		say("spec.failure.restarts: %d; the smallest value is 1", f.Restarts)
	}
}

func checkAmount(say func(string, ...any), field string, a plan.Amount, least int) {
	switch {
	case a.Value < least:
		say("%s: %s is too few; give at least %d", field, amount(a), least)
	case a.Percent && a.Value > 100:
		say("%s: %s is more than all", field, amount(a))
	case a.Value > math.MaxInt32:
		say("%s: %s is out of range", field, amount(a))
	}
}

func amount(a plan.Amount) string {
	if a.Percent {
		return fmt.Sprintf("%d%%", a.Value)
	}
	return fmt.Sprint(a.Value)
}
