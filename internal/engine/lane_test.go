package engine

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
)

func deleteOf(node, uid string) *write {
	return &write{remove: &plan.Delete{Node: node, Pod: "pod-" + uid, UID: uid}}
}

func createOn(node string) *write { return &write{create: &plan.Create{Node: node}, hash: "h1"} }

// While a pod is being deleted neither a second delete of it nor a create waits: the
// outcome of the first comes before both. A delete of another pod on the node does
// wait.
func TestWritesUnderWayAreWaitedFor(t *testing.T) {
	l := newLane(identity{}, nil)
	first := deleteOf("node-1", "a")
	l.replace("node-1", []*write{first})
	l.start(l.head(false))
	l.replace("node-1", []*write{deleteOf("node-1", "a"), createOn("node-1"), deleteOf("node-1", "b")})
	waiting := l.places["node-1"].waiting
	if len(waiting) != 1 || waiting[0].remove == nil || waiting[0].remove.UID != "b" || l.waiting != 1 {
		t.Fatalf("beside the delete of a, %d writes wait: %+v", l.waiting, waiting)
	}
	l.end(first)
	l.replace("node-1", []*write{createOn("node-1")})
	if l.waiting != 1 || l.head(false).create == nil {
		t.Errorf("after it, %d writes wait", l.waiting)
	}
}

// A write that is decided on again keeps its turn, and is based on the last decision.
func TestDecidedAgainRestsOnTheLast(t *testing.T) {
	l := newLane(identity{}, nil)
	old := deleteOf("node-1", "a")
	old.ds, old.rests = &appsv1.DaemonSet{}, &podEntry{}
	l.replace("node-1", []*write{old})
	l.replace("node-2", []*write{deleteOf("node-2", "b")})
	again := deleteOf("node-1", "a")
	again.ds, again.rests, again.state, again.known, again.taken, again.first = &appsv1.DaemonSet{}, &podEntry{}, &state{}, []string{"k"}, []string{"t"}, 1
	l.replace("node-1", []*write{again})
	next := l.head(false)
	if next != old {
		t.Fatalf("the next write is %+v: the first has lost its turn", next)
	}
	if next.ds != again.ds || next.rests != again.rests || next.state != again.state || len(next.known) != 1 || len(next.taken) != 1 || next.first != 1 {
		t.Errorf("it rests on what was decided first: %+v", next)
	}
}

// A DaemonSet that is answered with 429 rests for as long as it is asked to, and longer
// each time, until a write succeeds. Writes that were under way meanwhile show nothing
// new.
func TestLaneRestsLongerAndLonger(t *testing.T) {
	l, now := newLane(identity{}, &tenant{}), time.Now()
	var rests []time.Duration
	rest := func(asked time.Duration) {
		l.throttled(asked, now)
		l.throttled(asked, now)
		rests = append(rests, l.resume.Sub(now))
		now = l.resume
	}
	for range 6 {
		rest(time.Second)
	}
	rest(30 * time.Second)
	l.succeeds()
	rest(time.Second)
	s := time.Second
	if want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s, 30 * s, s}; !slices.Equal(rests, want) {
		t.Errorf("it rests for %v, want %v", rests, want)
	}
}
