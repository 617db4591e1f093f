package engine

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What other tests rely on: the fake API server deletes, collects and refuses as a real one does.
func TestFakeAPIServerDeletes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.starts, c.stops = -1, time.Hour // no kubelet interferes
		c.addNode("n")
		pod := func(name string, change func(*corev1.Pod)) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n"}}
			change(p)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.add("pods", p)
		}
		remove := func(name string, grace int64) *corev1.Pod {
			c.mu.Lock()
			defer c.mu.Unlock()
			left := c.removeObject("pods", c.objects["pods"]["default/"+name], metav1.DeleteOptions{GracePeriodSeconds: &grace}).(*corev1.Pod)
			if c.objects["pods"]["default/"+name] == nil {
				return nil
			}
			return left
		}
		pod("runs", func(*corev1.Pod) {})
		pod("waits", func(p *corev1.Pod) { p.Spec.NodeName = "" })
		pod("held", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"} })
		began := c.now()
		first := remove("runs", 30)
		c.run(10 * time.Second)
		for _, step := range []struct {
			name  string
			grace int64
			left  bool
			has   int64         // the grace period
			end   time.Duration // after began
		}{
			{"runs", 40, true, 30, 30 * time.Second},
			{"runs", 20, true, 20, 20 * time.Second},
			{"runs", 5, true, 1, 10 * time.Second}, // it already has ten seconds
			{"runs", 0, false, 0, 0},
			{"waits", 30, false, 0, 0},
			{"held", 0, true, 0, 10 * time.Second},
		} {
			p := remove(step.name, step.grace)
			if (p != nil) != step.left || p != nil && (*p.DeletionGracePeriodSeconds != step.has || !p.DeletionTimestamp.Time.Equal(began.Add(step.end))) {
				t.Errorf("%s with grace %d: %+v", step.name, step.grace, p)
			}
		}
		if *first.DeletionGracePeriodSeconds != 30 {
			t.Errorf("the first delete gave %d seconds", *first.DeletionGracePeriodSeconds)
		}
		c.letGo(c.podOn("n"))
		if n := len(c.pods()); n != 0 {
			t.Errorf("%d pods are left without a finalizer", n)
		}
	})
}

// Foreground deletion waits for the dependents, background deletion leaves them to the garbage collector, and
// orphan deletion removes the owner from them.
func TestFakeGarbageCollector(t *testing.T) {
	for policy, want := range map[metav1.DeletionPropagation]struct{ set, pods, orphans int }{
		metav1.DeletePropagationForeground: {1, 2, 0},
		metav1.DeletePropagationBackground: {0, 2, 0},
		metav1.DeletePropagationOrphan:     {1, 2, 0},
	} {
		inCluster(t, func(c *cluster) {
			c.addNodes(2)
			c.addSet()
			c.start()
			c.run(10 * time.Second)
			c.stop()
			c.collect(5 * time.Second)
			c.run(6 * time.Second)
			c.delete("daemonsets", "default/agent", policy)
			c.run(time.Second)
			count := func() (set, pods, orphans int) {
				for _, p := range c.pods() {
					if len(p.OwnerReferences) == 0 {
						orphans++
					}
				}
				return len(c.objects["daemonsets"]), len(c.pods()), orphans
			}
			if set, pods, orphans := count(); set != want.set || pods != want.pods || orphans != want.orphans {
				t.Errorf("%s, before the collector comes: %d sets, %d pods, %d orphans", policy, set, pods, orphans)
			}
			c.run(time.Minute)
			kept := 0
			if policy == metav1.DeletePropagationOrphan {
				kept = 2
			}
			if set, pods, orphans := count(); set != 0 || pods != kept || orphans != kept || (len(c.objects["controllerrevisions"]) > 0) != (kept > 0) {
				t.Errorf("%s, in the end: %d sets, %d pods, %d orphans", policy, set, pods, orphans)
			}
		})
	}
}

// Admission refuses what it should, with its own code, and nothing else.
func TestFakeAdmission(t *testing.T) {
	f := newFakeAPI()
	f.admit(webhook{verb: "create", resource: "pods", namespace: "tenant", refuses: 429, retryAfter: 7})
	for _, r := range []request{{verb: "create", resource: "pods", namespace: "default"}, {verb: "get", resource: "pods", namespace: "tenant"},
		{verb: "create", resource: "pods", sub: "binding", namespace: "tenant"}} {
		if err := f.admitted(r); err != nil {
			t.Errorf("%s %s/%s in %s: %v", r.verb, r.resource, r.sub, r.namespace, err)
		}
	}
	err := f.admitted(request{verb: "create", resource: "pods", namespace: "tenant"})
	if seconds, ok := apierrors.SuggestsClientDelay(err); !apierrors.IsTooManyRequests(err) || !ok || seconds != 7 {
		t.Errorf("refused with %v", err)
	}
}
