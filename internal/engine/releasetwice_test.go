package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

func unfollow(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) }

func (c *cluster) deleteRollout() { c.delete(view.RolloutResource, "default/agent", "") }

// makeRollout creates the object that keeps releases, as people do: it has no owner.
func (c *cluster) makeRollout(spec string) {
	c.t.Helper()
	c.addKind(view.RolloutResource, fmt.Sprintf(`{"apiVersion": %q, "kind": "DaemonSetRollout", "metadata": {"namespace": "default", "name": "agent"}, "spec": %s}`, view.PolicyVersion, spec))
}

// The object that keeps a release is deleted, and so is what makes the DaemonSet follow a policy, in either order, while one
// engine leads, while none does, or one between two leaders: no pod moves (R12). The object comes back, and says what to do.
func TestDeletingAllThatGuidesARelease(t *testing.T) {
	guides := map[string]func(c *cluster){
		"the annotation": func(c *cluster) { c.editSet(unfollow) },
		"the policy":     func(c *cluster) { c.delete(view.PolicyResource, "waves", "") },
	}
	for what, guide := range guides {
		for _, last := range []bool{false, true} {
			for _, leads := range []string{"one engine", "two engines", "no engine"} {
				for _, aborted := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/last=%v/%s/aborted=%v", what, last, leads, aborted), func(t *testing.T) {
						deletions := []func(c *cluster){guide, (*cluster).deleteRollout}
						if last {
							deletions[0], deletions[1] = deletions[1], deletions[0]
						}
						loses(t, what == "the policy", leads, aborted, deletions)
					})
				}
			}
		}
	}
}

func loses(t *testing.T, chosen bool, leads string, aborted bool, deletions []func(c *cluster)) {
	t.Helper()
	spec := "{}"
	if chosen {
		spec = `{"daemonSets": {"namespaces": ["default"]}}`
	}
	released(t, 10, spec, "", func(c *cluster) {
		exposed := 1
		if c.editSet(image("agent:2")); chosen {
			c.editSet(unfollow)
		}
		if c.run(5 * time.Minute); aborted {
			c.ask(`{"abort": 1}`)
			c.run(time.Minute)
			exposed = 0
		}
		if leads == "no engine" {
			c.stop()
		}
		deletions[0](c)
		c.run(10 * time.Second)
		if leads == "two engines" {
			c.stop()
		}
		if deletions[1](c); leads != "one engine" {
			c.start()
		}
		c.addNode("node-11")
		c.run(time.Hour)
		c.wantRelease("after that", fmt.Sprintf("Held StableUnknown  %d", exposed), map[string]int{"agent:2": exposed, "agent:1": 11 - exposed})
		c.stop()
		c.start()
		c.run(time.Hour)
		c.wantRelease("under the next leader", fmt.Sprintf("Held StableUnknown  %d", exposed), map[string]int{"agent:2": exposed, "agent:1": 11 - exposed})
		if t.Failed() {
			return // there may be nothing to ask
		}
		s := c.rollout().Status
		if !strings.Contains(s.Message, "plain gives "+s.Target+" to all nodes") {
			t.Errorf("the status says %q", s.Message)
		}
		if aborted {
			c.ask(fmt.Sprintf(`{"abort": %d}`, s.Release))
			c.run(10 * time.Minute)
			c.wantRelease("taken back again", "Aborted AbortRequested  0", map[string]int{"agent:1": 11})
			return
		}
		c.ask(fmt.Sprintf(`{"plain": %d}`, s.Release))
		c.run(10 * time.Minute)
		c.covered(11, "agent:2")
		c.wantConditions("in the end", "", "")
	})
}

