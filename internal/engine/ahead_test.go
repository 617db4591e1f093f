package engine

import (
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// template sets the number that the API server gives a DaemonSet's template.
func template(number string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: number}
	}
}

// madeFrom turns a pod into one that another controller has created.
func madeFrom(number, image string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels[extensionsv1beta1.DaemonSetTemplateGenerationKey] = number
		p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "another"
		p.Spec.Containers[0].Image = image
	}
}

// A pod of a template that the watch has not shown yet is not outdated. The engine
// reads the DaemonSet, and continues with the newer template (I13).
func TestPodsAheadOfTheWatch(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet(template("1"))
		c.start()
		c.run(10 * time.Second)
		ahead := c.podOn("node-02")
		var up atomic.Bool
		c.intercept(func(r request) (error, bool) {
			if !up.Load() && r.is("get", "daemonsets") {
				return apierrors.NewServiceUnavailable("not now"), false
			}
			return nil, false
		})
		c.stall("daemonsets", true)
		c.editSet(func(ds *appsv1.DaemonSet) { template("2")(ds); image("agent:2")(ds) })
		c.editPod(ahead.Name, madeFrom("2", "agent:2"))
		c.run(10 * time.Second)
		if n := c.wrote("delete pods"); n != 0 {
			t.Errorf("%d pods are deleted while the newer template cannot be read", n)
		}
		up.Store(true)
		c.run(2 * time.Minute)
		if p := c.podOn("node-02"); p.UID != ahead.UID {
			t.Errorf("%s of the newer template was deleted", ahead.Name)
		}
		if n := c.wrote("delete pods"); n != 2 {
			t.Errorf("%d pods are deleted, want the two of the older template", n)
		}
		for _, p := range c.pods() {
			if p.Spec.Containers[0].Image != "agent:2" {
				t.Errorf("%s is of %s, though the DaemonSet can be read", p.Name, p.Spec.Containers[0].Image)
			}
		}
		c.stall("daemonsets", false)
		c.run(10 * time.Second)
		c.covered(3, "agent:2")
	})
}

// A number that the DaemonSet has not reached means nothing on a pod of an earlier
// DaemonSet. One live read shows that, and then the pod is replaced like any outdated
// one.
func TestPodsOfAnotherLife(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(template("1"))
		c.start()
		c.run(10 * time.Second)
		var reads atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.is("get", "daemonsets") {
				reads.Add(1)
			}
			return nil, false
		})
		c.editPod(c.podOn("node-01").Name, madeFrom("7", "agent:0"))
		c.run(time.Minute)
		c.covered(2, "agent:1")
		if n := c.wrote("delete pods"); n != 1 {
			t.Errorf("%d pods are deleted, want the one that is outdated", n)
		}
		if n := reads.Load(); n > 2 {
			t.Errorf("the DaemonSet was read %d times, want once for the number and once for the rollout", n)
		}
	})
}

// Pods of a template without a number of its own, such as one that was restored by a
// rollback, look outdated to an engine that has not seen the rollback. So it asks the
// server before it deletes them.
func TestOutdatedIsConfirmed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		first := c.podOn("node-02").Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.covered(3, "agent:2")

		c.stall("daemonsets", true)
		c.editSet(image("agent:1"))
		back := c.podOn("node-02")
		c.editPod(back.Name, func(p *corev1.Pod) {
			p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = first
			p.Spec.Containers[0].Image = "agent:1"
		})
		c.run(time.Minute)
		if p := c.podOn("node-02"); p.UID != back.UID {
			t.Errorf("%s has gone back to the older template first, and was deleted for that", back.Name)
		}
		c.covered(3, "agent:1")
		if n := c.wrote("delete pods"); n != 3+2 {
			t.Errorf("%d pods are deleted, want three for one template and two for the other", n)
		}
	})
}

// Two engines that disagree on the template cannot create two pods, because the name
// does not depend on it. With surge two pods are what is wanted.
func TestNameTellsRevisionsApartOnlyWithSurge(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.lingers = 0 // otherwise the old pod still has the name
		c.addNodes(1)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		first := c.podOn("node-01")
		c.editSet(image("agent:2"))
		c.run(10 * time.Second)
		c.covered(1, "agent:2")
		second := c.podOn("node-01")
		if second.Name != first.Name || second.UID == first.UID {
			t.Errorf("%s (%s) was replaced by %s (%s)", first.Name, first.UID, second.Name, second.UID)
		}
		c.editSet(func(ds *appsv1.DaemonSet) {
			one, none := intstr.FromInt32(1), intstr.FromInt32(0)
			ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &one}
			image("agent:3")(ds)
		})
		c.run(10 * time.Second)
		c.covered(1, "agent:3")
		if third := c.podOn("node-01"); third.Name == second.Name {
			t.Errorf("with surge %s stands beside one of its name", third.Name)
		}
	})
}

// A pod that another engine has created under the name does not count as a second pod,
// but as one to be updated.
func TestPodOfAnotherTemplateIsTaken(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		made := 0
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") {
				if made++; made == 1 {
					p := decode(r.body).(*corev1.Pod)
					madeFrom("", "agent:0")(p)
					c.mu.Lock()
					c.add("pods", p)
					c.mu.Unlock()
				}
			}
			return nil, false
		})
		c.start()
		c.run(time.Minute)
		c.covered(1, "agent:1")
		if made != 2 || c.wrote("delete pods") != 1 {
			t.Errorf("%d creates and %d deletes: the other's pod should have been updated", made, c.wrote("delete pods"))
		}
	})
}
