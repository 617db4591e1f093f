package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// guarded is a cluster of 20 nodes in pool=main, whose DaemonSet selects that pool and follows a policy. The policy allows two
// pods to be removed in an hour.
func guarded(t *testing.T, test func(c *cluster), change ...func(*Config)) {
	t.Helper()
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(20)
		for i := range 20 {
			c.label(i+1, "main")
		}
		c.addSet(follows, func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "main"} })
		c.start(change...)
		c.run(time.Minute)
		c.covered(20, "agent:1")
		test(c)
	})
}

func (c *cluster) label(node int, pool string) {
	c.editNode(fmt.Sprintf("node-%02d", node), func(n *corev1.Node) { n.Labels["pool"] = pool })
}

func (c *cluster) wantGuarded(when string, pods, held int) {
	c.t.Helper()
	got := 0
	s := c.rollout().Status
	if s.Guard != nil {
		got = s.Guard.Held
	}
	if n := c.with("agent:1"); n != pods || got != held {
		c.t.Errorf("%s there are %d pods and %d held, want %d and %d: %s", when, n, got, pods, held, s.Message)
	}
}

// Whatever part of the placement takes the pods away, the event says what does not fit.
func TestGuardSaysWhatDoesNotFit(t *testing.T) {
	fits := func(key string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpExists}}}}}}}
	}
	for want, edit := range map[string]func(*corev1.PodSpec){
		"of 20 nodes away (node-01 has no pool=mian)":                    func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"pool": "mian"} },
		"of 20 nodes away (node-01 does not match the node affinity)":    func(s *corev1.PodSpec) { s.Affinity = fits("gpu") },
		"of 19 nodes away (node-01 is not node-07, which nodeName says)": func(s *corev1.PodSpec) { s.NodeName = "node-07" },
	} {
		guarded(t, func(c *cluster) {
			c.editSet(func(ds *appsv1.DaemonSet) { edit(&ds.Spec.Template.Spec) })
			c.run(time.Minute)
			if got := c.events("RemovalsHeld"); len(got) != 1 || !strings.Contains(got[0], want) {
				t.Errorf("the events are %q, want %s", got, want)
			}
		})
	}
}

// An edit of labels that goes too far removes nothing, whether it comes at once or node by node, and nothing when it is reverted
// node by node. The engine reports what is held, and why.
func TestLabelsOfManyNodesTakeNothing(t *testing.T) {
	guarded(t, func(c *cluster) {
		for i := range 6 {
			c.label(i+1, "mian")
			c.run(4 * time.Second)
		}
		c.run(3 * time.Hour)
		c.wantGuarded("with six labels less", 20, 6)
		if got := c.events("RemovalsHeld"); len(got) != 1 || !strings.Contains(got[0], "node-01 has no pool=main") {
			t.Errorf("the events are %q", got)
		}
		for _, condition := range c.rollout().Status.Conditions {
			if holds := condition.Status == "True"; holds != (condition.Type == view.ConditionStalled) {
				t.Errorf("condition %+v", condition)
			}
		}
		before := c.countWrites()
		c.run(time.Hour)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes while nothing happens", n)
		}
		for i := range 6 {
			c.wantGuarded("on the way back", 20, 6-i)
			c.label(i+1, "main")
			c.run(time.Minute)
		}
		c.wantGuarded("after that", 20, 0)
		c.covered(20, "agent:1")
	})
}

