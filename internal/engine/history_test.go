package engine

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// revisions returns the numbers of the revisions, by the image in their template.
func (c *cluster) revisions() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int64{}
	for _, o := range c.objects["controllerrevisions"] {
		r := o.(*appsv1.ControllerRevision)
		out[imageIn(c.t, r)] = r.Revision
	}
	return out
}

func imageIn(t *testing.T, r *appsv1.ControllerRevision) string {
	t.Helper()
	var patch struct {
		Spec struct{ Template corev1.PodTemplateSpec }
	}
	if err := json.Unmarshal(r.Data.Raw, &patch); err != nil {
		t.Fatal(err)
	}
	return patch.Spec.Template.Spec.Containers[0].Image
}

func uids(pods []*corev1.Pod) map[string]types.UID {
	out := map[string]types.UID{}
	for _, p := range pods {
		out[p.Spec.NodeName] = p.UID
	}
	return out
}

// An undo in the middle of an update gives the old revision the highest number and
// restarts only the pods that the update had reached.
func TestUndoRestartsOnlyWhatDiffers(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(6)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := uids(c.pods())
		c.editSet(image("agent:bad"))
		c.run(7 * time.Second)
		var reached []string
		for _, p := range c.pods() {
			if p.UID != before[p.Spec.NodeName] || p.DeletionTimestamp != nil {
				reached = append(reached, p.Spec.NodeName)
			}
		}
		if len(reached) == 0 || len(reached) == 6 {
			t.Fatalf("the update had reached %v: the test needs some, not all", reached)
		}
		c.editSet(image("agent:1"))
		c.run(time.Minute)
		c.covered(6, "agent:1")
		for node, uid := range uids(c.pods()) {
			if restarted := uid != before[node]; restarted != slices.Contains(reached, node) {
				t.Errorf("%s: restarted %v; the update had reached %v", node, restarted, reached)
			}
		}
		if got := c.revisions(); !maps.Equal(got, map[string]int64{"agent:bad": 2, "agent:1": 3}) {
			t.Errorf("revisions %v", got)
		}
	})
}

func TestHistoryKeepsItsLimit(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = new(int32(2)) })
		c.start()
		for _, tag := range []string{"agent:2", "agent:3", "agent:4", "agent:5"} {
			c.run(20 * time.Second)
			c.editSet(image(tag))
		}
		c.run(20 * time.Second)
		if got := c.revisions(); !maps.Equal(got, map[string]int64{"agent:3": 3, "agent:4": 4, "agent:5": 5}) {
			t.Errorf("revisions %v", got)
		}
	})
}

// A revision that still has pods is kept beyond the limit (I11).
func TestHistoryKeepsRevisionsWithPods(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.RevisionHistoryLimit = new(int32(0))
			ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})
		c.start()
		c.run(10 * time.Second)
		c.editSet(image("agent:2"))
		c.run(10 * time.Second)
		if got := c.revisions(); !maps.Equal(got, map[string]int64{"agent:1": 1, "agent:2": 2}) {
			t.Errorf("revisions %v", got)
		}
		for _, p := range c.pods() {
			c.finish(p)
		}
		c.run(10 * time.Second)
		if got := c.revisions(); !maps.Equal(got, map[string]int64{"agent:2": 2}) {
			t.Errorf("revisions %v", got)
		}
	})
}

// If another template has the name of the new revision, the collision count goes up and
// the revision gets another name.
func TestHashCollision(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		r, err := view.NewRevision(c.set(), 1)
		if err != nil {
			t.Fatal(err)
		}
		r.OwnerReferences, r.Labels, r.Data.Raw = nil, nil, []byte(`{"spec":{"template":{}}}`)
		c.mu.Lock()
		c.add("controllerrevisions", r)
		c.mu.Unlock()
		c.start()
		c.run(10 * time.Second)
		c.covered(2, "agent:1")
		if n := c.set().Status.CollisionCount; n == nil || *n != 1 {
			t.Errorf("collision count %v", n)
		}
		if n := len(c.objects["controllerrevisions"]); n != 2 {
			t.Errorf("%d revisions", n)
		}
	})
}

// The same collision, found only when the create is refused, because the watch of
// revisions is behind.
func TestHashCollisionFoundByCreate(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.start()
		c.run(time.Second)
		c.stall("controllerrevisions", true)
		c.stall("daemonsets", true)
		c.addSet()
		r, err := view.NewRevision(c.set(), 1)
		if err != nil {
			t.Fatal(err)
		}
		r.OwnerReferences, r.Labels, r.Data.Raw = nil, nil, []byte(`{"spec":{"template":{}}}`)
		c.mu.Lock()
		c.add("controllerrevisions", r)
		c.mu.Unlock()
		c.stall("daemonsets", false)
		c.run(10 * time.Second)
		c.covered(2, "agent:1")
		if n := c.set().Status.CollisionCount; n == nil || *n != 1 {
			t.Errorf("collision count %v", n)
		}
	})
}

// Several revisions of one template: pods of the others get the label of the newest,
// none restarts, and the others are deleted.
func TestDuplicateRevisionsAreMerged(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := uids(c.pods())
		c.stop()
		r, err := view.NewRevision(c.set(), 7)
		if err != nil {
			t.Fatal(err)
		}
		r.Name = "agent-duplicate"
		r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "duplicate"
		c.mu.Lock()
		c.add("controllerrevisions", r)
		c.mu.Unlock()
		c.start()
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		for _, p := range c.pods() {
			if p.UID != before[p.Spec.NodeName] || p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] != "duplicate" {
				t.Errorf("pod %s: UID %s (was %s), labels %v", p.Name, p.UID, before[p.Spec.NodeName], p.Labels)
			}
		}
		if got := c.revisions(); !maps.Equal(got, map[string]int64{"agent:1": 7}) {
			t.Errorf("revisions %v", got)
		}
	})
}

// Adoption is refused when a live read says that the DaemonSet is being deleted.
func TestNoAdoptionForADeletedSet(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.stall("daemonsets", true)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.DeletionTimestamp = new(metav1.Now()) })
		before := c.wrote("patch pods")
		c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { p.OwnerReferences = nil })
		c.run(time.Minute)
		if n := c.wrote("patch pods") - before; n != 0 {
			t.Errorf("%d pods were adopted by a DaemonSet that is being deleted", n)
		}
		if n := c.wrote("create pods"); n != 2 {
			t.Errorf("%d creates: a node whose pod is about to be adopted needs none", n)
		}
	})
}

// A pod that cannot be adopted postpones its node only.
func TestFailedAdoptionHoldsUpNoOther(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		name := c.podOn("node-02").Name
		c.intercept(func(r request) (error, bool) {
			if r.is("patch", "pods") && r.name == name {
				return apierrors.NewInternalError(errors.New("webhook")), false
			}
			return nil, false
		})
		c.editPod(name, func(p *corev1.Pod) { p.OwnerReferences = nil })
		c.run(time.Second)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		updated := 0
		for _, p := range c.pods() {
			if p.Spec.Containers[0].Image == "agent:2" && isReady(p) {
				updated++
			}
		}
		if updated != 0 {
			// The orphan's node counts as down, so the budget of one is spent.
			t.Errorf("%d pods were updated while a node has no pod of ours", updated)
		}
		c.addNode("node-05")
		c.run(10 * time.Second)
		if got := c.podOn("node-05").Spec.Containers[0].Image; got != "agent:2" {
			t.Errorf("the new node has %s", got)
		}
		c.intercept(nil)
		c.run(3 * time.Minute)
		c.covered(5, "agent:2")
	})
}
