package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/view"
)

// follows annotates the DaemonSet with the policy "waves".
func follows(ds *appsv1.DaemonSet) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[view.PolicyAnnotation] = "waves"
}

func policy(spec string) string {
	return fmt.Sprintf(`{"apiVersion": %q, "kind": "RolloutPolicy", "metadata": {"name": "waves"}, "spec": %s}`, view.PolicyVersion, spec)
}

// released runs a test on a cluster whose DaemonSet follows a policy and has all its pods. Pods of the image bad do not become
// ready.
func released(t *testing.T, nodes int, spec string, bad string, test func(c *cluster)) {
	t.Helper()
	inCluster(t, func(c *cluster) {
		c.after = func(pod *corev1.Pod) {
			if bad == "" || pod.Spec.Containers[0].Image != bad || pod.DeletionTimestamp != nil {
				c.kubelet(pod)
			}
		}
		c.installKinds()
		c.addKind(view.PolicyResource, policy(spec))
		c.addNodes(nodes)
		c.addSet(follows)
		c.start()
		c.run(time.Minute)
		c.covered(nodes, "agent:1")
		if got := c.stands(); !strings.HasPrefix(got, "Idle") {
			t.Fatalf("at first the release is %q", got)
		}
		test(c)
	})
}

// with counts the pods of an image that are not being deleted.
func (c *cluster) with(image string) (n int) {
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image == image && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func (c *cluster) wantRelease(when, stands string, images map[string]int) {
	c.t.Helper()
	if got := c.stands(); got != stands {
		c.t.Errorf("%s the release is %q, want %q: %s", when, got, stands, c.rollout().Status.Message)
	}
	for image, n := range images {
		if got := c.with(image); got != n {
			c.t.Errorf("%s %d pods are of %s, want %d", when, got, image, n)
		}
	}
}

// A good release goes through its waves: one node, a tenth, all, with ten minutes after each.
func TestReleaseGoesInWaves(t *testing.T) {
	released(t, 30, "{}", "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(9 * time.Minute)
		c.wantRelease("after nine minutes", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 29})
		c.run(3 * time.Minute)
		c.wantRelease("after twelve minutes", "Soaking NotSoaked tenth 3", map[string]int{"agent:2": 3, "agent:1": 27})
		c.addNode("node-31")
		c.run(time.Minute)
		c.wantRelease("with a new node", "Soaking NotSoaked tenth 4", map[string]int{"agent:2": 4, "agent:1": 27})
		c.run(20 * time.Minute)
		c.covered(31, "agent:2")
		c.run(10 * time.Minute)
		c.wantRelease("in the end", "Idle   0", nil)
		if s := c.rollout().Status; s.Stable != s.Target || s.Release != 1 {
			t.Errorf("in the end the status is %+v", s)
		}
		before := c.countWrites()
		c.run(time.Hour)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes while nothing happens (R14)", n)
		}
	})
}

// A bad release stops on its first node. New nodes get what was good before, an abort takes it back, and a fix goes through.
func TestBadReleaseStopsOnItsFirstNode(t *testing.T) {
	released(t, 20, "{}", "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(9 * time.Minute)
		c.wantRelease("before it is too late", "Rolling NotSettled first 1", map[string]int{"agent:bad": 1, "agent:1": 19})
		c.run(5 * time.Minute)
		c.wantRelease("then", "Halted TooManyFailed first 1", map[string]int{"agent:bad": 1, "agent:1": 19})
		if f := c.rollout().Status.Failures; len(f) != 1 || f[0].Reason != "NotStarted" {
			t.Errorf("the failures are %+v", f)
		}
		c.addNode("node-21")
		c.run(3 * time.Hour)
		c.wantRelease("with a new node", "Halted TooManyFailed first 1", map[string]int{"agent:bad": 1, "agent:1": 20})
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantRelease("after the abort", "Aborted AbortRequested first 0", map[string]int{"agent:bad": 0, "agent:1": 21})
		c.run(time.Hour)
		c.wantRelease("an hour later", "Aborted AbortRequested first 0", map[string]int{"agent:bad": 0, "agent:1": 21})
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.covered(21, "agent:2")
		if got := c.events("ReleaseHalted"); len(got) != 1 || !strings.HasPrefix(got[0], "Warning ReleaseHalted: Release 1 of ") {
			t.Errorf("events of the stop: %q", got)
		}
	})
}

