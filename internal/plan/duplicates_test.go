package plan

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// I1: an available pod is not deleted as a duplicate unless another available pod is
// kept.
func TestDuplicatesServe(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		deleted := map[string]bool{}
		for _, d := range out.Deletes {
			deleted[d.Pod] = true
		}
		kept := func(p Pod) bool { return !deleted[p.Name] && w.isAvailable(p) }
		ready := func(p Pod) bool { return !deleted[p.Name] && isLive(p) && p.Ready }
		for _, d := range out.Deletes {
			if d.Reason == Duplicate && w.pod(d.Pod).Ready && !slices.ContainsFunc(w.podsOf(d.Node), ready) {
				t.Fatalf("%s is ready, and nothing else that stays is\n%s", d.Pod, Render(out, w.in.Now))
			}
			if d.Reason == Duplicate && w.isAvailable(w.pod(d.Pod)) && !slices.ContainsFunc(w.podsOf(d.Node), kept) {
				t.Fatalf("%s is available, and nothing else that stays is\n%s", d.Pod, Render(out, w.in.Now))
			}
		}
	})
}
