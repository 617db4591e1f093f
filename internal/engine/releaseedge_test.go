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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// whileRolling fails the test if the delete of a stable pod is sent under a kept phase in which nothing may be granted.
func (c *cluster) whileRolling(r request, stable string) {
	phase := c.rollout().Status.Phase
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.objects["pods"][r.key()].(*corev1.Pod); ok && phase != "Rolling" && p.Spec.Containers[0].Image == stable {
		c.t.Errorf("%s goes while the release is %s", r.name, phase)
	}
}

func unavailable(n int32) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		amount := intstr.FromInt32(n)
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &amount
	}
}

// From the decision on that keeps a stop nothing is granted, whatever was decided before (R4, R5).
func TestNothingIsGrantedOnceAStopIsKept(t *testing.T) {
	for name, stop := range map[string]func(c *cluster){
		"paused":  func(c *cluster) { c.ask(`{"paused": true}`) },
		"aborted": func(c *cluster) { c.ask(`{"abort": 1}`) },
		"without its policy": func(c *cluster) {
			c.delete(view.PolicyResource, "waves", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			released(t, 200, `{"waves": [{"name": "all", "nodes": "100%", "soak": "1h"}]}`, "", func(c *cluster) {
				c.slowDown(func(r request) time.Duration {
					switch {
					case r.is("update", "daemonsets"):
						return 3 * time.Second
					case r.is("delete", "pods"):
						c.whileRolling(r, "agent:1")
						return time.Second // so that many wait to be sent
					}
					return 0
				})
				c.editSet(func(ds *appsv1.DaemonSet) { image("agent:2")(ds); unavailable(150)(ds) })
				c.run(4 * time.Second)
				stop(c)
				c.run(time.Hour)
			})
		})
	}
}

// A DaemonSet without pods is deleted while its release is decided on.
func TestReleaseOfAGoneDaemonSet(t *testing.T) {
	ix, ds := newIndex(), &appsv1.DaemonSet{}
	ds.UID = "gone"
	set := &setEntry{ds: ds}
	if pods, exposed, others := ix.revisionsInUse(set, "x", time.Now()); len(pods)+exposed+others != 0 {
		t.Error("there are pods of a DaemonSet that is gone")
	}
	if nodes := ix.reachable(set, &set.spec, "x", func(string) (reached, failed bool) { return false, false }); nodes != nil {
		t.Error("a DaemonSet that is gone has nodes")
	}
}

// The numbers of releases continue without a policy, so that an old request does not act on a new release (R8).
func TestOldRequestsStayOld(t *testing.T) {
	released(t, 10, "{}", "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.ask(`{"promote": {"release": 1, "all": true}}`)
		c.run(10 * time.Minute)
		c.covered(10, "agent:2")
		c.delete(view.PolicyResource, "waves", "")
		c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		c.run(time.Minute)
		c.addKind(view.PolicyResource, policy("{}"))
		c.editSet(follows)
		c.run(time.Minute)
		c.editSet(image("agent:3"))
		c.run(5 * time.Minute)
		c.wantRelease("the next release", "Soaking NotSoaked first 1", map[string]int{"agent:3": 1, "agent:2": 9})
		if s := c.rollout().Status; s.Release != 2 {
			t.Errorf("it is release %d", s.Release)
		}
		if said := c.events("RequestIgnored"); len(said) != 0 {
			t.Errorf("nobody has asked for anything: %q", said)
		}
		late := "promote names release 1, which is over; this is release 2"
		c.ask(`{"promote": {"release": 1, "wave": "first"}}`)
		c.run(5 * time.Second)
		if said := c.events("RequestIgnored"); len(said) != 1 || !strings.Contains(said[0], late) || c.rollout().Status.Ignored != late {
			t.Errorf("events: %q; status: %q", said, c.rollout().Status.Ignored)
		}
		c.ask(`{"promote": {"release": 1, "wave": "first"}, "paused": true}`)
		c.stop()
		c.start()
		c.run(time.Minute)
		if said := c.events("RequestIgnored"); len(said) != 1 {
			t.Errorf("what was reported is reported again: %q", said)
		}
		c.ask(`{"promote": {"release": 3, "wave": "first"}}`)
		c.run(5 * time.Second)
		if said := c.events("RequestIgnored"); len(said) != 2 || !strings.Contains(said[1], "names release 3; this is release 2") {
			t.Errorf("events: %q", said)
		}
	})
}

