package rollout

import (
	"strings"
	"testing"
	"time"
)

// A retry would count a node that is down and has the target as the first to fail with it: it waits for that node, and says so.
func TestRetryWaitsForNodesThatAreDown(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	p := Default()
	s := State{Stable: "a", Target: "b", Release: 3, Phase: Aborted, Back: true, WhyBack: AbortRequested, Reason: AbortRequested}
	layout := NewLayout(&p, "uid", []Node{{Name: "n1"}, {Name: "n2"}})
	in := Seen{Target: "b", Stranded: 1, Layout: layout, Counts: make([]Counts, len(layout.Steps)), Requests: Requests{Retry: 3}}
	waits, _ := Advance(&p, s, &in, now)
	if waits.Release != 3 || waits.Phase != Aborted || !strings.Contains(waits.Ignored, "nodes that are down") {
		t.Errorf("with a node that is down: %+v", waits)
	}
	in.Stranded = 0
	if again, _ := Advance(&p, waits, &in, now); again.Release != 4 || again.Back || again.Ignored != "" {
		t.Errorf("without: %+v", again)
	}
}
