package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// loseRollout loses the answer to the next write of the release's kept state, after the write took effect, and calls then.
func (c *cluster) loseRollout(then func()) {
	var done atomic.Bool
	c.intercept(func(r request) (error, bool) {
		if r.verb != "update" || r.resource != view.RolloutResource || done.Swap(true) {
			return nil, false
		}
		then()
		return nil, true
	})
}

// The answer to the write that begins a release is lost, and the DaemonSet follows no policy from then on: the kept release is
// held, as always (R12).
func TestReleaseWhoseBeginningIsNotAnswered(t *testing.T) {
	released(t, 20, "{}", "", func(c *cluster) {
		c.loseRollout(func() {
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		})
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("after that", "Held PolicyGone first 0", map[string]int{"agent:1": 20})
	})
}

// The answer to the write that begins a release is lost: the state is found to be kept, and the release continues without any
// other event.
func TestReleaseGoesOnAfterALostAnswer(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.stall(view.RolloutResource, true)
		c.loseRollout(func() {})
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.covered(5, "agent:2")
	})
}

// The state is deleted, and the watch shows that before the answer to the write comes, twice: at rest, when it is saved again, and
// when a release begins, which is held, as always (R12).
func TestStateThatIsGoneBeforeTheAnswer(t *testing.T) {
	released(t, 20, "{}", "", func(c *cluster) {
		var left atomic.Int32
		c.served = func(r request) {
			if r.verb == "update" && r.resource == view.RolloutResource && left.Add(-1) >= 0 {
				c.delete(view.RolloutResource, "default/agent", "")
				<-time.After(5 * time.Second)
			}
		}
		left.Store(1)
		c.delete(view.RolloutResource, "default/agent", "")
		c.run(time.Minute)
		c.wantRelease("at rest", "Idle   0", map[string]int{"agent:1": 20})
		left.Store(1)
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("after that", "Held StableUnknown  0", map[string]int{"agent:1": 20})
	})
}

// What the watch has shown to be gone stays gone, whatever the answer to an earlier write says.
func TestGoneStaysGone(t *testing.T) {
	ix := newIndex()
	keeper := func(version uint64) *rolloutEntry {
		return &rolloutEntry{object: &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}, version: version}
	}
	revision := func(version uint64) *revisionEntry {
		return &revisionEntry{Revision: &view.Revision{Object: &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}}, version: version, owner: "set"}
	}
	for what, of := range map[string]struct {
		upsert, remove func(version uint64)
		replace        func(version uint64) // by an empty list
		there          func() bool
	}{
		"DaemonSetRollout": {func(v uint64) { ix.upsertRollout(keeper(v)) }, func(v uint64) { ix.removeRollout(keeper(v)) }, func(v uint64) { ix.replaceRollouts(nil, v) },
			func() bool { return len(ix.releases.rollouts) == 1 }},
		"ControllerRevision": {func(v uint64) { ix.upsertRevision(revision(v)) }, func(v uint64) { ix.removeRevision(revision(v)) }, func(v uint64) { ix.replaceRevisions(nil, v) },
			func() bool { return len(ix.revisions) == 1 }},
	} {
		of.upsert(1)
		of.remove(3)
		if of.upsert(2); of.there() {
			t.Errorf("%s: an answer has brought it back", what)
		}
		if of.upsert(4); !of.there() {
			t.Errorf("%s: it was created again, and is not known", what)
		}
		of.replace(6)
		if of.upsert(5); of.there() {
			t.Errorf("%s: an answer has brought back what a list does not have", what)
		}
	}
}

// That an object is gone says nothing about the next one of its name.
func TestForgettingSparesTheNext(t *testing.T) {
	ix := newIndex()
	of := func(uid types.UID, version uint64) *rolloutEntry {
		return &rolloutEntry{object: &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: uid}}, version: version}
	}
	ix.upsertRollout(of("second", 2))
	if ix.forgetRollout(of("first", 1)); len(ix.releases.rollouts) != 1 {
		t.Error("the next object is forgotten, too")
	}
	if ix.forgetRollout(of("second", 2)); len(ix.releases.rollouts) != 0 {
		t.Error("it is not forgotten")
	}
}