// The same, while the guard holds pods: none of them goes, and a person can still allow it.
func TestDeletingTheGuardAndItsRecord(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leads=%v", leads), func(t *testing.T) {
			guarded(t, func(c *cluster) {
				for i := range 6 {
					c.label(i+1, "mian")
				}
				c.run(time.Minute)
				if !leads {
					c.stop()
				}
				c.editSet(unfollow)
				c.run(10 * time.Second)
				if c.deleteRollout(); !leads {
					c.start()
				}
				c.run(time.Hour)
				c.wantGuarded("after that", 20, 6)
				c.stop()
				c.start()
				c.run(time.Hour)
				if c.wantGuarded("under the next leader", 20, 6); t.Failed() {
					return // there may be nothing to ask
				}
				c.ask(fmt.Sprintf(`{"allowRemovals": {"nodes": 6, "before": %q}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
				c.run(time.Minute)
				c.wantGuarded("once it is allowed", 14, 0)
				c.wantConditions("in the end", "", "")
			})
		})
	}
}

// The same, while the release has been stopped for another reason, which is what the condition Progressing says.
func TestDeletingTheGuardAndTheRecordOfAStop(t *testing.T) {
	guarded(t, func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		for i := range 6 {
			c.label(i+1, "mian")
		}
		c.run(time.Minute)
		c.wantGuarded("before", 20, 6)
		c.wantConditions("before", "False AbortRequested", "True EnoughAvailable")
		c.stop()
		c.editSet(unfollow)
		c.deleteRollout()
		c.start()
		c.run(time.Hour)
		c.wantGuarded("under the next leader", 20, 6)
		for i := range 6 {
			c.label(i+1, "main")
		}
		c.run(time.Minute)
		c.wantGuarded("once it is put back", 20, 0)
		c.editSet(func(ds *appsv1.DaemonSet) {
			if view.HoldsRemovals(&ds.Status) {
				t.Errorf("the conditions are %v", ds.Status.Conditions)
			}
		})
	})
}

// The object that keeps an aborted release is replaced in one step, by one without a status: the release does not begin again
// (R6).
func TestReplacingTheObjectOfARelease(t *testing.T) {
	released(t, 10, "{}", "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.stall(view.RolloutResource, true)
		c.deleteRollout()
		c.makeRollout("{}")
		c.cutWatches(true) // nobody sees that there was none for a moment
		c.stall(view.RolloutResource, false)
		c.run(time.Hour)
		c.wantRelease("after that", "Held StableUnknown  0", map[string]int{"agent:1": 10})
		if s := c.rollout().Status; s.Release != 2 {
			t.Errorf("it is release %d", s.Release)
		}
	})
}

// A condition that was left on a DaemonSet without a policy holds an update of it only where people could say how to go on.
func TestConditionThatWasLeft(t *testing.T) {
	for kinds, want := range map[bool]int{true: 5, false: 0} {
		t.Run(fmt.Sprintf("kinds=%v", kinds), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				left := func(ds *appsv1.DaemonSet) {
					ds.Status.Conditions = []appsv1.DaemonSetCondition{{Type: view.ConditionProgressing, Status: corev1.ConditionFalse, Reason: "PolicyGone"}}
				}
				if kinds {
					c.installKinds()
				}
				c.addNodes(5)
				c.addSet()
				c.start()
				c.run(time.Minute)
				c.stop()
				c.editSet(left)
				c.start()
				c.run(time.Minute)
				c.wantConditions("at rest", "", "")
				c.stop()
				c.editSet(left)
				c.editSet(image("agent:2"))
				c.start()
				c.run(10 * time.Minute)
				if got := c.with("agent:1"); got != want {
					t.Errorf("%d pods are left of the old template, want %d", got, want)
				}
			})
		})
	}
}

// People create the object before there is a DaemonSet. It is used as it is, and stays when the DaemonSet is deleted, as it has
// no owner. Another DaemonSet of the same name has its pods at once, whatever its template is, and the numbers go on.
func TestObjectOfAReleaseMadeByHand(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(5)
		c.collect(10 * time.Millisecond)
		c.start()
		c.makeRollout(`{"paused": true}`)
		c.run(time.Second)
		c.addSet(follows)
		c.run(time.Minute)
		c.covered(5, "agent:1")
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		c.wantRelease("while it is paused", "Paused PauseRequested  0", map[string]int{"agent:1": 5})
		c.ask("{}")
		c.run(time.Hour)
		c.covered(5, "agent:2")

		// It is deleted at rest, and then in the middle of a release, also of the template that it comes back with.
		for i, again := range []string{"agent:3", "agent:4", "agent:6"} {
			c.remake("", time.Minute, follows, image(again))
			c.run(time.Minute)
			c.covered(5, again)
			c.wantRelease("made again", "Idle   0", nil)
			next := []string{"agent:4", "agent:5", "agent:7"}[i]
			c.editSet(image(next))
			c.run(5 * time.Minute)
			c.wantRelease("the next release", "Soaking NotSoaked first 1", map[string]int{next: 1, again: 4})
			if s := c.rollout().Status; s.Release != i+2 {
				t.Errorf("it is release %d, want %d", s.Release, i+2)
			}
		}

		c.remake(metav1.DeletePropagationOrphan, 0, follows, image("agent:7"))
		c.run(time.Minute)
		c.wantRelease("with the pods and revisions that were left", "Soaking NotSoaked first 1", map[string]int{"agent:7": 1, "agent:6": 4})
	})
}