// A failure says what the pod's status says, as long as the pod has not become ready since.
func TestFailureSaysWhy(t *testing.T) {
	released(t, 20, "{}", "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(time.Minute)
		crashes := func(state corev1.ContainerState, restarts int32) {
			for _, pod := range c.pods() {
				if pod.Spec.Containers[0].Image == "agent:bad" {
					c.editPod(pod.Name, func(p *corev1.Pod) {
						p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", RestartCount: restarts, State: state, LastTerminationState: corev1.ContainerState{
							Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1}}}}
					})
				}
			}
		}
		for _, reason := range []string{"ImagePullBackOff", "CrashLoopBackOff"} {
			crashes(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 10s"}}, 1)
			c.run(time.Minute)
		}
		c.run(15 * time.Minute)
		for restarts := range int32(3) {
			f := c.rollout().Status.Failures
			if len(f) != 1 || !strings.HasSuffix(f[0].Message, ": CrashLoopBackOff (container agent, exit code 1)") || !strings.HasPrefix(f[0].Message, "agent-") {
				t.Errorf("after %d restarts the failures are %+v", restarts, f)
			}
			crashes(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, restarts+2)
			c.run(15 * time.Second)
		}
	})
}

// A clock that is wrong by minutes holds a release, and the object still shows its counts. Going back does not depend on the
// clock.
func TestReleaseByAWrongClock(t *testing.T) {
	m := NewMonitor()
	inCluster(t, func(c *cluster) {
		c.ahead = 3 * time.Minute
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(5)
		c.addSet(follows)
		c.start(func(cfg *Config) { cfg.Monitor = m })
		c.run(time.Minute)
		c.covered(5, "agent:1")
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("then", "Held ClockSkew  0", map[string]int{"agent:1": 5})
		if got := metrics(t, m)["daemonset_release_phase{daemonset=agent,namespace=default,phase=Held,reason=ClockSkew}"]; got != 1 {
			t.Errorf("the metric of the phase is %v", got)
		}
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantRelease("after an abort", "Aborted AbortRequested  0", map[string]int{"agent:1": 5})
	})
}

// The next leader knows how far the release was, and a restart alone moves nothing.
func TestNextLeaderGoesOnWithTheRelease(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "first", "nodes": 2, "approval": true, "soak": "1m"}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.editSet(image("agent:2"))
		for range 5 {
			c.run(7 * time.Second)
			c.stop()
			c.run(3 * time.Second)
			c.start()
		}
		c.run(5 * time.Minute)
		c.wantRelease("after five restarts", "Waiting NotApproved first 2", map[string]int{"agent:2": 2, "agent:1": 18})
		c.ask(`{"promote": {"release": 1, "wave": "first"}}`)
		c.run(30 * time.Minute)
		c.covered(20, "agent:2")
		c.wantRelease("in the end", "Idle   0", nil)
	})
}

// Deleting what a release needs moves no pod (R12).
func TestDeletingWhatGuidesAReleaseMovesNothing(t *testing.T) {
	for what, do := range map[string]struct {
		delete func(c *cluster)
		stands string
	}{
		"the policy": {func(c *cluster) { c.delete(view.PolicyResource, "waves", "") }, "Held PolicyGone first 1"},
		"the annotation": {func(c *cluster) {
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		}, "Held PolicyGone first 1"},
		"the DaemonSetRollout": {func(c *cluster) { c.delete(view.RolloutResource, "default/agent", "") }, "Held StableUnknown  1"},
	} {
		t.Run(what, func(t *testing.T) {
			released(t, 20, "{}", "", func(c *cluster) {
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				c.wantRelease("before", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 19})
				do.delete(c)
				c.addNode("node-21")
				c.run(3 * time.Hour)
				c.wantRelease("after that", do.stands, map[string]int{"agent:2": 1, "agent:1": 20})
			})
		})
	}
}

// The template gets its old content back: nodes that have the new one go back at once.
func TestRevertedReleaseGoesBack(t *testing.T) {
	released(t, 20, "{}", "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(5 * time.Minute)
		c.editSet(image("agent:1"))
		c.run(time.Minute)
		c.covered(20, "agent:1")
		c.wantRelease("in the end", "Idle   0", nil)
	})
}

