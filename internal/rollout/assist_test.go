package rollout

import (
	"testing"
	"time"

	"everynode/internal/plan"
)

// beside returns a release that another controller makes the pods of, in its last wave.
func beside(well, candidates int) (State, Seen) {
	layout := NewLayout(&Policy{Waves: []Wave{{Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}}}}, "uid", []Node{{Name: "a"}, {Name: "b"}})
	s := State{Stable: "s", Target: "t", Release: 1, Phase: Rolling, Reason: UnderQuota, Wave: "all", Opened: time.Unix(1, 0), Quota: 2}
	return s, Seen{Target: "t", Exposed: well, Well: well, Bound: 1, Assists: true, Layout: layout, Counts: []Counts{{Candidates: candidates}}}
}

// Beside another controller a release that is taken back stands where it is, as nobody makes pods of what was good before, and
// may be tried again from there.
func TestTakenBackBesideAnotherController(t *testing.T) {
	p := Default()
	s, in := beside(1, 1)
	in.Requests.Abort = 1
	s, _ = Advance(&p, s, &in, time.Unix(100, 0))
	if s.Phase != Aborted || s.Reason != AbortRequested {
		t.Fatalf("it is %s (%s), want Aborted", s.Phase, s.Reason)
	}
	in.Requests = Requests{Retry: 1}
	if s, _ = Advance(&p, s, &in, time.Unix(200, 0)); s.Release != 2 || s.Back {
		t.Errorf("tried again it is %+v", s)
	}
}

// What another controller has given to nodes that the layout does not know does not end a release early.
func TestLeaksDoNotEndARelease(t *testing.T) {
	p := Policy{Waves: []Wave{{Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}}}}
	s, in := beside(3, 1)
	if s, _ = Advance(&p, s, &in, time.Unix(100, 0)); s.Phase != Rolling || !s.Grants() {
		t.Errorf("with a node that waits it is %s (%s)", s.Phase, s.Reason)
	}
	in.Counts[0].Candidates = 0
	if s, _ = Advance(&p, s, &in, time.Unix(200, 0)); s.Phase != Idle || s.Stable != "t" {
		t.Errorf("with none it is %s (%s)", s.Phase, s.Reason)
	}
}