// If nothing can be kept, a DaemonSet at rest has all its pods; an update of it is held, and pods that are lost meanwhile come
// back.
func TestReleaseThatCannotBeKept(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.deny("create daemonsetrollouts")
		c.addNodes(5)
		c.addSet(follows)
		c.start()
		c.run(time.Minute)
		c.covered(5, "agent:1")
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		c.addNode("node-06")
		c.run(10 * time.Minute)
		if got := c.with("agent:1"); got != 6 {
			t.Errorf("%d pods are of the stable revision, want all 6", got)
		}
		c.wantConditions("where nothing can be kept", "False StateNotKept", "True EnoughAvailable")
		if said := c.events("StateNotKept"); len(said) != 1 || !strings.Contains(said[0], "daemonsetrollouts") {
			t.Errorf("events: %q", said)
		}
	})
}

// Nodes that only keep their pod of the target have a place in the order, so that no other takes it (R1).
func TestTaintedNodesStayExposed(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "some", "nodes": 10, "soak": "10h"}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.editSet(func(ds *appsv1.DaemonSet) { image("agent:2")(ds); unavailable(5)(ds) })
		c.run(10 * time.Minute)
		c.wantRelease("at first", "Soaking NotSoaked some 10", map[string]int{"agent:2": 10})
		var exposed []string
		for _, p := range c.pods() {
			if p.Spec.Containers[0].Image == "agent:2" {
				exposed = append(exposed, p.Spec.NodeName)
			}
		}
		for _, node := range exposed[:4] {
			c.editNode(node, func(n *corev1.Node) {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "busy", Effect: corev1.TaintEffectNoSchedule})
			})
		}
		c.run(time.Minute)
		c.removeNode(exposed[9]) // one place is free
		c.run(time.Hour)
		if got := c.with("agent:2"); got > 10 {
			t.Errorf("%d nodes have the target, and the quota is 10", got)
		}
	})
}

// A node that joins in the middle of a release gets a place in the order: it has the stable revision first, and the target in its
// turn.
func TestNodeThatJoinsInARelease(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "first", "nodes": 1, "soak": "10m"}, {"name": "all", "nodes": "100%", "soak": "10h"}]}`, "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.addNode("node-06")
		c.run(time.Minute)
		c.wantRelease("when it has joined", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 5})
		c.run(2 * time.Hour)
		c.wantRelease("in the last wave", "Soaking NotSoaked all 6", map[string]int{"agent:2": 6})
	})
}

// Once a release has ended, a change of a node does not wake the engine again and again.
func TestNodeThatJoinsAfterARelease(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%", "soak": "1m"}]}`, "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		c.wantRelease("in the end", "Idle   0", nil)
		c.addNode("node-06")
		c.run(time.Hour)
		c.covered(6, "agent:2")
	})
}

// A DaemonSet driven by a policy goes back with its template, although its strategy waits for people, and whether or not it still
// follows a policy.
func TestRevertOfOnDelete(t *testing.T) {
	for _, edits := range [][]func(*appsv1.DaemonSet){
		{image("agent:1")},
		{func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) }, image("agent:1")},
	} {
		released(t, 5, "{}", "", func(c *cluster) {
			c.editSet(func(ds *appsv1.DaemonSet) {
				image("agent:2")(ds)
				ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
			})
			c.run(5 * time.Minute)
			c.wantRelease("at first", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1})
			for _, edit := range edits {
				c.editSet(edit)
				c.run(5 * time.Minute)
			}
			c.covered(5, "agent:1")
			c.wantRelease("in the end", "Idle   0", nil)
		})
	}
}