// A few nodes may lose their pods, after a moment. More in the same hour may not, whoever leads, unless a person allows it.
func TestFewRemovalsGo(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.label(1, "other")
		c.run(8 * time.Second)
		c.wantGuarded("at once", 20, 0)
		c.label(2, "other")
		c.run(8 * time.Second)
		c.wantGuarded("a moment after the first", 20, 0)
		c.run(5 * time.Second)
		c.wantGuarded("a moment after the second", 18, 0)
		c.stop()
		c.start()
		c.run(time.Minute)
		c.label(3, "other")
		c.run(time.Minute)
		c.wantGuarded("with a third, under another leader", 18, 1)
		c.stop()
		c.start()
		c.run(3 * time.Hour)
		c.wantGuarded("hours later, under a third", 18, 1)
		c.ask(fmt.Sprintf(`{"allowRemovals": {"nodes": 2, "before": %q}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
		c.run(5 * time.Second)
		c.wantGuarded("by a person's word", 17, 0)
		for i := range 3 {
			c.label(4+i, "other")
		}
		c.run(time.Minute)
		c.wantGuarded("which was for two", 17, 3)
	})
}

// The end of the hour causes no write: the next write, by whichever engine leads, drops the entries that have expired.
func TestTakenPodsAreForgottenQuietly(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.label(1, "other")
		c.run(3 * time.Hour)
		before := c.wrote("update " + view.RolloutResource)
		ends := func() {
			c.editPod(c.podOn("node-05").Name, func(p *corev1.Pod) { ready(p, false) })
			c.run(time.Minute)
			c.editPod(c.podOn("node-05").Name, func(p *corev1.Pod) { ready(p, true) })
			c.run(time.Minute)
		}
		ends()
		c.stop()
		c.start()
		c.run(time.Minute)
		ends()
		if n := c.wrote("update "+view.RolloutResource) - before; n != 0 {
			t.Errorf("%d writes of what is kept, and nothing has happened", n)
		}
		c.label(2, "other")
		c.run(time.Minute)
		c.wantGuarded("with another", 18, 0)
		if got := c.rollout().Status.Guard; got == nil || len(got.Taken) != 1 {
			t.Errorf("what is kept is %+v, want the last one that was taken", got)
		}
		c.label(3, "other")
		c.label(4, "other")
		c.run(time.Minute)
		c.wantGuarded("with two too many", 18, 2)
	})
}

// A node selector with a typo removes nothing, in any of its waves; an abort leaves nodes that kept their pods as they are.
func TestTypoInReleaseTakesNothing(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector["pool"] = "mian" })
		c.run(3 * time.Hour)
		c.wantGuarded("with a typo", 20, 20)
		c.wantRelease("then", "Rolling UnderQuota first 0", nil)
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantRelease("after the abort", "Aborted AbortRequested first 0", nil)
		c.wantGuarded("after that", 20, 0)
	})
}

// A release that is for fewer nodes than its predecessor, by no more than may go, gets through all its waves, also when another
// engine takes over.
func TestNarrowerReleaseGoesOn(t *testing.T) {
	released(t, 20, `{"guard": {"removals": "10%"}}`, "", func(c *cluster) {
		for i := range 2 {
			c.editNode(fmt.Sprintf("node-%02d", i+1), func(n *corev1.Node) { n.Labels["old"] = "yes" })
		}
		c.run(time.Minute)
		c.editSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.Containers[0].Image = "agent:2"
			ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "old", Operator: corev1.NodeSelectorOpDoesNotExist}}}},
			}}}
		})
		c.run(15 * time.Minute)
		c.stop()
		c.start()
		c.run(3 * time.Hour)
		if got := c.events("RemovalsHeld"); len(got) != 0 {
			t.Errorf("the events are %q", got)
		}
		c.wantRelease("in the end", "Idle   0", map[string]int{"agent:2": 18})
	})
}

// A toleration that the template loses removes nothing, since the pods still have it: the taint manager leaves them alone. A taint
// that the pods do not tolerate is not held: they go as they would without a policy.
func TestTolerationThatIsGoneTakesNothing(t *testing.T) {
	dedicated := corev1.Taint{Key: "pool", Value: "gpu", Effect: corev1.TaintEffectNoExecute}
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(20)
		for i := range 20 {
			c.editNode(fmt.Sprintf("node-%02d", i+1), func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{dedicated} })
		}
		c.addSet(follows, func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpExists}}
		})
		c.start()
		c.run(time.Minute)
		c.covered(20, "agent:1")
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Tolerations = nil })
		c.run(3 * time.Hour)
		c.wantGuarded("without the toleration", 20, 20)
		if got := c.events("RemovalsHeld"); len(got) != 1 || !strings.Contains(got[0], "node-01 has the taint pool=gpu:NoExecute") {
			t.Errorf("the events are %q", got)
		}
		c.stop()
		c.start()
		c.run(time.Hour)
		c.wantGuarded("under the next leader", 20, 20)
		c.editSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpExists}}
		})
		c.run(time.Minute)
		c.wantGuarded("with it again", 20, 0)
		c.covered(20, "agent:1")
		for i := range 20 {
			c.editNode(fmt.Sprintf("node-%02d", i+1), func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{dedicated, {Key: "repair", Effect: corev1.TaintEffectNoExecute}}
			})
		}
		c.run(time.Minute)
		c.wantGuarded("with a taint that the pods do not tolerate", 0, 0)
		if got := c.events("RemovalsHeld"); len(got) != 1 {
			t.Errorf("the events are %q", got)
		}
	})
}

// A NoSchedule taint takes no pod away, but where pods surge the next release does. Those removals are held as others are.
func TestTaintedNodesKeepTheirPodsInAnUpdate(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(20)
		none, one := intstr.FromInt32(0), intstr.FromInt32(1)
		c.addSet(follows, func(ds *appsv1.DaemonSet) {
			ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &one}
		})
		c.start()
		c.run(time.Minute)
		c.covered(20, "agent:1")
		for i := range 12 {
			c.editNode(fmt.Sprintf("node-%02d", i+1), func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: "repair", Effect: corev1.TaintEffectNoSchedule}}
			})
		}
		c.run(time.Hour)
		c.wantGuarded("with the taint", 20, 0)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = "agent:2" })
		c.run(3 * time.Hour)
		c.wantGuarded("after a release", 12, 12)
		if got := c.events("RemovalsHeld"); len(got) != 1 || !strings.Contains(got[0], "node-01 has the taint repair:NoSchedule") {
			t.Errorf("the events are %q", got)
		}
	})
}

// Deleting the policy that guards moves nothing that is held (R12); neither does a restart after that.
func TestDeletingTheGuardMovesNothing(t *testing.T) {
	for what, do := range map[string]func(c *cluster){
		"the policy": func(c *cluster) { c.delete(view.PolicyResource, "waves", "") },
		"the annotation": func(c *cluster) {
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		},
		"the DaemonSetRollout": func(c *cluster) { c.delete(view.RolloutResource, "default/agent", "") },
	} {
		t.Run(what, func(t *testing.T) {
			guarded(t, func(c *cluster) {
				for i := range 6 {
					c.label(i+1, "mian")
				}
				c.run(time.Minute)
				c.wantGuarded("before", 20, 6)
				do(c)
				c.run(time.Hour)
				c.wantGuarded("after that", 20, 6)
				c.stop()
				c.start()
				c.run(time.Hour)
				c.wantGuarded("under the next leader", 20, 6)
				if what == "the DaemonSetRollout" {
					return
				}
				c.ask(fmt.Sprintf(`{"allowRemovals": {"nodes": 6, "before": %q}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
				c.run(time.Minute)
				c.wantGuarded("once it is allowed", 14, 0)
			})
		})
	}
}

