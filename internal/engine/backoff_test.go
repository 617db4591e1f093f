package engine

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A back-off is recorded together with the other effects of its delete: when the applier records the outcome, not while the write
// is still under way.
func TestBackoffIsLearnedWithItsDelete(t *testing.T) {
	w := &write{state: newState(key("set")), remove: &plan.Delete{Node: "a", UID: "pod", Reason: plan.PodFailed}}
	s := sender{engine: &engine{index: newIndex()}, w: w}
	learn := s.learn(delivery.Outcome{Fate: delivery.OK, Lesson: delivery.Gone})
	if b := w.state.backoffOf("a", time.Now()); b != (plan.Backoff{}) {
		t.Errorf("before the result is learned: %+v", b)
	}
	learn()
	if b := w.state.backoffOf("a", time.Now()); b.Pod != "pod" {
		t.Errorf("after it: %+v", b)
	}
}

// A pod that terminates within a grace period does not complete a delete that gives it none. Otherwise the pauses of such a
// delete would start over each time, while it is refused or its answers are lost.
func TestDeleteWithoutGraceIsNotDoneByOneWith(t *testing.T) {
	pod := rawPod("p", "a", "x", 5)
	now, grace := metav1.Now(), int64(30)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	patient, urgent := sender{w: &write{remove: &plan.Delete{}}}, sender{w: &write{remove: &plan.Delete{Now: true}}}
	if !patient.sight(pod).Ending {
		t.Error("a pod that ends does not end for a delete that lets it")
	}
	if urgent.sight(pod).Ending {
		t.Error("a pod that has time to end has none, as was asked for")
	}
	if grace = 0; !urgent.sight(pod).Ending {
		t.Error("a pod that has no time to end has some")
	}
}

// A release that could not delete a pod has not reached its node: if others delete the pod later, that is not the release's
// doing.
func TestDeleteThatDoesNothingReachesNoNode(t *testing.T) {
	s := newState(key("set"))
	w := &write{state: s, edition: "b", reaches: releaseID{number: 3}, remove: &plan.Delete{Node: "a", UID: "pod", Reason: plan.Outdated}}
	for _, c := range []struct {
		outcome delivery.Outcome
		want    int
	}{
		{delivery.Outcome{Fate: delivery.Refused}, 0},
		{delivery.Outcome{Fate: delivery.Unknown, Settled: true}, 0},
		{delivery.Outcome{Fate: delivery.Throttled}, 0},
		{delivery.Outcome{Fate: delivery.Unknown}, 3},
		{delivery.Outcome{Fate: delivery.OK, Settled: true}, 3},
	} {
		s.reach(w)
		r := result{fate: c.outcome.Fate, undone: c.outcome.Undone()}
		if s.fared(w, &r, nil, time.Now()); s.reachedWith("a", "b") != c.want {
			t.Errorf("%+v: reached by release %d, want %d", c.outcome, s.reachedWith("a", "b"), c.want)
		}
	}
	later := *w
	later.reaches.number = 4
	s.reach(&later)
	if s.reachEnds(w, &result{fate: delivery.Refused, undone: true}); s.reachedWith("a", "b") != 4 {
		t.Error("a delete of an earlier release takes back what a later one has begun")
	}
}

// A create that was refused beside an old pod has not reached its node, which waits for its turn again; unless an earlier one has
// taken effect, or may.
func TestCreateThatDoesNothingReachesNoNode(t *testing.T) {
	for _, c := range []struct {
		fates []delivery.Outcome
		alone bool // the node has no other pod
		want  int
	}{
		{fates: []delivery.Outcome{{Fate: delivery.Throttled}}, want: 0},
		{fates: []delivery.Outcome{{Fate: delivery.Refused}}, want: 0},
		{fates: []delivery.Outcome{{Fate: delivery.Refused}}, alone: true, want: 3},
		{fates: []delivery.Outcome{{Fate: delivery.Stale}}, want: 3},
		{fates: []delivery.Outcome{{Fate: delivery.Unknown}}, want: 3},
		{fates: []delivery.Outcome{{Fate: delivery.Unknown}, {Fate: delivery.Throttled}}, want: 3},
		{fates: []delivery.Outcome{{Fate: delivery.OK}, {Fate: delivery.Refused}}, want: 3},
	} {
		s := newState(key("set"))
		w := &write{state: s, edition: "b", reaches: releaseID{number: 3}, create: &plan.Create{Node: "a"}, succeeds: !c.alone}
		for _, o := range c.fates {
			s.reach(w)
			s.fared(w, &result{fate: o.Fate, undone: o.Undone()}, nil, time.Now())
		}
		if got := s.reachedWith("a", "b"); got != c.want {
			t.Errorf("%v: reached by release %d, want %d", c.fates, got, c.want)
		}
	}
}

// A node is reached if a release has deleted one of its pods, even if the delete of another pod there had no effect. It does not
// matter whether that happened once or twice.
func TestDeleteThatDoesNothingBesideOneThatIsDone(t *testing.T) {
	s := newState(key("set"))
	of := func(pod string) *write {
		return &write{state: s, edition: "b", reaches: releaseID{number: 3}, remove: &plan.Delete{Node: "a", UID: pod, Reason: plan.Outdated}}
	}
	ends := func(pod string, fate delivery.Fate, want int) {
		t.Helper()
		o := delivery.Outcome{Fate: fate, Settled: true}
		if s.fared(of(pod), &result{fate: fate, undone: o.Undone()}, nil, time.Now()); s.reachedWith("a", "b") != want {
			t.Errorf("%s, %v: reached by release %d, want %d", pod, fate, s.reachedWith("a", "b"), want)
		}
	}
	s.reach(of("one"))
	s.reach(of("two"))
	ends("one", delivery.OK, 3)
	ends("two", delivery.Stale, 3)
	s.reach(of("two"))
	s.reach(of("two")) // before the answer to the first is known
	ends("two", delivery.Refused, 3)
}

// The end of a pod is noticed when its node is looked at.
func TestEndsOfRemadePodsAreNoticed(t *testing.T) {
	s, now := newState(key("set")), time.Now()
	s.edited("b")
	s.made("a", "b", now)
	s.notice("a", []*plan.Pod{{Phase: plan.Running}}, now.Add(time.Second))
	s.notice("other", nil, now)
	if r := s.remakes["a"]; !r.Gone.IsZero() || len(s.remakes) != 1 {
		t.Errorf("while it lives: %+v", s.remakes)
	}
	s.notice("a", nil, now.Add(2*time.Second))
	if s.notice("a", nil, now.Add(time.Minute)); !s.remakes["a"].Gone.Equal(now.Add(2 * time.Second)) {
		t.Errorf("after that: %+v", s.remakes["a"])
	}
}