// A DaemonSet that is annotated while its cluster has no policies, or not that one, gets its pods; an update of it is held.
func TestAnnotationWithoutPolicy(t *testing.T) {
	for name, kinds := range map[string]bool{"no such policy": true, "no such kind": false} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				if kinds {
					c.installKinds()
				}
				c.addNodes(5)
				c.addSet(follows)
				c.start()
				c.run(time.Minute)
				c.covered(5, "agent:1")
				c.editSet(image("agent:2"))
				c.run(time.Hour)
				if got := c.with("agent:1"); got != 5 {
					t.Errorf("%d pods are left of the old template", got)
				}
				c.addNode("node-06")
				c.run(time.Minute)
				if got := c.with("agent:1"); got != 6 {
					t.Errorf("with a new node %d pods are of the old template", got)
				}
				if said := c.events("ReleaseHeld"); len(said) != 1 || !strings.Contains(said[0], "RolloutPolic") {
					t.Errorf("events: %q", said)
				}
				c.installKinds()
				c.addKind(view.PolicyResource, policy(`{"waves": [{"name": "all", "nodes": "100%"}]}`))
				c.run(10 * time.Minute)
				c.covered(6, "agent:2")
			})
		})
	}
}

// Nothing is done under a state that is not kept (R15), nor under one that is about another template.
func TestNothingMovesBeforeItIsKept(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "one", "nodes": 1}, {"name": "some", "nodes": 5, "soak": "1h"}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.starts = time.Minute
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			three := intstr.FromInt32(3)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &three
		})
		c.run(90 * time.Second)
		c.wantRelease("at first", "Rolling UnderQuota some 4", map[string]int{"agent:2": 4, "agent:1": 16})
		c.deny("update daemonsetrollouts/status")
		c.editSet(image("agent:3"))
		c.run(20 * time.Minute)
		// Pods that were not ready yet are repaired, with the stable revision.
		c.wantRelease("while nothing can be kept", "Rolling UnderQuota some 4", map[string]int{"agent:3": 0, "agent:2": 1, "agent:1": 19})
		c.addNode("node-21")
		c.delete("pods", "default/"+c.podOn("node-20").Name, "")
		c.run(10 * time.Minute)
		c.wantRelease("with repairs", "Rolling UnderQuota some 4", map[string]int{"agent:3": 0, "agent:1": 21 - c.with("agent:2")})
		if got := c.with("agent:1") + c.with("agent:2"); got != 21 {
			t.Errorf("what can be repaired is not: %d pods", got)
		}
		c.deny()
		c.run(40 * time.Second)
		c.wantRelease("after that", "Rolling NotSettled one 1", map[string]int{"agent:3": 1})
		c.editSet(image("agent:4"))
		c.run(30 * time.Second)
		c.wantRelease("and with another edit", "Rolling NotSettled one 1", map[string]int{"agent:4": 1})
	})
}

// A wave stops in the middle of its nodes (R5), continues when a person resumes this stop, and stops again at the next failure.
func TestWaveStopsInTheMiddle(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "some", "nodes": 18, "soak": "1h"}, {"name": "all", "nodes": "100%"}], "failure": {"startWithin": "2m"}}`, "", func(c *cluster) {
		var made []string
		c.starts = 40 * time.Second
		breaks := map[int]bool{2: true, 8: true} // which pods of the new image break, by the order in which they come
		c.after = func(pod *corev1.Pod) {
			if pod.Spec.Containers[0].Image == "agent:2" && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodPending {
				made = append(made, pod.Name)
				if breaks[len(made)] {
					return
				}
			}
			c.kubelet(pod)
		}
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			three := intstr.FromInt32(3)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &three
		})
		c.run(10 * time.Minute)
		stopped := c.with("agent:2")
		if stopped < 2 || stopped > 9 {
			t.Fatalf("%d nodes have the new image when it stops", stopped)
		}
		c.wantRelease("after the first failure", fmt.Sprintf("Halted TooManyFailed some %d", stopped), nil)
		c.run(time.Hour)
		c.wantRelease("an hour later", fmt.Sprintf("Halted TooManyFailed some %d", stopped), map[string]int{"agent:2": stopped})
		c.ask(`{"resume": {"release": 1, "stop": 1}}`)
		c.run(20 * time.Minute)
		s := c.rollout().Status
		if s.Phase != "Halted" || s.Stops != 2 || c.with("agent:2") <= stopped || c.with("agent:2") >= 18 {
			t.Errorf("after the second failure %d nodes have it: %s, stop %d: %s", c.with("agent:2"), s.Phase, s.Stops, s.Message)
		}
	})
}

// Failed nodes that a person has forgiven are still down. If they are as many as may be down, the release says so.
func TestForgivenNodesHoldTheBudget(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%"}], "failure": {"startWithin": "2m"}}`, "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(5 * time.Minute)
		c.ask(`{"resume": {"release": 1, "stop": 1}}`)
		c.run(time.Hour)
		c.wantRelease("then", "Rolling UnderQuota all 1", map[string]int{"agent:bad": 1, "agent:1": 4})
		if got := c.rollout().Status.Message; !strings.Contains(got, "1 of the 1 nodes that may be down are") {
			t.Errorf("the status says %q", got)
		}
	})
}