// A node that is down while a release goes through gets it when it is back, although the strategy waits for people.
func TestNodeThatMissesAReleaseOfOnDelete(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%", "soak": "1m"}]}`, "", func(c *cluster) {
		turns := func(to corev1.ConditionStatus) {
			c.editNode("node-03", func(n *corev1.Node) {
				n.Status.Conditions[0].Status, n.Status.Conditions[0].LastTransitionTime = to, c.now()
			})
		}
		turns(corev1.ConditionUnknown)
		c.run(time.Minute)
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})
		c.run(20 * time.Minute)
		c.wantRelease("without the node", "Idle   0", nil)
		turns(corev1.ConditionTrue)
		c.run(5 * time.Minute)
		c.covered(5, "agent:2")
	})
}

// Deleting the kept state of an aborted release does not start it again (R6).
func TestAbortedReleaseIsNotBegunByDeletingIt(t *testing.T) {
	released(t, 10, "{}", "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.ask(`{"abort": 1}`)
		c.run(5 * time.Minute)
		c.wantRelease("after the abort", "Aborted AbortRequested first 0", map[string]int{"agent:1": 10})
		c.delete(view.RolloutResource, "default/agent", "")
		c.run(time.Hour)
		c.wantRelease("after that", "Held StableUnknown  0", map[string]int{"agent:1": 10})
	})
}

// Without the stable revision a node never gets the target instead, whoever binds its pod; and no pod goes that cannot be
// replaced.
func TestStableRevisionIsGone(t *testing.T) {
	for name, bind := range map[string]string{"bound by the engine": "", "bound by the scheduler": "scheduler"} {
		t.Run(name, func(t *testing.T) {
			released(t, 5, "{}", "", func(c *cluster) {
				if bind != "" {
					c.editSet(func(ds *appsv1.DaemonSet) { ds.Annotations["everynode.io/bind-by"] = bind })
				}
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				exposed := c.with("agent:2")
				stable := c.rollout().Status.Stable
				c.stop()
				c.delete("controllerrevisions", "default/agent-"+stable, "")
				c.start()
				c.run(time.Minute)
				i := slices.IndexFunc(c.pods(), func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == "agent:1" })
				c.delete("pods", "default/"+c.pods()[i].Name, "")
				c.run(10 * time.Minute)
				if got := c.stands(); !strings.HasPrefix(got, "Held StableGone") {
					t.Errorf("the release is %q", got)
				}
				const said = "no longer exists; only plain continues"
				if got := c.events("ReleaseHeld"); len(got) != 1 || !strings.Contains(got[0], said) || !strings.Contains(c.rollout().Status.Message, said) {
					t.Errorf("the events are %q, and the status says %q", got, c.rollout().Status.Message)
				}
				c.ask(`{"abort": 1}`)
				c.run(10 * time.Minute)
				if got := c.with("agent:2"); got != exposed {
					t.Errorf("%d pods are of the target, %d were", got, exposed)
				}
			})
		})
	}
}

