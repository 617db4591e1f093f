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

// When the state of a release is deleted, only a person knows which revision is good, also if no old pod works.
func TestLost(t *testing.T) {
	for _, c := range []struct {
		pods   map[string]int
		stable string
		unsure bool
	}{
		{map[string]int{"b": 3}, "b", false},
		{nil, "b", false},
		{map[string]int{"a": 5, "b": 1}, "a", true},
		{map[string]int{"a": 0, "b": 1}, "a", true},
		{map[string]int{"a": 0, "b": 1, "c": 2}, "c", true},
		{map[string]int{"a": 4}, "a", true},
	} {
		s := Lost("b", c.pods, 1)
		if s.Stable != c.stable || s.Unsure != c.unsure || s.Stopped != c.unsure || c.unsure && (s.Quota != 1 || s.Release != 1 || s.Target != "b") {
			t.Errorf("%v: %+v", c.pods, s)
		}
	}
}

// A wave that has been made smaller has no more nodes than that. Without an open wave, the state's number counts.
func TestQuotaOfAWave(t *testing.T) {
	p := Default()
	l := &Layout{Steps: []Step{{Wave: 0, Quota: 1}, {Wave: 1, Quota: 10}, {Wave: 2, Quota: 100}}}
	for _, c := range []struct {
		wave        string
		quota, want int
		layout      *Layout
	}{
		{p.Waves[1].Name, 50, 10, l},
		{p.Waves[1].Name, 4, 4, l},
		{"", 50, 50, l},
		{p.Waves[1].Name, 50, 50, nil},
	} {
		if got := c.layout.Quota(&p, &State{Wave: c.wave, Quota: c.quota}); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
