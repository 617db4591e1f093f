package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestCoversFiftyNodes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(50)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.covered(50, "agent:1")
		if n := c.wrote("create pods"); n != 50 {
			t.Errorf("%d creates for 50 nodes", n)
		}
		for _, p := range c.pods() {
			if p.Spec.NodeName == "" {
				t.Errorf("pod %s is left to the scheduler", p.Name)
			}
		}
		if got := c.events("SuccessfulCreate"); len(got) != 50 || !strings.HasPrefix(got[0], "Normal SuccessfulCreate: Created pod: agent-") {
			t.Errorf("%d events, the first %q", len(got), got)
		}
	})
}

// A quiet cluster sees no writes (I10), not even after heartbeats, changes that do not
// matter here, new lists, or a restart of the engine.
func TestQuietClusterSeesNoWrites(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := c.countWrites()
		for i := range 100 {
			c.editNode("node-01", func(n *corev1.Node) {
				n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
				n.Labels["irrelevant"] = fmt.Sprint(i)
			})
			c.run(10 * time.Second)
		}
		c.cutWatches(false)
		c.run(time.Minute)
		c.cutWatches(true)
		c.run(time.Minute)
		c.stop()
		c.start()
		c.run(time.Hour)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes in quiet: %v", n, c.writes)
		}
	})
}

func TestRolloutKeepsItsBudget(t *testing.T) {
	for _, max := range []int{1, 5} {
		t.Run(fmt.Sprint("maxUnavailable ", max), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(20)
				c.addSet(func(ds *appsv1.DaemonSet) {
					ds.Spec.MinReadySeconds = 3
					ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = new(intstr.FromInt(max))
				})
				c.start()
				c.run(20 * time.Second)
				c.covered(20, "agent:1")
				worst := c.watchBudget(20, max)
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				c.covered(20, "agent:2")
				if *worst != max {
					t.Errorf("at most %d nodes were down at once, the budget of %d is not used", *worst, max)
				}
				if creates, deletes := c.wrote("create pods"), c.wrote("delete pods"); creates != 40 || deletes != 20 {
					t.Errorf("%d creates and %d deletes to replace 20 pods", creates, deletes)
				}
			})
		})
	}
}

// `rollout status` prints one line for each pod only if the status shows each.
func TestSmallRolloutShowsEveryStep(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.mu.Lock()
		c.status = nil
		c.mu.Unlock()
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		var steps []int32
		for _, s := range c.status {
			if s.ObservedGeneration != 2 {
				t.Errorf("a status of generation %d after the edit", s.ObservedGeneration)
			}
			steps = append(steps, s.UpdatedNumberScheduled)
		}
		if got := slices.Compact(steps); !slices.Equal(got, []int32{0, 1, 2, 3}) {
			t.Errorf("updated nodes as the status showed them: %v", got)
		}
		if n := len(c.events("SuccessfulDelete")); n != 3 {
			t.Errorf("%d SuccessfulDelete events", n)
		}
	})
}

func TestOnDeleteWaits(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})
		c.start()
		c.run(10 * time.Second)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		if n := c.wrote("delete pods"); n != 0 {
			t.Errorf("OnDelete deleted %d pods", n)
		}
		c.finish(c.podOn("node-02"))
		c.run(10 * time.Second)
		if got := c.podOn("node-02").Spec.Containers[0].Image; got != "agent:2" {
			t.Errorf("the pod deleted by hand came back with image %s", got)
		}
		if s := c.set().Status; s.UpdatedNumberScheduled != 1 || s.NumberAvailable != 3 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFollowsLabelsTaintsAndNodes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"ssd": "true"} })
		c.start()
		c.run(5 * time.Second)
		count := func(want int, when string) {
			t.Helper()
			c.run(4 * time.Second)
			if n := len(c.pods()); n != want || int(c.set().Status.DesiredNumberScheduled) != want {
				t.Errorf("%s: %d pods, %d desired, want %d", when, n, c.set().Status.DesiredNumberScheduled, want)
			}
		}
		count(0, "no node matches")
		c.editNode("node-02", func(n *corev1.Node) { n.Labels["ssd"] = "true" })
		count(1, "a label was added")
		c.editNode("node-03", func(n *corev1.Node) { n.Labels["ssd"], n.Spec.Unschedulable = "true", true })
		count(2, "a cordoned node matches")
		c.editNode("node-02", func(n *corev1.Node) { delete(n.Labels, "ssd") })
		count(1, "a label was removed")
		c.editNode("node-03", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
		})
		c.run(4 * time.Second)
		if s := c.set().Status; len(c.pods()) != 1 || s.NumberMisscheduled != 1 || s.DesiredNumberScheduled != 0 {
			t.Errorf("NoSchedule: %d pods, status %+v", len(c.pods()), s)
		}
		c.editNode("node-03", func(n *corev1.Node) { n.Spec.Taints[0].Effect = corev1.TaintEffectNoExecute })
		count(0, "NoExecute")
	})
}

