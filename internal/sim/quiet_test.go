package sim

import (
	"testing"
	"time"

	"everynode/internal/plan"
)

// A quiet cluster: ten nodes, everything as it should be, and nothing happens except
// heartbeats every ten seconds, bookmarks, watches that end, and one change of the
// leader. In ten minutes nothing is written (I10).
func TestQuiet(t *testing.T) {
	sc, err := Parse("-- set --\nmaxUnavailable 1\nminReady 10s\n-- revisions --\na good\n-- nodes --\nn0\nn1\nn2\nn3\nn4\nn5\nn6\nn7\nn8 - taint:NoSchedule\nn9 - taint:NoExecute\n")
	if err != nil {
		t.Fatal(err)
	}
	w := begin(sc, NoBug, nil)
	begun := plan.ClockMargin + time.Minute // from then on, what is ready counts as ready by any clock
	w.play(begun)
	w.now = begun
	before := w.check.report
	if before.Creates != 8 || before.StatusWrites == 0 {
		t.Fatalf("the cluster did not come up: %+v", before)
	}
	w.quiet = true
	for at := time.Duration(0); at < quietTime; at += 10 * time.Second {
		for i := range 10 {
			w.after(at+time.Duration(i)*time.Second, func() { w.heartbeat(w.api.nodes[i].Name) })
		}
	}
	for _, e := range []Event{
		{At: time.Minute, Op: "cut", Args: []string{"pods"}}, {At: 2 * time.Minute, Op: "cut", Args: []string{"nodes"}},
		{At: 3 * time.Minute, Op: "cut", Args: []string{"sets", "resume"}}, {At: 4 * time.Minute, Op: "stall", Args: []string{"pods", "30s"}},
		{At: 5 * time.Minute, Op: "restart"}, {At: 8 * time.Minute, Op: "freeze", Args: []string{"5s"}},
	} {
		w.after(e.At, func() { w.happen(e) })
	}
	w.play(begun + quietTime)
	if w.err != nil {
		t.Fatal(w.err)
	}
	if w.check.report.written() != before.written() || w.processes != 2 {
		t.Errorf("before %+v, after %+v, %d processes", before, w.check.report, w.processes)
	}
}
