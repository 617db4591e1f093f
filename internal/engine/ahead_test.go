package engine

import (
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// template is the number that the API server gives a DaemonSet's template.
func template(number string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: number}
	}
}

// madeFrom turns a pod into one that another controller has made.
func madeFrom(number, image string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels[extensionsv1beta1.DaemonSetTemplateGenerationKey] = number
		p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "another"
		p.Spec.Containers[0].Image = image
	}
}

// A pod of a template that the watch has not shown yet is no outdated pod. The
// engine reads the DaemonSet, and goes on with the newer template (I13).
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

// A number that the DaemonSet has not reached says nothing of a pod that has it
// from another life: one live read shows that, and then the pod is replaced
// like any outdated one.
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
		if n := reads.Load(); n != 1 {
			t.Errorf("the DaemonSet was read %d times, want once", n)
		}
	})
}
