package engine

import (
	"errors"
	"testing"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A node's refusals count from the first answer to the last, in the release that they are about, until a pod of it exists.
func TestRefusals(t *testing.T) {
	const tick = time.Second
	now := time.Now()
	refused, denied := result{fate: delivery.Refused}, errors.New("no")
	s := newState(key("set"))
	s.hash, s.course.release = "b", &plan.Release{Number: 3}
	w := &write{state: s, edition: "b", reaches: releaseID{number: 3}, create: &plan.Create{Node: "a"}}
	want := func(when string, want time.Duration) {
		t.Helper()
		if got := s.refusal("a").known().For; got != want {
			t.Errorf("%s it has been refused for %v, want %v", when, got, want)
		}
	}
	answers := []struct {
		result
		want time.Duration
	}{
		{refused, 0},
		{result{fate: delivery.Throttled}, 0},
		{result{fate: delivery.Unknown}, 0},
		{result{fate: delivery.Stale}, 0},
		{result{fate: delivery.Throttled, own: true}, 4 * tick},
		{result{fate: delivery.Unknown, own: true}, 5 * tick},
		{result{fate: delivery.OverQuota}, 6 * tick},
		{result{fate: delivery.OK}, 0},
		{refused, 0},
		{refused, tick},
	}
	for i, a := range answers {
		s.refusedOrNot(w, &a.result, denied, now.Add(time.Duration(i)*tick))
		want(a.fate.String(), a.want)
	}
	if what := s.refusal("a").what; what != "create: no" {
		t.Errorf("what was refused is %q", what)
	}
	s.notice("a", []*plan.Pod{{Hash: "a"}, {Hash: "b", Assumed: true}}, now)
	want("while it is tried", tick)
	s.course.release.Number = 4
	want("in the next release", 0)
	s.course.release.Number, s.course.release.Back = 3, true
	want("in a release that is taken back", 0)
	s.course.release.Back = false
	s.notice("a", []*plan.Pod{{Hash: "b"}}, now)
	want("once there is a pod", 0)
	for range 2 {
		s.refusedOrNot(w, &refused, denied, now)
		now = now.Add(tick)
	}
	slow := *w
	slow.reaches.number = 2
	s.refusedOrNot(&slow, &result{fate: delivery.OK}, nil, now)
	want("when a slow write of an earlier release ends", tick)
	s.notice("a", []*plan.Pod{{Hash: "b", Deleted: now}, {Hash: "b", Phase: plan.Failed}, {Hash: "b", Phase: plan.Succeeded}}, now)
	want("while an earlier pod goes", tick)
	s.renewed("a")
	want("on a new node of that name", 0)
	other := *w
	other.reaches = releaseID{}
	s.refusedOrNot(&other, &refused, denied, now)
	other.reaches.number, other.edition = 3, "c"
	s.refusedOrNot(&other, &refused, denied, now.Add(time.Hour))
	want("when another revision is refused", 0)
}

// Refusals that have nothing to do with each other do not count together, unless the node has failed already. What a quota has
// no room for beside the old pod does not count.
func TestRareRefusals(t *testing.T) {
	now := time.Now()
	s := newState(key("set"))
	s.hash, s.course.release = "b", &plan.Release{Number: 3}
	w := &write{state: s, edition: "b", reaches: releaseID{number: 3}, create: &plan.Create{Node: "a"}}
	for _, c := range []struct {
		after, asks, want time.Duration
	}{
		{after: time.Hour},
		{after: time.Minute},
		{after: 5 * time.Second, want: 5 * time.Second},
		{after: 16 * time.Second, asks: time.Minute},
		{after: 2 * time.Minute, want: 2 * time.Minute},
		{after: time.Hour, want: time.Hour + 2*time.Minute},
	} {
		now = now.Add(c.after)
		s.refusedOrNot(w, &result{fate: delivery.Refused, wait: c.asks}, errors.New("no"), now)
		if got := s.refusal("a").known().For; got != c.want {
			t.Errorf("%v later it has been refused for %v, want %v", c.after, got, c.want)
		}
	}
	beside := *w
	beside.create, beside.succeeds = &plan.Create{Node: "b"}, true
	for range 2 {
		now = now.Add(time.Minute)
		s.refusedOrNot(&beside, &result{fate: delivery.OverQuota}, errors.New("no room"), now)
	}
	if got := s.refusal("b"); got != (refusal{}) {
		t.Errorf("what has no room beside an old pod is refused: %+v", got)
	}
}
