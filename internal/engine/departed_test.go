package engine

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// A node that comes back under its name keeps the pods that were made for it:
// only those that were left on the old one go.
func TestDepartedSparesTheNewNode(t *testing.T) {
	ix := newIndex(func(types.NamespacedName) {})
	ix.departed["node-1"] = departure{pods: map[string]bool{"old": true}}
	gone, rest := ix.departedWith([]plan.Pod{{Node: "node-1", UID: "old"}, {Node: "node-1", UID: "new"}, {Node: "node-2", UID: "other"}})
	if !gone["node-1"] || gone["node-2"] {
		t.Errorf("gone is %v, want node-1 alone", gone)
	}
	if len(rest) != 2 || rest[0].UID != "old" || rest[1].UID != "other" {
		t.Errorf("left to decide on are %v, want old and other", rest)
	}
}
