package engine

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/delivery"
)

// A delete that is under way counts against the budget, even if another pod has become
// a better candidate meanwhile.
func TestDeleteUnderWayCounts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		taint := func(taints ...corev1.Taint) { c.editNode("node-01", func(n *corev1.Node) { n.Spec.Taints = taints }) }
		taint(corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoSchedule}) // keeps its pod, and is not updated
		c.run(time.Second)
		c.watchBudget(4, 1)
		c.slowDown(func(r request) time.Duration {
			if r.is("delete", "pods") {
				return 2 * time.Second
			}
			return 0
		})
		c.editSet(image("agent:2"))
		c.run(time.Second) // the delete on node-02 is under way
		taint()            // now node-01 comes first
		c.run(2 * time.Minute)
		c.covered(4, "agent:2")
	})
}

// A create under way is not repeated, and is not in the status.
func TestCreateUnderWayIsNotRepeated(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.slowDown(func(r request) time.Duration {
			if r.is("create", "pods") {
				return 3 * time.Second
			}
			return 0
		})
		c.start()
		c.run(time.Second)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = 1 }) // decide again
		c.run(time.Second)
		if s := c.set().Status; s.DesiredNumberScheduled != 3 || s.CurrentNumberScheduled != 0 || s.UpdatedNumberScheduled != 0 {
			t.Errorf("status while nothing exists: %+v", s)
		}
		c.run(20 * time.Second)
		c.covered(3, "agent:1")
		if n := c.wrote("create pods"); n != 3 {
			t.Errorf("%d creates", n)
		}
	})
}

// Nothing of an old decision starts while a new one is made, however long that takes.
func TestOldDecisionIsWithdrawn(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(30)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 30 })
		c.start()
		c.run(20 * time.Second)
		c.slowDown(func(r request) time.Duration {
			switch {
			case r.is("delete", "pods"):
				return time.Second
			case r.is("create", "controllerrevisions"):
				return 3 * time.Second
			}
			return 0
		})
		c.stop() // the window of a new engine is narrow again
		c.start()
		c.run(time.Second)
		c.editSet(image("agent:2"))
		c.run(3*time.Second + 500*time.Millisecond) // the first deletes are under way
		started := len(c.pods())
		if started != 30 {
			t.Fatalf("%d pods are left before the first delete has ended", started)
		}
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:3")(ds)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 1
		})
		c.run(2 * time.Second)
		if n := c.wrote("delete pods"); n != delivery.FirstWindow {
			t.Errorf("%d deletes; %d had started when the budget was lowered to one", n, delivery.FirstWindow)
		}
		c.slowDown(nil)
		c.run(5 * time.Minute)
		c.covered(30, "agent:3")
	})
}

// A ready pod is deleted for an update only in the version that is known: not if it was
// removed from the DaemonSet for debugging while the watch was behind.
func TestUpdateDoesNotDeleteWhatHasChanged(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.stall("pods", true)
		old := c.podOn("node-01")
		c.editPod(old.Name, func(p *corev1.Pod) { p.Labels["app"] = "debug" })
		c.editSet(image("agent:2"))
		c.run(10 * time.Second)
		c.stall("pods", false)
		c.run(time.Minute)
		kept := false
		for _, p := range c.pods() {
			kept = kept || p.UID == old.UID && p.DeletionTimestamp == nil && len(p.OwnerReferences) == 0
		}
		if !kept {
			t.Error("the pod that no longer matched was deleted")
		}
	})
}

// A pod that has become ready while the watch was behind is not deleted for being
// unready: it is read again, and waits for the budget (I4).
func TestUpdateReadsUnreadyPodsAgain(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		ready := func(to corev1.ConditionStatus) {
			for _, pod := range c.pods() {
				c.editPod(pod.Name, func(p *corev1.Pod) { p.Status.Conditions[0].Status = to })
			}
		}
		ready(corev1.ConditionFalse)
		c.run(time.Second)
		c.stall("pods", true)
		ready(corev1.ConditionTrue)
		c.watchBudget(3, 1)
		c.editSet(image("agent:2"))
		c.run(10 * time.Second)
		c.stall("pods", false)
		c.run(time.Minute)
		c.covered(3, "agent:2")
	})
}
