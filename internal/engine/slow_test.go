package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c *cluster) leaseSeconds() int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.objects["leases"]["kube-system/everynode-controller"].(*coordinationv1.Lease)
	if !ok {
		return 0
	}
	return *l.Spec.LeaseDurationSeconds
}

// Writes may take as long as the API server allows, for every kind of write: pods
// created and deleted, revisions created, renumbered and deleted, pods adopted and
// released, the status, the probe.
func TestSlowWritesAreDone(t *testing.T) {
	for _, takes := range []time.Duration{5 * time.Second, 30 * time.Second, 59 * time.Second} {
		for _, elected := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s elected %v", takes, elected), func(t *testing.T) {
				inCluster(t, func(c *cluster) {
					s := &slowServer{c: c, takes: writesTake(takes), resets: true}
					c.addNodes(3)
					none := int32(0)
					c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = &none })
					c.mu.Lock()
					c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: map[string]string{"app": "agent"}},
						Spec: corev1.PodSpec{NodeName: "node-01", Containers: []corev1.Container{{Name: "agent", Image: "agent:0"}}}})
					c.mu.Unlock()
					c.start(s.use, func(cfg *Config) { cfg.LeaderElect, cfg.Alone = elected, true })
					c.run(20 * time.Minute)
					c.covered(3, "agent:1")
					c.editPod(c.podOn("node-02").Name, func(p *corev1.Pod) { p.Labels["app"] = "other" })
					c.run(5 * time.Minute)
					for _, p := range c.pods() {
						if p.Labels["app"] == "other" && metav1.GetControllerOf(p) != nil {
							t.Errorf("%s was not released", p.Name)
						} else if p.Labels["app"] == "other" {
							c.finish(p)
						}
					}
					c.editSet(image("agent:2"))
					c.run(20 * time.Minute)
					c.covered(3, "agent:2")
					if n := len(c.objects["controllerrevisions"]); n != 1 {
						t.Errorf("%d revisions are left", n)
					}
					c.run(2 * time.Minute)
				})
			})
		}
	}
}

// A write that takes long is reported as one that takes long.
func TestSlowIsNotCalledLost(t *testing.T) {
	inCluster(t, func(c *cluster) {
		s := &slowServer{c: c, takes: writesTake(10 * time.Second), resets: true}
		c.addNodes(1)
		c.addSet()
		c.start(s.use, elect("one"))
		c.run(2 * time.Minute)
		got := c.events("FailedCreate")
		if len(got) == 0 || !strings.Contains(got[0], "took longer than 4s") || strings.Contains(got[0], "was lost") {
			t.Errorf("events %q", got)
		}
	})
}

// The lease is long only while there are writes that may take long.
func TestLeaseIsLongForSlowWritesOnly(t *testing.T) {
	inCluster(t, func(c *cluster) {
		takes := 30 * time.Second
		s := &slowServer{c: c, takes: func(r request) time.Duration { return writesTake(takes)(r) }, resets: true}
		c.addNodes(2)
		c.start(s.use, elect("one"))
		c.run(10 * time.Second)
		if n := c.leaseSeconds(); n != 15 {
			t.Errorf("a lease of %d s", n)
		}
		c.addSet()
		c.run(20 * time.Second)
		if n := c.leaseSeconds(); n != 75 {
			t.Errorf("a lease of %d s with slow writes under way", n)
		}
		c.run(10 * time.Minute)
		c.covered(2, "agent:1")
		if n := c.leaseSeconds(); n != 15 {
			t.Errorf("a lease of %d s after the last slow write", n)
		}
		takes = 0
		c.addNode("node-03")
		c.run(15 * time.Second)
		c.covered(3, "agent:1")
		if n := c.leaseSeconds(); n != 15 {
			t.Errorf("a lease of %d s after a write that took no time", n)
		}
	})
}

