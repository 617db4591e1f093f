package engine

import (
	"testing"

	"everynode/internal/plan"
)

// A node that comes back under its name keeps the pods that were made for it:
// only those that were left on the old one go.
func TestDepartedSparesTheNewNode(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.upsertNode(node("a"))
	w.upsertPod(testPod(t, "old", "a", "x", 1))
	w.upsertPod(testPod(t, "new", "a", "x", 2))
	w.departed["a"] = departure{pods: map[string]bool{"uid-old": true}}
	seen := 0
	w.look("uid-x", []string{"a"}, func(s *plan.Sight) {
		seen++
		if !s.Gone || s.Node != nil || len(s.Pods) != 1 || s.Pods[0].Name != "old" {
			t.Errorf("while the old pod is there: %+v", s)
		}
	})
	w.removePod(testPod(t, "old", "a", "x", 3))
	w.look("uid-x", []string{"a"}, func(s *plan.Sight) {
		seen++
		if s.Gone || s.Node == nil || len(s.Pods) != 1 || s.Pods[0].Name != "new" {
			t.Errorf("when it has gone: %+v", s)
		}
	})
	if seen != 2 {
		t.Errorf("%d sights", seen)
	}
}