func TestFailedPodsAreReplacedWithBackoff(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(5 * time.Second)
		inner, failures := c.after, []time.Time{}
		c.mu.Lock()
		c.after = func(pod *corev1.Pod) {
			if pod.Spec.NodeName != "node-01" || pod.Status.Phase != corev1.PodPending {
				inner(pod)
				return
			}
			time.AfterFunc(100*time.Millisecond, func() {
				c.editPod(pod.Name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
				c.mu.Lock()
				defer c.mu.Unlock()
				failures = append(failures, time.Now())
			})
		}
		c.mu.Unlock()
		name := c.podOn("node-01").Name
		c.editPod(name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		c.run(time.Minute)
		if n := len(failures); n < 5 || n > 8 {
			t.Errorf("%d pods failed in a minute of doubling back-off", n)
		}
		got := c.events("FailedDaemonPod")
		want := fmt.Sprintf("Warning FailedDaemonPod: Found failed daemon pod default/%s on node node-01, will try to kill it", name)
		if !slices.Contains(got, want) {
			t.Errorf("events %q lack %q", got, want)
		}
		if !isReady(c.podOn("node-02")) {
			t.Error("the other node suffers")
		}
	})
}

func TestDeletedSetIsLeftToTheGarbageCollector(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.editSet(func(ds *appsv1.DaemonSet) {
			ds.DeletionTimestamp, ds.Finalizers = new(metav1.Now()), []string{"orphan"}
		})
		c.run(time.Second)
		before := c.countWrites()
		c.finish(c.podOn("node-02"))
		c.addNode("node-99")
		c.run(time.Minute)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes for a DaemonSet that is being deleted: %v", n, c.writes)
		}
	})
}

// With `kubectl delete --cascade=orphan` the garbage collector removes our references;
// the same manifest applied again adopts pods and revision.
func TestAdoptsAfterOrphaning(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := c.pods()
		c.mu.Lock()
		c.store("daemonsets", "DELETED", c.objects["daemonsets"]["default/agent"].DeepCopyObject())
		for _, p := range before {
			p = p.DeepCopy()
			p.OwnerReferences = nil
			c.store("pods", "MODIFIED", p)
		}
		for _, o := range c.objects["controllerrevisions"] {
			r := o.(*appsv1.ControllerRevision).DeepCopy()
			r.OwnerReferences = nil
			c.store("controllerrevisions", "MODIFIED", r)
		}
		c.mu.Unlock()
		c.run(10 * time.Second)
		creates := c.wrote("create pods")
		c.addSet()
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		if n := c.wrote("create pods") - creates; n != 0 || c.wrote("delete pods") != 0 {
			t.Errorf("%d creates and %d deletes to adopt", n, c.wrote("delete pods"))
		}
		for i, p := range c.pods() {
			if p.UID != before[i].UID || !metav1.IsControlledBy(p, c.set()) {
				t.Errorf("pod %s: UID %s, was %s; owners %v", p.Name, p.UID, before[i].UID, p.OwnerReferences)
			}
		}
		if n := len(c.objects["controllerrevisions"]); n != 1 {
			t.Errorf("%d revisions after adoption", n)
		}
	})
}

func TestReleasesPodsThatDoNotMatch(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		old := c.podOn("node-01")
		c.editPod(old.Name, func(p *corev1.Pod) { p.Labels["app"] = "debug" })
		c.run(10 * time.Second)
		var on int
		for _, p := range c.pods() {
			if p.UID == old.UID && len(p.OwnerReferences) != 0 {
				t.Errorf("%s is still owned", p.Name)
			}
			if p.Spec.NodeName == "node-01" {
				on++
			}
		}
		if on != 2 {
			t.Errorf("node-01 has %d pods, want the released one and its successor", on)
		}
	})
}
