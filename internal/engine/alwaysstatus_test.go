package engine

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The status is written, and true, whatever else is refused; and once nothing is
// refused, everything that was left undone is done.
func TestStatusIsWrittenWhateverFails(t *testing.T) {
	for name, tc := range map[string]struct {
		refused webhook
		change  func(*cluster)
		// updated is how many pods are of the current template meanwhile, and observed
		// means that the new generation counts as acted on.
		updated  int32
		observed bool
	}{
		"old revisions cannot be deleted": {webhook{verb: "delete", resource: "controllerrevisions"},
			func(c *cluster) { c.editSet(image("agent:2")) }, 3, true},
		"no revision can be made": {webhook{verb: "create", resource: "controllerrevisions"},
			func(c *cluster) { c.editSet(image("agent:2")) }, 0, false},
		"a revision cannot be given a new number": {webhook{verb: "update", resource: "controllerrevisions"},
			func(c *cluster) {
				c.editSet(func(ds *appsv1.DaemonSet) {
					image("agent:2")(ds)
					ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
				})
				c.run(time.Second)
				c.editSet(image("agent:1"))
			}, 3, false},
		"pods cannot be adopted": {webhook{verb: "patch", resource: "pods"},
			func(c *cluster) {
				c.editPod(c.podOn("node-03").Name, func(p *corev1.Pod) { p.OwnerReferences = nil })
			}, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = new(int32) })
				c.start()
				c.run(10 * time.Second)
				tc.refused.refuses = 403
				c.admit(tc.refused)
				tc.change(c)
				c.run(time.Minute)
				s := c.set().Status
				if s.UpdatedNumberScheduled != tc.updated || s.DesiredNumberScheduled != 3 || (s.ObservedGeneration == c.set().Generation) != tc.observed {
					t.Errorf("while it is refused: generation %d, %+v", c.set().Generation, s)
				}
				c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, false) })
				c.run(2 * time.Second)
				if after := c.set().Status; after.NumberAvailable != s.NumberAvailable-1 {
					t.Errorf("a pod is no longer ready: %+v, before %+v", after, s)
				}
				c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, true) })
				c.admit()
				c.run(3 * time.Minute)
				c.covered(3, c.set().Spec.Template.Spec.Containers[0].Image)
			})
		})
	}
}

// A pod may become available by time alone: the status shows it, even while the history
// cannot be updated.
func TestStatusFollowsTimeWhileSomethingFails(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.MinReadySeconds = 40
			ds.Spec.RevisionHistoryLimit = new(int32)
		})
		c.start()
		c.run(time.Minute)
		c.admit(webhook{verb: "delete", resource: "controllerrevisions", refuses: 403})
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 2
		})
		c.run(5 * time.Second)
		c.run(41 * time.Second)
		if s := c.set().Status; s.NumberAvailable != 2 || s.UpdatedNumberScheduled != 2 {
			t.Errorf("a second after the pods have become available: %+v", s)
		}
	})
}

// Nothing is written to a DaemonSet that is marked as deleted, even if the watch has
// not shown that: its pods may be on their way to another DaemonSet.
func TestNoStatusForADeletedSet(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.stall("daemonsets", true)
		c.delete("daemonsets", "default/agent", "Foreground")
		if c.set() == nil || c.set().DeletionTimestamp == nil {
			t.Fatal("the DaemonSet has gone, or is not being deleted")
		}
		before := len(c.status)
		c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, false) })
		c.run(time.Minute)
		if n := len(c.status) - before; n != 0 {
			t.Errorf("the status was written %d times", n)
		}
	})
}
