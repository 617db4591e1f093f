package engine

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
)

// A node that comes back under its name keeps the pods that were created for it: only
// those that were left on the old node go.
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
		for _, p := range s.Pods {
			if s.Gone || s.Node == nil || len(s.Pods) != 2 || p.Left != (p.Name == "old") {
				t.Errorf("while the old pod is there: %+v, pod %+v", s, p)
			}
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

// Of the pods that were known on a deleted node, those that may have been created for
// the node that has its name now do not go with the old one.
func TestDepartTakesWhatWasThere(t *testing.T) {
	joined := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	uids := []string{"before", "same second", "after", "by the scheduler", "gone"}
	for since, want := range map[time.Time][]string{
		joined: {"before"},
		{}:     {"after", "before", "by the scheduler", "same second"},
	} {
		ix := newIndex()
		for uid, created := range map[string]time.Time{"before": joined.Add(-time.Second), "same second": joined,
			"after": joined.Add(time.Second), "by the scheduler": joined.Add(-time.Hour)} {
			ix.linkPod(&podEntry{owner: "set", scheduled: uid == "by the scheduler",
				Pod: plan.Pod{UID: uid, Node: "node-1", Bound: true, Created: created}})
		}
		ix.depart("node-1", uids, since)
		if got := slices.Sorted(maps.Keys(ix.departed["node-1"].pods)); !slices.Equal(got, want) {
			t.Errorf("since %v: %q are gone with the node, want %q", since, got, want)
		}
	}
}

// A node is deleted and comes back under its name, and the watch of nodes shows both
// late. A pod that another controller has created for the new Node meanwhile is not
// taken for a leftover of the old Node.
func TestLateNodeWatchSparesTheNewPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.stall("nodes", true)
		c.removeNode("node-01")
		c.run(10 * time.Second)
		c.addNode("node-01")
		c.run(2 * time.Second)
		old := c.podOn("node-01")
		c.mu.Lock()
		made := old.DeepCopy()
		made.Name += "-2"
		c.store("pods", "DELETED", old.DeepCopy())
		c.add("pods", made)
		c.mu.Unlock()
		c.run(2 * time.Second)
		there := c.podOn("node-01") // that pod, or the engine's own, if it saw only the first of the two changes
		c.stall("nodes", false)
		c.run(10 * time.Second)
		if p := c.podOn("node-01"); p.UID != there.UID {
			t.Errorf("node-01 has %s, want %s of the new Node", p.Name, there.Name)
		}
		c.covered(2, "agent:1")
	})
}

// A pod that waits for the scheduler when its node's deletion is seen may already run
// on the next node of that name when the deletion is confirmed.
func TestDroppedNodeLeavesBoundPods(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.upsertNode(node("a"))
	waits := testPod(t, "waits", "a", "x", 1)
	waits.Bound = false
	w.upsertPod(waits)
	w.upsertPod(testPod(t, "runs", "a", "x", 2))
	if left := w.dropNode("a"); !slices.Equal(left, []string{"uid-runs"}) {
		t.Errorf("%q are left on the node, want the pod that was bound to it", left)
	}
}

// A watch says that a node was deleted, but the API server still has that very node, as
// after a restored backup: its pod, which is older than the Node, continues to serve,
// and is neither deleted nor replaced.
func TestNodeThatIsStillThereKeepsItsPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := c.podOn("node-01")
		c.editNode("node-01", func(n *corev1.Node) { n.CreationTimestamp = c.now() })
		c.run(10 * time.Second)
		c.mu.Lock()
		there := c.objects["nodes"]["node-01"]
		c.store("nodes", "DELETED", there.DeepCopyObject())
		c.objects["nodes"]["node-01"] = there
		c.mu.Unlock()
		c.run(30 * time.Second)
		if p := c.podOn("node-01"); p.UID != before.UID || p.DeletionTimestamp != nil {
			t.Errorf("node-01 has the pod %s, deleted at %v; want %s to serve on", p.UID, p.DeletionTimestamp, before.UID)
		}
	})
}