// A pod of the stable revision that is not ready uses up the budget, so a release cannot begin, and it says so.
func TestUnreadyNodesHoldTheBudget(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "first", "nodes": 1}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		sick, kubelet := c.podOn("node-02"), c.after // not the first in the order
		c.after = func(p *corev1.Pod) {
			if p.Spec.NodeName != sick.Spec.NodeName || p.DeletionTimestamp != nil {
				kubelet(p)
			}
		}
		c.editPod(sick.Name, func(p *corev1.Pod) { ready(p, false) })
		c.run(time.Second) // the watches of pods and of DaemonSets are not in step
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		c.wantRelease("beside a pod that is not ready", "Rolling UnderQuota first 0", map[string]int{"agent:1": 5})
		if got := c.rollout().Status.Message; !strings.Contains(got, "1 of the 1 nodes that may be down are") {
			t.Errorf("the status says %q", got)
		}
	})
}

// The assigned revision also decides a node's placement. With a policy that guards nothing, a node selector with a typo removes
// only one pod.
func TestNodeSelectorGoesThroughWaves(t *testing.T) {
	released(t, 20, `{"guard": {"removals": "100%"}}`, "", func(c *cluster) {
		c.editSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.NodeSelector = map[string]string{"kubernetes.io/hostnam": "x"}
		})
		c.run(3 * time.Hour)
		c.wantRelease("then", "Waiting NoneWell first 1", map[string]int{"agent:1": 19})
		if got := c.rollout().Status; !meta.IsStatusConditionTrue(got.Conditions, view.ConditionStalled) {
			t.Errorf("nobody is told: %+v", got.Conditions)
		}
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantRelease("after the abort", "Aborted AbortRequested first 0", map[string]int{"agent:1": 20})
	})
}

// A DaemonSet that a policy drives is updated although its strategy waits for people to delete pods.
func TestReleaseOfOnDelete(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%", "soak": "1m"}]}`, "", func(c *cluster) {
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})
		c.run(10 * time.Minute)
		c.covered(5, "agent:2")
	})
}

// A release with surge never takes a serving pod from its node.
func TestReleaseWithSurge(t *testing.T) {
	released(t, 10, `{"waves": [{"name": "first", "nodes": 1, "soak": "1m"}, {"name": "all", "nodes": "100%", "soak": "1m"}], "failure": {"startWithin": "2m"}}`, "agent:bad", func(c *cluster) {
		surges := func(ds *appsv1.DaemonSet) {
			none, two := intstr.FromInt32(0), intstr.FromInt32(2)
			ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &two}
		}
		c.editSet(surges)
		c.watchBudget(10, 0)
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		c.covered(10, "agent:2")
		c.editSet(image("agent:bad"))
		c.run(time.Hour)
		c.wantRelease("a bad one", "Halted TooManyFailed first 1", map[string]int{"agent:bad": 1, "agent:2": 10})
		c.ask(`{"abort": 2}`)
		c.run(10 * time.Minute)
		c.wantRelease("taken back", "Aborted AbortRequested first 0", map[string]int{"agent:bad": 0, "agent:2": 10})
	})
}

// The stable revision is kept whatever the limit of the history (R7), through bad fixes in a row; and if it is missing no node
// gets the target instead.
func TestStableRevisionIsKept(t *testing.T) {
	released(t, 5, "{}", "", func(c *cluster) {
		c.starts = -1 // from now on no pod starts
		none := int32(0)
		for i := range 4 {
			c.editSet(func(ds *appsv1.DaemonSet) {
				image(fmt.Sprintf("agent:bad-%d", i))(ds)
				ds.Spec.RevisionHistoryLimit = &none
			})
			c.run(30 * time.Minute)
			if got := c.with("agent:1"); got != 4 {
				t.Errorf("after %d bad fixes %d pods are left of the good image", i+1, got)
			}
		}
		c.starts = time.Second
		c.ask(`{"abort": 4}`)
		c.run(10 * time.Minute)
		c.wantRelease("in the end", "Aborted AbortRequested first 0", map[string]int{"agent:1": 5})
	})
}

