package rollout

import (
	"testing"
	"time"
)

// Of what waits, only that no node is well needs a person, or nodes that come up.
func TestStands(t *testing.T) {
	for s, want := range map[State]bool{
		{Phase: Halted, Reason: TooManyFailed}: true,
		{Phase: Held, Reason: PolicyGone}:      true,
		{Phase: Waiting, Reason: NoneWell}:     true,
		{Phase: Waiting, Reason: NotApproved}:  false,
		{Phase: Rolling, Reason: NoneWell}:     false,
		{Phase: Idle}:                          false,
	} {
		if s.Stands() != want {
			t.Errorf("%s (%s): %v, want %v", s.Phase, s.Reason, s.Stands(), want)
		}
	}
}

// Nodes that have missed a release wait until a pause ends and a window opens, and Advance says so and wants to be called then. What a
// template that was put back takes away waits for neither.
func TestRests(t *testing.T) {
	p, pause := Default(), Requests{Paused: true}
	p.Windows = []Window{{From: 9 * 60, To: 17 * 60, Zone: time.UTC}}
	open := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	shut := open.Add(12 * time.Hour)
	for _, test := range []struct {
		what  string
		in    Seen
		s     State
		now   time.Time
		phase Phase
		why   Reason
		wake  time.Duration // after open; -1: none
	}{
		{"nothing has missed it", Seen{Requests: pause}, State{}, shut, Idle, NoReason, -1},
		{"in a window", Seen{Other: 2}, State{}, open, Idle, NoReason, 7 * time.Hour},
		{"in a pause", Seen{Other: 2, Requests: pause}, State{}, open, Idle, PauseRequested, 7 * time.Hour},
		{"outside of a window", Seen{Other: 2}, State{}, shut, Idle, WindowClosed, 23 * time.Hour},
		{"a template that was put back", Seen{Other: 2, Requests: pause}, State{Reverting: true}, shut, RollingBack, Reverted, -1},
		{"a policy that cannot be followed", Seen{Other: 2, Problem: PolicyUnreadable}, State{}, shut, Idle, PolicyUnreadable, -1},
		{"a policy that is not there, and nothing has missed it", Seen{Problem: PolicyGone, Requests: pause}, State{}, open, Idle, PolicyGone, -1},
		{"the same, and the template was put back", Seen{Other: 2, Problem: PolicyGone}, State{Reverting: true}, open, RollingBack, Reverted, -1},
	} {
		s, in := test.s, test.in
		s.Stable, s.Target, in.Target, s.Release = "a", "a", "a", 3
		next, wake := Advance(&p, s, &in, test.now)
		want := time.Time{}
		if test.wake >= 0 {
			want = open.Add(test.wake)
		}
		if next.Phase != test.phase || next.Reason != test.why || !wake.Equal(want) || next.Grants() {
			t.Errorf("%s: %s (%s), wake %v, want %s (%s), %v", test.what, next.Phase, next.Reason, wake, test.phase, test.why, want)
		}
	}
}
