package engine

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
)

// skews is how far the clock of whoever writes about a node may be ahead of the API
// server's.
var skews = []time.Duration{-10 * time.Minute, -30 * time.Second, -5 * time.Second, 0, 5 * time.Second, 10 * time.Minute}

// turn writes a node's Ready condition by a clock that is ahead.
func (c *cluster) turn(node string, to corev1.ConditionStatus, ahead time.Duration) {
	c.editNode(node, func(n *corev1.Node) {
		n.Status.Conditions[0].Status = to
		n.Status.Conditions[0].LastTransitionTime = metav1.NewTime(c.now().Add(ahead))
	})
}

// die silences a node and its pod. c.mu must not be held.
func (c *cluster) die(node string, to corev1.ConditionStatus, ahead time.Duration) {
	c.mu.Lock()
	c.dead[node] = true
	c.mu.Unlock()
	c.turn(node, to, ahead)
	for _, p := range c.pods() {
		if p.Spec.NodeName == node && isReady(p) {
			c.editPod(p.Name, func(p *corev1.Pod) { ready(p, false) })
		}
	}
}

// killsNodes makes every pod of the image kill its node a few seconds after it was
// created; killed is the set of these nodes.
func (c *cluster) killsNodes(image string, to corev1.ConditionStatus, ahead time.Duration) (killed map[string]bool) {
	killed = map[string]bool{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = func(pod *corev1.Pod) {
		node := pod.Spec.NodeName
		if pod.Spec.Containers[0].Image != image || pod.DeletionTimestamp != nil || killed[node] {
			c.kubelet(pod)
			return
		}
		killed[node] = true
		time.AfterFunc(4*time.Second, func() { c.die(node, to, ahead) })
	}
	return killed
}

// changeOfEngine is what may happen in the middle of an update: each entry starts an
// engine and returns a function that brings the next one.
var changeOfEngine = map[string]func(c *cluster) (next func()){
	"one engine": func(c *cluster) func() {
		c.start()
		return func() {}
	},
	"restart": func(c *cluster) func() {
		c.start()
		return func() {
			c.stop()
			c.start()
		}
	},
	"standby": func(c *cluster) func() {
		c.start(elect("one"))
		c.run(time.Second)
		stop, ended := c.stopEngine, c.ended
		c.start(elect("two"))
		return func() {
			stop()
			<-ended
		}
	},
}

// updated returns how many nodes have a pod of the image that is ready.
func (c *cluster) updated(image string) (n int) {
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image == image && p.DeletionTimestamp == nil && isReady(p) {
			n++
		}
	}
	return n
}

// A revision that kills its nodes kills only one, with a budget of one, whatever clocks
// the times are from, and whoever leads (I5).
func TestKillerIsStoppedByAnyClock(t *testing.T) {
	for _, ahead := range skews {
		for _, to := range []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionUnknown} {
			for amid, change := range changeOfEngine {
				t.Run(fmt.Sprint(ahead, to, amid), func(t *testing.T) {
					inCluster(t, func(c *cluster) {
						c.addNodes(6)
						c.addSet()
						next := change(c)
						c.run(20 * time.Minute)
						killed := c.killsNodes("agent:2", to, ahead)
						c.editSet(image("agent:2"))
						c.run(20 * time.Second)
						next()
						c.run(30 * time.Minute)
						c.mu.Lock()
						defer c.mu.Unlock()
						if len(killed) != 1 {
							t.Errorf("%d nodes were killed, with maxUnavailable 1", len(killed))
						}
					})
				})
			}
		}
	}
}

// A node that died before the update does not hold it up, whatever clocks the times are
// from, even if its condition changes between Unknown and False (I5).
func TestDeadNodeHoldsNoUpdateByAnyClock(t *testing.T) {
	for _, ahead := range skews {
		for amid, change := range changeOfEngine {
			t.Run(fmt.Sprint(ahead, amid), func(t *testing.T) {
				inCluster(t, func(c *cluster) {
					c.addNodes(6)
					c.addSet()
					next := change(c)
					c.run(20 * time.Second)
					c.die("node-01", corev1.ConditionUnknown, ahead)
					if amid == "restart" {
						// Of two times that others wrote, one counts as before the
						// other only if it clearly is.
						c.run(26 * time.Minute)
					}
					c.run(3 * time.Second)
					c.editSet(image("agent:2"))
					c.run(5 * time.Second)
					if amid != "restart" {
						c.turn("node-01", corev1.ConditionFalse, ahead)
						c.run(time.Second)
						c.turn("node-01", corev1.ConditionUnknown, ahead)
					}
					next()
					c.run(30 * time.Minute)
					if n := c.updated("agent:2"); n != 5 {
						t.Errorf("%d of 5 living nodes are updated: %+v", n, c.set().Status)
					}
				})
			})
		}
	}
}