// Once a state can be kept again, a release continues without any other event.
func TestReleaseGoesOnOnceItIsKept(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.starts = time.Minute
		c.editSet(image("agent:2"))
		c.run(90 * time.Second)
		c.deny("update daemonsetrollouts/status")
		c.run(5 * time.Minute)
		before := c.with("agent:2")
		c.deny()
		c.run(30 * time.Second)
		if got := c.with("agent:2"); got <= before || c.rollout().Status.Phase != "Rolling" {
			t.Errorf("%d pods are of the target, %d were: %s", got, before, c.stands())
		}
	})
}

// The policy is deleted in the second wave: pods that have been made become ready, and nothing else moves, whoever leads (R12).
// The release goes on from there when the policy is back.
func TestPolicyDeletedInTheSecondWave(t *testing.T) {
	const waves = `{"waves": [{"name": "one", "nodes": 1}, {"name": "some", "nodes": 5, "soak": "1h"}, {"name": "all", "nodes": "100%"}]}`
	released(t, 20, waves, "", func(c *cluster) {
		c.starts = time.Minute
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			three := intstr.FromInt32(3)
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &three
		})
		c.run(90 * time.Second)
		c.wantRelease("before", "Rolling UnderQuota some 4", map[string]int{"agent:2": 4, "agent:1": 16})
		if got := c.set().Status.NumberAvailable; got != 17 {
			t.Errorf("before %d nodes have a pod that is available, want 17", got)
		}
		before := c.pods()
		c.delete(view.PolicyResource, "waves", "")
		c.run(time.Hour)
		c.addNode("node-21")
		c.stop()
		c.start()
		c.run(2 * time.Hour)
		c.wantRelease("without it", "Held PolicyGone some 4", map[string]int{"agent:2": 4, "agent:1": 17})
		if got := c.set().Status.NumberAvailable; got != 21 {
			t.Errorf("without it %d nodes have a pod that is available, want 21", got)
		}
		for _, old := range before {
			if now := c.podOn(old.Spec.NodeName); now.UID != old.UID || now.DeletionTimestamp != nil {
				t.Errorf("without it pod %s on %s has gone", old.Name, old.Spec.NodeName)
			}
		}
		c.addKind(view.PolicyResource, policy(waves))
		c.run(10 * time.Minute)
		c.wantRelease("with it", "Soaking NotSoaked some 5", map[string]int{"agent:2": 5, "agent:1": 16})
		c.run(2 * time.Hour)
		c.covered(21, "agent:2")
		c.wantRelease("in the end", "Idle   0", nil)
	})
}

// The permission to read policies is taken away. A running engine uses those that it knows; one that starts holds what a policy
// has selected, until the permission is back.
func TestReleaseWhosePolicyMayNotBeRead(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy(`{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "first", "nodes": 1, "soak": "10m"}, {"name": "all", "nodes": "100%"}]}`))
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(time.Minute)
		c.deny("list rolloutpolicies", "watch rolloutpolicies")
		c.cutWatches(true)
		c.run(time.Minute)
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.wantRelease("without the right", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 4})
		c.stop()
		c.start()
		c.run(time.Hour)
		c.wantRelease("under another leader", "Held PolicyUnreadable first 1", map[string]int{"agent:2": 1, "agent:1": 4})
		c.deny()
		c.run(30 * time.Minute)
		c.covered(5, "agent:2")
	})
}

// A status that cannot be read moves nothing, and the object says so, once.
func TestReleaseWhoseStatusCannotBeRead(t *testing.T) {
	released(t, 5, "{}", "", func(c *cluster) {
		c.stop()
		c.delete(view.RolloutResource, "default/agent", "")
		c.addKind(view.RolloutResource, fmt.Sprintf(`{"apiVersion": %q, "kind": "DaemonSetRollout", "metadata": {"namespace": "default", "name": "agent"},
			"spec": {}, "status": {"phase": "Sleeping", "release": 3, "stable": "a", "target": "b"}}`, view.PolicyVersion))
		c.editSet(image("agent:2"))
		c.start()
		c.run(time.Minute)
		before := c.wrote("update " + view.RolloutResource)
		c.run(time.Hour)
		if n := c.wrote("update "+view.RolloutResource) - before; n != 0 {
			t.Errorf("%d more writes of it", n)
		}
		s := c.rollout().Status
		if s.Phase != "Sleeping" || c.with("agent:1") != 5 {
			t.Errorf("phase %s, and %d pods of before", s.Phase, c.with("agent:1"))
		}
		for _, condition := range s.Conditions {
			if holds := condition.Status == "True"; holds != (condition.Type == view.ConditionStalled) || condition.Reason != view.ReasonStatusUnreadable {
				t.Errorf("condition %+v", condition)
			}
		}
		if len(s.Conditions) == 0 {
			t.Error("there is no condition")
		}
		if said := c.events(view.ReasonStatusUnreadable); len(said) != 1 || !strings.Contains(said[0], "Sleeping") {
			t.Errorf("events: %q", said)
		}
	})
}

