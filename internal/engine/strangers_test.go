package engine

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// forge adds a pod in another namespace that names default/agent as its owner, looks like the real pod on the node, and
// is being deleted: a finalizer keeps it, and it asks for a scheduler that there is not. Whoever may create pods there
// and has seen one of the DaemonSet's can do that.
func (c *cluster) forge(node string) {
	c.t.Helper()
	forged := c.agentOn(node).DeepCopy()
	now := c.now()
	forged.ObjectMeta = metav1.ObjectMeta{Namespace: "tenant", Name: "forged-" + node, Labels: forged.Labels, OwnerReferences: forged.OwnerReferences,
		Finalizers: []string{"tenant.example/stay"}, DeletionTimestamp: &now, DeletionGracePeriodSeconds: new(int64)}
	forged.Spec.NodeName, forged.Spec.SchedulerName = "", "nobody"
	forged.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("pods", forged)
}

// agentOn returns the only pod of default/agent on the node.
func (c *cluster) agentOn(node string) (found *corev1.Pod) {
	c.t.Helper()
	for _, p := range c.pods() {
		if p.Namespace == metav1.NamespaceDefault && p.Spec.NodeName == node {
			if found != nil {
				c.t.Fatalf("%s has two pods: %s and %s", node, found.Name, p.Name)
			}
			found = p
		}
	}
	if found == nil {
		c.t.Fatalf("%s has no pod", node)
	}
	return found
}

// A pod of another namespace is not the DaemonSet's, whatever it says, and in whatever order the engine gets to know the
// two: it stands in the way of none, and its labels decide nothing about theirs.
func TestPodOfAnotherNamespace(t *testing.T) {
	for name, forgedFirst := range map[string]bool{"seen last": false, "seen first": true} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet()
				c.start()
				c.run(10 * time.Second)
				if forgedFirst {
					c.stop()
				}
				c.forge("node-01")
				c.forge("node-02")
				if forgedFirst {
					c.start()
				}
				c.run(10 * time.Second)
				if n := c.wrote("patch pods"); n > 0 {
					t.Errorf("%d pods were adopted or released", n)
				}
				before := c.agentOn("node-01").UID
				c.delete("pods", "default/"+c.agentOn("node-01").Name, "")
				c.run(10 * time.Second)
				if c.agentOn("node-01").UID == before {
					t.Error("the pod is still there")
				}
				c.editSet(image("agent:2"))
				c.run(2 * time.Minute)
				for _, node := range []string{"node-01", "node-02", "node-03"} {
					if got := c.agentOn(node).Spec.Containers[0].Image; got != "agent:2" {
						t.Errorf("%s has %s", node, got)
					}
				}
				if s := c.set().Status; s.DesiredNumberScheduled != 3 || s.NumberAvailable != 3 || s.CurrentNumberScheduled != 3 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// The pods may be known before the DaemonSet, and so may what is wrong with them.
func TestPodsBeforeTheirDaemonSet(t *testing.T) {
	w := newWatched()
	w.upsertNode(node("a"))
	w.upsertPod(testPod(t, "ours", "a", "x", 1))
	w.upsertPod(testPod(t, "forged", "a", "x", 2, func(p *corev1.Pod) { p.Namespace = "tenant" }))
	w.addSet(t, "x", nil)
	w.look("uid-x", []string{"a"}, func(s *plan.Sight) {
		if len(s.Pods) != 1 || s.Pods[0].Name != "ours" {
			t.Errorf("%d pods", len(s.Pods))
		}
	})
	w.upsertPod(testPod(t, "forged", "a", "x", 3, func(p *corev1.Pod) { p.Namespace = "tenant" }))
	w.upsertPod(testPod(t, "ours", "a", "x", 4))
	if n := len(w.pods); n != 1 {
		t.Errorf("%d pods are known", n)
	}
}

// A revision that is not a DaemonSet's is not read, and one with a number of two gigabytes stops nobody.
func TestRevisionWithALongNumber(t *testing.T) {
	const bomb = `{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"1e1999999998"}}}]}}}}`
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.mu.Lock()
		for _, name := range []string{"orphan", "of-a-stateful-set"} {
			r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: name}, Revision: 1, Data: runtime.RawExtension{Raw: []byte(bomb)}}
			if name != "orphan" {
				r.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "x", UID: "x", Controller: new(true)}}
			}
			c.add("controllerrevisions", r)
		}
		c.mu.Unlock()
		c.start()
		c.run(10 * time.Second)
		c.covered(2, "agent:1")
	})
}

// While placements are evaluated, which anybody may make a megabyte long, other DaemonSets can use the index.
func TestReachableLeavesTheIndexFree(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.upsertNode(node("a"))
	set := w.sets[types.NamespacedName{Namespace: "default", Name: "x"}]
	asked := 0
	w.reachable(set, &plan.Spec{}, "h", func(string) (reached, failed bool) {
		if asked++; !w.mu.TryLock() {
			t.Error("the index is locked")
			return false, false
		}
		w.mu.Unlock()
		return false, false
	})
	if asked != 1 {
		t.Errorf("asked about %d nodes", asked)
	}
}

// How many nodes a decision looks at without a break depends on both placements that it evaluates.
func TestLookAtOnce(t *testing.T) {
	light, heavy := &setEntry{}, &setEntry{heavy: true}
	with := func(stable bool) *course {
		return &course{release: &plan.Release{}, stable: &stableRevision{heavy: stable}}
	}
	for i, c := range []struct {
		set  *setEntry
		of   *course
		want int
	}{
		{light, &course{}, lookAtOnce}, {light, with(false), lookAtOnce}, {light, with(true), lookAtOnceHeavy},
		{heavy, &course{}, lookAtOnceHeavy}, {heavy, with(false), lookAtOnceHeavy},
		{light, &course{stable: &stableRevision{heavy: true}}, lookAtOnce},
	} {
		if got := c.set.lookAtOnce(c.of); got != c.want {
			t.Errorf("%d: %d, want %d", i, got, c.want)
		}
	}
}