// A node that joins and is never Ready does not hold up an update, whatever clock its
// times are from (I5).
func TestNeverReadyHoldsNoUpdate(t *testing.T) {
	for _, ahead := range skews {
		t.Run(ahead.String(), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(4)
				c.addSet()
				c.start()
				c.run(20 * time.Second)
				c.editSet(image("agent:2"))
				c.run(2 * time.Second)
				c.mu.Lock()
				c.dead["node-00"] = true
				c.add("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-00"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
					Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(c.now().Add(ahead))}}}})
				c.mu.Unlock()
				c.run(time.Minute)
				c.turn("node-00", corev1.ConditionUnknown, ahead)
				c.run(30 * time.Minute)
				if n := c.updated("agent:2"); n != 4 {
					t.Errorf("%d of 4 living nodes are updated: %+v", n, c.set().Status)
				}
			})
		})
	}
}

// The same if it joined before the engine started, and its pod is from the last engine.
func TestNeverReadyHoldsNoNewEngine(t *testing.T) {
	for _, ahead := range skews {
		t.Run(ahead.String(), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(4)
				c.addSet()
				c.start()
				c.run(20 * time.Second)
				c.editSet(image("agent:2"))
				c.mu.Lock()
				c.dead["node-00"] = true
				since := metav1.NewTime(c.now().Add(ahead)) // by its kubelet's clock
				c.add("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-00"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
					{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, LastTransitionTime: since},
					{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: since}}}})
				c.mu.Unlock()
				c.run(2 * time.Second)
				c.stop()
				c.start()
				c.run(10 * time.Minute)
				if n := c.updated("agent:2"); n != 4 {
					t.Errorf("%d of 4 living nodes are updated: %+v", n, c.set().Status)
				}
			})
		})
	}
}

// A node whose network went with its old pod is not Ready before that pod has ended,
// but its kubelet lives. If the new pod does not bring it back, that is the update's
// doing (I5).
func TestNodeThatTurnsWhileItsOldPodEnds(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		turned := map[string]bool{}
		c.mu.Lock()
		c.stops = 10 * time.Second
		c.after = func(pod *corev1.Pod) {
			node := pod.Spec.NodeName
			if pod.Spec.Containers[0].Image == "agent:2" {
				return // it needs the network that it was to bring
			}
			if pod.DeletionTimestamp != nil && !turned[node] {
				turned[node] = true
				time.AfterFunc(3*time.Second, func() { c.turn(node, corev1.ConditionFalse, 0) })
			}
			c.kubelet(pod)
		}
		c.mu.Unlock()
		c.editSet(image("agent:2"))
		c.run(30 * time.Minute)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(turned) != 1 {
			t.Errorf("%d nodes have lost their network, with maxUnavailable 1", len(turned))
		}
	})
}

// minReadySeconds counts from when the engine saw the pod become ready, whatever the
// kubelet's clock shows (I6).
func TestMinReadyByAnyClock(t *testing.T) {
	const needs = 2 * time.Minute
	for _, ahead := range skews {
		t.Run(ahead.String(), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = int32(needs.Seconds()) })
				c.mu.Lock()
				c.after = func(pod *corev1.Pod) {
					if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodPending {
						c.kubelet(pod)
						return
					}
					time.AfterFunc(c.starts, func() {
						c.editPod(pod.Name, func(p *corev1.Pod) {
							ready(p, true)
							p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(c.now().Add(ahead))
						})
					})
				}
				c.mu.Unlock()
				c.start()
				c.run(c.starts + needs - 2*time.Second)
				if s := c.set().Status; s.NumberAvailable != 0 || s.NumberReady != 3 {
					t.Errorf("too early: %+v", s)
				}
				c.run(4 * time.Second)
				if s := c.set().Status; s.NumberAvailable != 3 {
					t.Errorf("too late: %+v", s)
				}
				// A pod that becomes ready again starts from zero.
				c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, false) })
				c.run(time.Second)
				c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, true) })
				c.run(needs - 2*time.Second)
				if s := c.set().Status; s.NumberAvailable != 2 {
					t.Errorf("ready again, too early: %+v", s)
				}
				c.run(4 * time.Second)
				if s := c.set().Status; s.NumberAvailable != 3 {
					t.Errorf("ready again, too late: %+v", s)
				}
			})
		})
	}
}

