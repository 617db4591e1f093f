package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

func names(policy string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Annotations[view.PolicyAnnotation] = policy }
}

// While no release is under way, a policy that cannot be followed moves nothing, but is reported: with one event, and in the state
// until it is repaired. The next release is held.
func TestPolicyThatCannotBeFollowedAtRest(t *testing.T) {
	replaced := func(spec string) func(c *cluster) {
		return func(c *cluster) {
			c.delete(view.PolicyResource, "waves", "")
			c.addKind(view.PolicyResource, policy(spec))
		}
	}
	for _, test := range []struct {
		what   string
		spoil  func(c *cluster)
		reason rollout.Reason
		words  string
	}{
		{"a name that never existed", func(c *cluster) { c.editSet(names("wave")) }, rollout.PolicyGone, `there is no RolloutPolicy "wave"`},
		{"deleted", func(c *cluster) { c.delete(view.PolicyResource, "waves", "") }, rollout.PolicyGone, `there is no RolloutPolicy "waves"`},
		{"with errors", replaced(`{"waves": [{"name": "all", "nodes": "50%"}]}`), rollout.PolicyUnreadable, "the last wave must be 100%"},
		{"several", func(c *cluster) {
			for _, name := range []string{"a", "b"} {
				c.addKind(view.PolicyResource, fmt.Sprintf(`{"apiVersion": %q, "kind": "RolloutPolicy", "metadata": {"name": %q}, "spec": {"daemonSets": {"namespaces": ["default"]}}}`, view.PolicyVersion, name))
			}
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		}, rollout.SeveralPolicies, "a and b both choose"},
		{"one that only excludes", func(c *cluster) {
			replaced(`{"daemonSets": {"selector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}}`)(c)
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		}, rollout.PolicyUnreadable, "it chooses every DaemonSet"},
	} {
		t.Run(test.what, func(t *testing.T) {
			released(t, 5, "{}", "", func(c *cluster) {
				test.spoil(c)
				c.run(time.Minute)
				c.wantAtRest(test.reason, test.words)
				before := c.wrote("update " + view.RolloutResource + "/status")
				c.stop()
				c.start()
				c.run(time.Hour)
				c.wantAtRest(test.reason, test.words)
				if n := c.wrote("update "+view.RolloutResource+"/status") - before; n != 0 {
					t.Errorf("%d writes of a state in which nothing has changed", n)
				}
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				c.wantRelease("the next release", fmt.Sprintf("Held %s  0", test.reason), map[string]int{"agent:1": 5})
			})
		})
	}
}

// wantAtRest checks how a DaemonSet at rest reports what will hold its next release.
func (c *cluster) wantAtRest(reason rollout.Reason, words string) {
	c.t.Helper()
	c.wantRelease("at rest", fmt.Sprintf("Idle %s  0", reason), map[string]int{"agent:1": 5})
	c.wantConditions("at rest", "True Released", "True EnoughAvailable")
	s := c.rollout().Status
	ready := meta.FindStatusCondition(s.Conditions, view.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue || ready.Reason != reason.String() || ready.Message != s.Message {
		c.t.Errorf("the condition is %+v", ready)
	}
	if !strings.Contains(s.Message, "the next release will be held") || !strings.Contains(s.Message, words) {
		c.t.Errorf("the status says %q, want %q", s.Message, words)
	}
	if said := c.events(reason.String()); len(said) != 1 || !strings.HasPrefix(said[0], "Warning ") || !strings.Contains(said[0], words) {
		c.t.Errorf("events: %q", said)
	}
}

// The report ends when the policy is repaired, or when the DaemonSet no longer names one.
func TestPolicyIsRepairedAtRest(t *testing.T) {
	for what, repair := range map[string]func(*appsv1.DaemonSet){
		"it names the right one": follows,
		"it names none":          func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) },
	} {
		released(t, 5, "{}", "", func(c *cluster) {
			c.editSet(names("wave"))
			c.run(time.Minute)
			c.editSet(repair)
			c.run(time.Minute)
			c.wantRelease(what, "Idle   0", map[string]int{"agent:1": 5})
			if got := c.rollout().Status.Message; strings.Contains(got, "held") {
				t.Errorf("%s: the status says %q", what, got)
			}
		})
	}
}

// Whoever takes the annotation away and reverts the template is not warned of a policy that is gone.
func TestNoPolicyIsMissedAfterARevertWithoutOne(t *testing.T) {
	released(t, 5, "{}", "", func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation); image("agent:1")(ds) })
		c.run(5 * time.Minute)
		c.covered(5, "agent:1")
		c.wantRelease("in the end", "Idle   0", nil)
		if said := c.events("PolicyGone"); len(said) != 0 {
			t.Errorf("events: %q", said)
		}
	})
}

// Where the cluster lacks the kinds, a DaemonSet that names a policy reports that at rest too.
func TestKindsAreMissingAtRest(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.addSet(follows)
		c.start()
		c.run(time.Hour)
		c.covered(5, "agent:1")
		if said := c.events("PolicyUnreadable"); len(said) != 1 || !strings.Contains(said[0], "the cluster has no RolloutPolicies") {
			t.Errorf("events: %q", said)
		}
		if got := c.set().Status.Conditions[0]; got.Reason != view.ReasonReleased || !strings.Contains(got.Message, "the next release will be held: the policy cannot be followed; the cluster has no RolloutPolicies") {
			t.Errorf("the condition is %+v", got)
		}
	})
}