// A release that has failures stops even if that cannot be kept (R5).
func TestStopThatCannotBeKept(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "all", "nodes": "100%"}], "failure": {"startWithin": "2m"}}`, "", func(c *cluster) {
		made := 0
		c.starts = 40 * time.Second
		c.after = func(pod *corev1.Pod) {
			if pod.Spec.Containers[0].Image == "agent:2" && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodPending {
				if made++; made == 2 {
					return
				}
			}
			c.kubelet(pod)
		}
		c.editSet(func(ds *appsv1.DaemonSet) { image("agent:2")(ds); unavailable(3)(ds) })
		c.run(time.Minute)
		c.deny("update daemonsetrollouts/status")
		c.run(5 * time.Minute)
		stopped := c.with("agent:2")
		c.run(time.Hour)
		if got := c.with("agent:2"); got != stopped || got > 15 {
			t.Errorf("%d nodes have the target after the failure, and %d an hour later", stopped, got)
		}
	})
}

// A fleet shrinks in the middle of a release, and a node that has the target comes to belong to a later wave, which goes zone by
// zone. The release still goes through, and never exceeds its quota.
func TestReleaseInAFleetThatShrinks(t *testing.T) {
	released(t, 12, `{"waves": [{"name": "some", "nodes": "34%", "soak": "5m"}, {"name": "rest", "nodes": "100%", "oneAtATime": "zone", "soak": "1m"}]}`, "", func(c *cluster) {
		for i := 1; i <= 12; i++ {
			c.editNode(fmt.Sprintf("node-%02d", i), func(n *corev1.Node) { n.Labels["zone"] = string(rune('a' + i%3)) })
		}
		c.run(time.Minute)
		c.editSet(image("agent:2"))
		c.run(4 * time.Minute)
		left := 0
		for i := 1; i <= 12 && left < 3; i++ {
			if name := fmt.Sprintf("node-%02d", i); c.podOn(name).Spec.Containers[0].Image == "agent:1" {
				c.removeNode(name)
				left++
			}
		}
		c.run(time.Hour)
		c.covered(9, "agent:2")
		c.wantRelease("in the end", "Idle   0", nil)
	})
}

// A node that the release has reached keeps its place while its old pod is not seen to go, but does not hold the place of a
// canary while it is down. A node where a pod of the target has failed, and that has a pod of another revision again, is as good
// as any.
func TestNodesKeepTheirPlaces(t *testing.T) {
	for _, test := range []struct {
		what                   string
		reached, failed, ready bool
		pods                   []string // the revisions of its pods
		exposed                bool
	}{
		{"reached, the old pod is there", true, false, true, []string{"old"}, true},
		{"the same, and down", true, false, false, []string{"old"}, false},
		{"reached, and empty", true, false, false, nil, true},
		{"failed, and has the old one again", false, true, true, []string{"old"}, false},
		{"failed, and empty", false, true, true, nil, true},
		{"not reached", false, false, true, []string{"old"}, false},
		{"has the target", false, false, true, []string{"old", "new"}, true},
	} {
		ix, ds := newIndex(), &appsv1.DaemonSet{}
		ds.UID = "uid"
		ix.upsertNode(node("n", func(n *plan.Node) { n.Ready = test.ready }))
		first := &ix.ownedBy("uid").first
		*first = map[string]*podEntry{}
		for _, hash := range test.pods {
			p := &podEntry{next: (*first)["n"]}
			p.Hash = hash
			(*first)["n"] = p
		}
		set := &setEntry{ds: ds}
		got := ix.reachable(set, &set.spec, "new", func(string) (reached, failed bool) { return test.reached, test.failed })
		if len(got) != 1 || got[0].Exposed != test.exposed {
			t.Errorf("%s: %+v", test.what, got)
		}
	}
}

// A list that was read beside a watch does not bring back what the watch has shown to be gone: it is read again.
func TestAnOldListIsReadAgain(t *testing.T) {
	ix := newIndex()
	policy := func(name string, version uint64) *policyEntry {
		return &policyEntry{policy: rollout.Policy{Name: name}, version: version}
	}
	ix.replacePolicies([]*policyEntry{policy("kept", 3), policy("gone", 4)}, 5)
	ix.removePolicy(policy("gone", 7))
	if ix.learnPolicies([]*policyEntry{policy("kept", 3), policy("gone", 4)}, 6) || ix.releases.policies["gone"] != nil {
		t.Error("a policy is back that was deleted")
	}
	if !ix.learnPolicies([]*policyEntry{policy("kept", 3), policy("new", 8)}, 8) || ix.releases.policies["new"] == nil {
		t.Error("a list is not taken that is as new as the watch")
	}

	ix.replacePolicies(nil, 12) // the watch has begun again, and all are gone
	if ix.learnPolicies([]*policyEntry{policy("kept", 3)}, 10) || len(ix.releases.policies) != 0 {
		t.Error("a policy is back that a list of the watch was without")
	}

	state := func(uid string, version uint64) *rolloutEntry {
		return &rolloutEntry{version: version, object: &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: types.UID(uid)}}}
	}
	ix.replaceRollouts([]*rolloutEntry{state("a", 4)}, 5)
	ix.removeRollout(state("a", 7))
	if ix.learnRollouts([]*rolloutEntry{state("a", 4)}, 6) || len(ix.releases.rollouts) != 0 {
		t.Error("the object of a release is back that was deleted")
	}
	if !ix.learnRollouts([]*rolloutEntry{state("b", 8)}, 8) || len(ix.releases.rollouts) != 1 {
		t.Error("a list is not taken that is as new as the watch")
	}
}