// An engine that finds a pod ready counts from when it began to watch at the latest,
// and from the kubelet's time plus a margin at the earliest.
func TestMinReadyOfPodsThatWereThere(t *testing.T) {
	for _, test := range []struct{ age, ahead, needs, want time.Duration }{
		{time.Minute, 0, 30 * time.Second, 30 * time.Second},                     // as if it had become ready just now
		{time.Minute, -10 * time.Minute, 30 * time.Second, 30 * time.Second},     // the kubelet says eleven minutes
		{time.Hour, 0, 30 * time.Second, 0},                                      // long enough by any clock
		{time.Hour, 10 * time.Minute, 30 * time.Second, 0},                       // the same
		{time.Hour, 0, 50 * time.Minute, 5 * time.Minute},                        // an hour minus the margin
		{20 * time.Minute, 10 * time.Minute, 15 * time.Minute, 15 * time.Minute}, // within the margin
		{20 * time.Minute, -10 * time.Minute, 15 * time.Minute, 0},               // the kubelet says half an hour
		{2 * time.Minute, time.Hour, 5 * time.Minute, 5 * time.Minute},           // in the future: certainly wrong
		{24 * time.Hour, -12 * time.Hour, 36 * time.Hour, 15 * time.Minute},      // a day and a half, by that clock
		{15*time.Minute + 30*time.Second, 0, time.Minute, 30 * time.Second},      // just beyond it
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(2)
				c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = int32(test.needs.Seconds()) })
				c.start()
				c.run(10 * time.Second)
				c.stop()
				for _, p := range c.pods() {
					c.editPod(p.Name, func(p *corev1.Pod) {
						p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(c.now().Add(test.ahead - test.age))
					})
				}
				c.start()
				available := func(want int32) {
					t.Helper()
					if got := c.set().Status.NumberAvailable; got != want {
						t.Errorf("%d available, want %d", got, want)
					}
				}
				if test.want > 0 {
					c.run(test.want - time.Second)
					available(0)
				}
				c.run(3 * time.Second)
				available(2)
			})
		})
	}
}

// The budget holds with minReadySeconds and a kubelet whose clock is behind: a pod does
// not count just because its kubelet says that it has been ready for long.
func TestUpdateWaitsForMinReadyByItsOwnClock(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.MinReadySeconds = 60
			one := intstr.FromInt32(1)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &one
		})
		c.ahead = -10 * time.Minute // of the kubelets and the server
		c.start()
		c.run(2 * time.Minute)
		c.editSet(image("agent:2"))
		c.run(50 * time.Second)
		if n := c.updated("agent:2"); n != 1 {
			t.Errorf("%d nodes are updated after less than minReadySeconds", n)
		}
		c.run(5 * time.Minute)
		c.covered(3, "agent:2")
	})
}

// The successor of a pod that ended on a node in trouble counts from when that pod was
// to be deleted, in whatever order the two are shown: a finalizer keeps the old pod for
// longer, and a new list shows existing pods before missing ones.
func TestSuccessorCountsFromTheDeletion(t *testing.T) {
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(2000, 0)} }
	for name, end := range map[string]func(w *watched, successor *podEntry){
		"gone, then there": func(w *watched, successor *podEntry) {
			w.removePod(testPod(t, "old", "a", "x", 7))
			w.upsertPod(successor)
		},
		"there, then gone": func(w *watched, successor *podEntry) {
			w.upsertPod(successor)
			w.removePod(testPod(t, "old", "a", "x", 7))
		},
		"in one list": func(w *watched, successor *podEntry) {
			w.replacePods([]*podEntry{successor}, 9)
		},
	} {
		w := newWatched()
		w.addSet(t, "x", nil)
		w.upsertNode(node("a"))
		w.begin()
		w.upsertPod(testPod(t, "old", "a", "x", 5))
		w.upsertPod(testPod(t, "old", "a", "x", 6, deleted))
		w.upsertNode(node("a", func(n *plan.Node) { n.Ready = false }))
		end(w, testPod(t, "new", "a", "x", 8))
		if n, p := w.nodes["a"], w.pods["uid-new"]; n.DownBefore(p.SeenCreated, p.Created) {
			t.Errorf("%s: the node was down before its successor came: %d, %d", name, n.Down, p.SeenCreated)
		}
		if left := w.owned["uid-x"].left; len(left) > 0 {
			t.Errorf("%s: the node still waits for a successor: %v", name, left)
		}
	}
}

// A pod that has lost readiness counts as not ready since that was seen, by our own
// clock.
func TestLostReadinessIsTimedByUs(t *testing.T) {
	was := func(ready bool) *podEntry {
		return &podEntry{Pod: plan.Pod{Ready: ready, WasReady: !ready, ReadySince: time.Unix(1, 0)}}
	}
	now := time.Unix(5000, 0)
	ready, lost, still, first := was(true), was(false), was(false), was(false)
	lost.follow(ready, 1, now)
	still.follow(lost, 2, now.Add(time.Hour))
	first.follow(nil, 0, now)
	for name, e := range map[string]*podEntry{"just lost": lost, "still lost": still, "seen for the first time": first} {
		if !e.ReadySince.Equal(now) {
			t.Errorf("%s: since %v", name, e.ReadySince)
		}
	}
}