// Pods of the stable revision that do not last come back more and more slowly while a release waits, too (I14).
func TestStablePodsThatDoNotLast(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "first", "nodes": 1, "approval": true}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		name := ""
		for i := 1; name == ""; i++ {
			if p := c.podOn(fmt.Sprintf("node-%02d", i)); p.Spec.Containers[0].Image == "agent:1" {
				name = p.Spec.NodeName
			}
		}
		ev := &evictor{}
		c.evict(name, 20*time.Millisecond, ev)
		c.editPod(c.podOn(name).Name, func(p *corev1.Pod) { p.Annotations = map[string]string{"seen": "yes"} })
		c.run(time.Hour)
		if n := ev.made.Load(); n < 10 || n > 40 {
			t.Errorf("%d pods in an hour", n)
		}
	})
}

// What guides a release is read when a term begins: watches may be behind what the last leader knew.
func TestNewLeaderReadsWhatGuidesReleases(t *testing.T) {
	first := `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "first", "nodes": 1, "approval": true}, {"name": "all", "nodes": "100%"}]}`
	for what, do := range map[string]struct {
		change func(c *cluster)
		stands string
	}{
		"a policy that it has not seen": {func(c *cluster) {
			c.addSet()
			c.run(time.Minute)
			c.stall(view.PolicyResource, true)
			c.addKind(view.PolicyResource, policy(first))
		}, "Waiting NotApproved first 1"},
		"a release that it has not seen": {func(c *cluster) {
			c.addKind(view.PolicyResource, policy(first))
			c.run(time.Second)
			c.stall(view.RolloutResource, true)
			c.addSet()
			c.run(time.Minute)
			c.editSet(image("agent:2"))
			c.run(time.Minute)
			c.delete(view.PolicyResource, "waves", "")
			c.run(time.Second)
		}, "Held PolicyGone first 1"},
	} {
		t.Run(what, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.installKinds()
				c.addNodes(5)
				c.start(elect("one"))
				stopOne, endedOne := c.stopEngine, c.ended
				c.run(time.Second)
				c.start(elect("two"))
				do.change(c)
				stopOne()
				<-endedOne
				c.run(5 * time.Second)
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				c.wantRelease("under the next leader", do.stands, map[string]int{"agent:2": 1, "agent:1": 4})
			})
		})
	}
}

