package view

import (
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

// RolloutAllowance returns how many removals a person allows; it is empty if nobody allows any. Its end identifies it, so
// it is to the second, as it is recorded.
func RolloutAllowance(o *DaemonSetRollout) rollout.Allowance {
	if a := o.Spec.Allow; a != nil {
		return rollout.Allowance{Nodes: a.Nodes, Before: a.Before.UTC().Truncate(time.Second)}
	}
	return rollout.Allowance{}
}

// RolloutGuard returns the recorded removals. The error names each field that cannot be parsed.
func RolloutGuard(o *DaemonSetRollout) (g rollout.Guard, err error) {
	s, r := o.Status.Guard, stateReader{}
	if s == nil {
		return g, nil
	}
	g.Held, g.Of, g.Used = r.count("guard.held", s.Held), r.count("guard.of", s.Of), r.count("guard.used", s.Used)
	if s.Before != nil {
		g.Before = s.Before.UTC()
	}
	for _, t := range s.Taken {
		g.Taken = append(g.Taken, rollout.Taken{From: t.From.UTC(), Nodes: r.count("guard.taken", t.Nodes)})
	}
	return g, errors.Join(r.wrong...)
}

// guardStatus keeps times to the second. The rounding makes a removal count for longer, never for shorter.
func guardStatus(g *rollout.Guard) *RolloutGuardStatus {
	if len(g.Taken) == 0 && g.Held == 0 && g.Used == 0 {
		return nil
	}
	s := &RolloutGuardStatus{Held: g.Held, Of: g.Of, Used: g.Used}
	if !g.Before.IsZero() {
		s.Before = &metav1.Time{Time: g.Before.UTC().Truncate(time.Second)}
	}
	for _, t := range g.Taken {
		s.Taken = append(s.Taken, RolloutTaken{From: metav1.Time{Time: t.From.UTC().Add(time.Second - 1).Truncate(time.Second)}, Nodes: t.Nodes})
	}
	return s
}