// No pod goes before that removal is recorded, because otherwise the next leader would let as many go again.
func TestRemovalsAreKeptBeforeTheyGo(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.deny("update daemonsetrollouts/status")
		c.label(1, "other")
		c.run(time.Hour)
		c.wantGuarded("while nothing can be kept", 20, 0)
		c.deny()
		c.run(time.Minute)
		c.wantGuarded("after that", 19, 0)
	})
}

// The kinds are not installed, and a DaemonSet names a policy nevertheless: what the guard holds is known, so taking the
// annotation away moves nothing.
func TestRemovalsAreHeldWithoutTheKinds(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(20)
		for i := range 20 {
			c.label(i+1, "main")
		}
		c.addSet(follows, func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "main"} })
		c.start()
		c.run(time.Minute)
		c.covered(20, "agent:1")
		for i := range 6 {
			c.label(i+1, "mian")
		}
		c.run(time.Minute)
		c.wantConditions("with six labels less", "False RemovalsHeld", "True EnoughAvailable")
		if got := c.events("RemovalsHeld"); len(got) != 1 {
			t.Errorf("the events are %q", got)
		}
		c.editSet(unfollow)
		c.run(time.Hour)
		if n := c.with("agent:1"); n != 20 {
			t.Errorf("without the annotation there are %d pods", n)
		}
	})
}

// A node that was allowed to lose its pod, and got its label back before it did, is held like any other.
func TestNodeIsAllowedOnce(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.deny("delete pods")
		c.label(1, "other")
		c.run(time.Minute)
		c.wantGuarded("while it cannot be deleted", 20, 0)
		c.label(1, "main")
		c.run(time.Minute)
		c.deny()
		c.run(10 * time.Minute)
		for i := range 2 {
			c.label(i+1, "other")
		}
		c.run(10 * time.Minute)
		c.wantGuarded("with two labels less", 20, 2)
	})
}

// A policy that does not exist lets nothing go.
func TestRemovalsWithoutAPolicy(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.delete(view.PolicyResource, "waves", "")
		c.label(1, "other")
		c.run(time.Hour)
		c.wantGuarded("without the policy", 20, 1)
	})
}

// A pod that may go and does not, because others refuse it, is not added to what may go in a later hour: after some minutes it is
// held again.
func TestWhatWasLetGoAndStayedIsPendingAgain(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.intercept(func(r request) (error, bool) {
			if r.is("delete", "pods") {
				return apierrors.NewForbidden(corev1.Resource("pods"), r.name, errors.New("a policy protects it")), false
			}
			return nil, false
		})
		c.label(1, "other")
		c.label(2, "other")
		c.run(rollout.LetsFor - time.Minute)
		c.wantGuarded("while it may go", 20, 0)
		c.run(3 * time.Minute)
		c.wantGuarded("when it might have gone", 20, 2)
		c.intercept(nil)
		c.run(2 * time.Hour)
		c.wantGuarded("when nobody refuses it", 20, 2)
	})
}