// Even if no node has a pod of it.
func TestStableRevisionWithoutPodsIsKept(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%", "soak": "10h"}]}`, "", func(c *cluster) {
		c.editSet(func(ds *appsv1.DaemonSet) {
			none := int32(0)
			image("agent:2")(ds)
			ds.Spec.RevisionHistoryLimit = &none
		})
		c.run(time.Hour)
		c.covered(5, "agent:2")
		c.ask(`{"abort": 1}`)
		c.run(10 * time.Minute)
		c.wantRelease("in the end", "Aborted AbortRequested all 0", map[string]int{"agent:1": 5})
		if got := len(c.revisions()); got != 2 {
			t.Errorf("there are %d revisions", got)
		}
	})
}

// A new leader reads the kept state of a release, whatever its watch has shown.
func TestNewLeaderReadsWhatIsKept(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy(`{"waves": [{"name": "first", "nodes": 1, "approval": true}, {"name": "all", "nodes": "100%"}]}`))
		c.addNodes(5)
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(time.Second)
		c.start(elect("two"))
		c.addSet(follows)
		c.run(time.Minute)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.ask(`{"promote": {"release": 1, "all": true}}`)
		c.run(10 * time.Millisecond) // it is seen
		c.stall(view.RolloutResource, true)
		c.run(time.Minute)
		c.covered(5, "agent:2")
		c.editSet(image("agent:3"))
		c.run(time.Minute)
		stopOne()
		<-endedOne
		c.run(time.Minute)
		c.addNode("node-06")
		c.run(time.Minute)
		c.wantRelease("under the next leader", "Waiting NotApproved first 1", map[string]int{"agent:3": 1, "agent:2": 5})
	})
}

// Several policies that select a DaemonSet hold its releases, and are named in the same words each time; a policy that it names
// takes precedence over those that select it.
func TestSeveralPolicies(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		for _, name := range []string{"c", "a", "b"} {
			c.addKind(view.PolicyResource, fmt.Sprintf(`{"apiVersion": %q, "kind": "RolloutPolicy", "metadata": {"name": %q}, "spec": {"daemonSets": {"namespaces": ["default"]}}}`, view.PolicyVersion, name))
		}
		c.addKind(view.PolicyResource, policy(`{"waves": [{"name": "all", "nodes": "100%"}]}`))
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(time.Minute)
		c.covered(5, "agent:1")
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("with three", "Held SeveralPolicies  0", map[string]int{"agent:2": 0, "agent:1": 5})
		if got := c.rollout().Status.Message; !strings.Contains(got, "a and b both choose") {
			t.Errorf("the status says %q", got)
		}
		before := c.wrote("update daemonsets/status") + c.wrote("update daemonsetrollouts/status")
		for range 20 {
			c.editSet(func(ds *appsv1.DaemonSet) { ds.Annotations = map[string]string{"looked": fmt.Sprint(time.Now())} })
			c.run(time.Minute)
		}
		if after := c.wrote("update daemonsets/status") + c.wrote("update daemonsetrollouts/status"); after != before {
			t.Errorf("%d writes of statuses in which nothing has changed", after-before)
		}
		c.editSet(follows)
		c.run(10 * time.Minute)
		c.covered(5, "agent:2")
	})
}

// Requests of people while the engine writes are not lost, and a release writes little (R14).
func TestRequestsAmongWrites(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "first", "nodes": 1, "soak": "10m"}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		asked := false
		c.intercept(func(r request) (error, bool) {
			if r.is("update", view.RolloutResource) && !asked && c.wrote("update "+view.RolloutResource) > 2 {
				asked = true
				c.ask(`{"paused": true}`) // comes before the write, whose version is then outdated
			}
			return nil, false
		})
		before := c.wrote("update " + view.RolloutResource)
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("with a pause", "Paused PauseRequested first 1", map[string]int{"agent:2": 1})
		c.ask(`{}`)
		c.run(time.Hour)
		c.covered(20, "agent:2")
		// One for each change of phase or wave, and one in ten seconds while it soaks (ten minutes) or pods are replaced (a
		// minute).
		if n := c.wrote("update "+view.RolloutResource) - before; n > 90 {
			t.Errorf("%d writes of what is kept", n)
		}
	})
}