// While no state can be kept, templates come and go under the number of one release. A node that has got one of them has not got
// the next.
func TestTemplatesOfAReleaseThatIsNotKept(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "first", "nodes": 1, "approval": true}, {"name": "all", "nodes": "100%"}]}`, "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.deny("update daemonsetrollouts/status")
		for _, next := range []string{"agent:1", "agent:3"} {
			c.editSet(image(next))
			c.run(20 * time.Second)
			c.editPod(c.podOn("node-03").Name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
			c.run(20 * time.Second)
		}
		c.run(time.Minute)
		if n := c.with("agent:3"); n != 0 {
			t.Errorf("%d pods are of a template that was never granted", n)
		}
	})
}

// Two processes lead at the same time, and the other one has stopped the release, or has given nodes the target: that is not
// undone, whether a watch shows it first or a conflict (R15).
func TestWhatAnotherLeaderKeepsStays(t *testing.T) {
	for _, stalled := range []bool{false, true} {
		t.Run(fmt.Sprintf("stalled=%v", stalled), func(t *testing.T) {
			released(t, 20, "{}", "", func(c *cluster) {
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				c.wantRelease("before", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 19})
				c.stall(view.RolloutResource, stalled)
				c.mu.Lock()
				old := c.objects[view.RolloutResource]["default/agent"].(*unstructured.Unstructured)
				sent := old.DeepCopy()
				for field, value := range map[string]any{"stopped": true, "stops": int64(1), "phase": "Halted", "reason": "TooManyFailed", "quota": int64(2)} {
					if err := unstructured.SetNestedField(sent.Object, value, "status", field); err != nil {
						t.Fatal(err)
					}
				}
				c.store(view.RolloutResource, "MODIFIED", updateOfKind(old, sent, "status"))
				c.mu.Unlock()
				c.run(3 * time.Hour)
				c.wantRelease("after that", "Halted TooManyFailed first 1", map[string]int{"agent:2": 1, "agent:1": 19})
				if got := c.rollout().Status.Quota; got != 2 {
					t.Errorf("the quota is %d, and was 2", got)
				}
			})
		})
	}
}

// What a release has begun does not count in a release of the same number that another process keeps in another object: nothing
// there allows it.
func TestReachedInAnotherObject(t *testing.T) {
	s := newState(key("set"))
	keep := func(uid types.UID) following {
		s.course.own = &rolloutEntry{object: &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{UID: uid}}}
		s.course.release = &plan.Release{Number: 1}
		return s.course.following()
	}
	first := keep("first")
	s.reach(&write{state: s, edition: "b", reaches: s.course.reaches(true), remove: &plan.Delete{Node: "n", UID: "pod", Reason: plan.Outdated}})
	if s.reachedWith("n", "b") != 1 {
		t.Error("the release does not remember what it has begun")
	}
	if next := keep("second"); next == first || s.reachedWith("n", "b") != 0 {
		t.Errorf("in the next object, the node is reached by release %d, and the ledger is kept: %v", s.reachedWith("n", "b"), next == first)
	}
}

// What a release has begun still counts when its object is put back as it was, under another UID.
func TestReachedInAnObjectPutBack(t *testing.T) {
	s := newState(key("set"))
	entry := func(uid types.UID, version uint64, phase string) *rolloutEntry {
		return &rolloutEntry{version: version, object: &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: view.DaemonSetRolloutStatus{Phase: phase}}}
	}
	s.course.own, s.course.read, s.course.release = entry("first", 1, "Rolling"), true, &plan.Release{Number: 1}
	s.reach(&write{state: s, edition: "b", reaches: s.course.reaches(true), remove: &plan.Delete{Node: "n", UID: "pod", Reason: plan.Outdated}})
	if err := (&engine{}).readCourse(t.Context(), nil, s, entry("second", 2, "Rolling")); err != nil {
		t.Fatal(err)
	}
	if s.course.keeper() != "second" || s.reachedWith("n", "b") != 1 {
		t.Errorf("in %s, the node is reached by release %d", s.course.keeper(), s.reachedWith("n", "b"))
	}
}

// A node that has taken the name of another one has not been reached, and pods that failed there say nothing about it.
func TestReachedOnAReplacedNode(t *testing.T) {
	s := newState(key("set"))
	s.course.release = &plan.Release{Number: 1}
	s.reach(&write{state: s, edition: "b", reaches: s.course.reaches(true), remove: &plan.Delete{Node: "n", UID: "pod", Reason: plan.Outdated}})
	s.backoff["n"] = plan.Backoff{Hash: "b", Pod: "pod", Delay: time.Second}
	s.renewed("n")
	if b := s.backoff["n"]; s.reachedWith("n", "b") != 0 || b.Hash != "" || b.Pod != "pod" || b.Delay != time.Second {
		t.Errorf("reached by release %d, %+v", s.reachedWith("n", "b"), b)
	}
}

// A wave that is made smaller while it is open gives the target to no more nodes than it has now.
func TestOpenWaveIsMadeSmaller(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "half", "nodes": 10}, {"name": "all", "nodes": "100%"}]}`, "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(time.Minute)
		c.wantRelease("with a budget of one node", "Rolling UnderQuota half 1", map[string]int{"agent:bad": 1})
		c.mu.Lock()
		old := c.objects[view.PolicyResource]["waves"].(*unstructured.Unstructured)
		sent := decodeOfKind([]byte(policy(`{"waves": [{"name": "half", "nodes": 3}, {"name": "all", "nodes": "100%"}]}`)))
		c.store(view.PolicyResource, "MODIFIED", updateOfKind(old, sent, ""))
		c.mu.Unlock()
		c.run(time.Second)
		c.editSet(func(ds *appsv1.DaemonSet) {
			ten := intstr.FromInt32(10)
			ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &ten}
		})
		c.run(5 * time.Minute)
		c.wantRelease("with one of ten", "Rolling NotSettled half 3", map[string]int{"agent:bad": 3})
	})
}