// No write of a leader that is cut off takes effect once another has begun, even if the
// API server does not notice that the leader is gone. The cut is tried at each time:
// before, between and after the renewals.
func TestNothingTakesEffectAfterTheNextLeader(t *testing.T) {
	for _, takes := range []time.Duration{0, 3 * time.Second, 20 * time.Second, 59 * time.Second} {
		for cut := time.Duration(0); cut < 13*time.Second; cut += 700 * time.Millisecond {
			inCluster(t, func(c *cluster) {
				one := &slowServer{c: c, takes: writesTake(takes)}
				two := &slowServer{c: c, takes: writesTake(0)}
				c.addNodes(12)
				c.start(one.use, elect("one"))
				stopOne, endedOne := c.stopEngine, c.ended
				c.run(time.Second)
				c.start(two.use, elect("two"))
				c.addSet()
				c.run(cut)
				one.cut.Store(true)
				cutAt := time.Now()
				for c.leader() != "two" && time.Since(cutAt) < 3*time.Minute {
					c.run(100 * time.Millisecond)
				}
				c.addNode("node-99") // it has something to write at once
				c.run(10 * time.Second)
				if takes == 0 && two.first().Sub(cutAt) > 24*time.Second {
					t.Errorf("cut off after %s: the next leader began after %s", cut, two.first().Sub(cutAt))
				}
				if first, last := two.first(), one.last(); first.IsZero() || last.After(first) {
					t.Errorf("writes of %s, cut off after %s: the last took effect %s after the first of the next leader, at %s", takes, cut, last.Sub(first), first)
				}
				c.run(2 * time.Minute)
				stopOne()
				<-endedOne
			})
		}
	}
}

// A leader that is told to stop hands over at once, even while writes hang: the server
// is told that they are cancelled. If the server may not have got that, the lease is
// kept until the writes can no longer take effect.
func TestHandOverWithSlowWrites(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				takes := writesTake(50 * time.Second)
				one := &slowServer{c: c, takes: takes, resets: !silent}
				two := &slowServer{c: c, takes: writesTake(0)}
				c.addNodes(3)
				c.addSet()
				c.start(one.use, elect("one"))
				stopOne, endedOne := c.stopEngine, c.ended
				c.run(20 * time.Second)
				c.start(two.use, elect("two"))
				c.run(time.Second)
				stopOne()
				<-endedOne
				c.run(time.Second)
				if got := c.leader(); got != "two" && !silent {
					t.Errorf("the leader is %q", got)
				}
				c.run(3 * time.Minute)
				c.covered(3, "agent:1")
			})
		})
	}
}

// Requests that hang take no worker from the others; here: patches of orphans.
func TestHangingPatchesHoldUpNoOther(t *testing.T) {
	for _, workers := range []int{1, 4} {
		inCluster(t, func(c *cluster) {
			s := &slowServer{c: c, resets: true, takes: func(r request) time.Duration {
				if r.is("patch", "pods") {
					return 40 * time.Second
				}
				return 0
			}}
			c.addNodes(20)
			c.addSet()
			c.start(s.use, elect("one"), func(cfg *Config) { cfg.Workers = workers })
			c.run(10 * time.Second)
			base := c.set().DeepCopy()
			c.mu.Lock()
			for k := range 12 {
				namespace := fmt.Sprint("team-", k%2)
				for i := range 20 {
					c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("old-%d-%d", k, i), Labels: map[string]string{"app": fmt.Sprint(k)}},
						Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%02d", i+1), Containers: base.Spec.Template.Spec.Containers}})
				}
				ds := base.DeepCopy()
				ds.Namespace, ds.Name = namespace, fmt.Sprint("agent-", k)
				ds.Spec.Selector.MatchLabels["app"], ds.Spec.Template.Labels["app"] = fmt.Sprint(k), fmt.Sprint(k)
				c.add("daemonsets", ds)
			}
			c.mu.Unlock()
			c.run(30 * time.Second)
			c.addNode("node-99")
			c.run(2 * time.Second)
			found := false
			for _, p := range c.pods() {
				found = found || p.Namespace == "default" && p.Spec.NodeName == "node-99"
			}
			if !found {
				t.Errorf("with %d workers default/agent waits for those whose patches hang", workers)
			}
			c.run(20 * time.Minute)
			for _, p := range c.pods() {
				if metav1.GetControllerOf(p) == nil {
					t.Errorf("%s/%s was not adopted", p.Namespace, p.Name)
				}
			}
		})
	}
}
