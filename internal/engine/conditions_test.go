package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/view"
)

// condition returns status and reason of the DaemonSet's condition of that type; empty if there is none.
func (c *cluster) condition(kind appsv1.DaemonSetConditionType) string {
	for _, said := range c.set().Status.Conditions {
		if said.Type == kind {
			return strings.TrimSpace(fmt.Sprintf("%s %s", said.Status, said.Reason))
		}
	}
	return ""
}

func (c *cluster) wantConditions(when, progressing, available string) {
	c.t.Helper()
	got := []string{c.condition(view.ConditionProgressing), c.condition(view.ConditionAvailable)}
	if want := []string{progressing, available}; !slices.Equal(got, want) {
		c.t.Errorf("%s the conditions are %q, want %q", when, got, want)
	}
}

func saysOthers(kind appsv1.DaemonSetConditionType) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Status.Conditions = append(ds.Status.Conditions, appsv1.DaemonSetCondition{Type: kind, Status: corev1.ConditionTrue, Reason: "Foreign"})
	}
}

// The DaemonSet itself shows the state of its release, next to the conditions of others; and no longer does once it
// follows no policy.
func TestDaemonSetSaysHowItsReleaseStands(t *testing.T) {
	released(t, 20, "{}", "agent:bad", func(c *cluster) {
		c.editSet(saysOthers("Foreign"))
		c.wantConditions("at first", "True Released", "True EnoughAvailable")
		first := c.set().Status.Conditions[0]
		c.editSet(image("agent:bad"))
		c.run(time.Minute)
		c.wantConditions("before it is too late", "True Rolling", "True EnoughAvailable")
		if now := c.set().Status.Conditions[0]; now.LastTransitionTime != first.LastTransitionTime {
			t.Errorf("%s is True since %s, and since %s", now.Type, first.LastTransitionTime, now.LastTransitionTime)
		}
		c.run(10 * time.Minute)
		c.wantConditions("then", "False TooManyFailed", "True EnoughAvailable")
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantConditions("after the abort", "False AbortRequested", "True EnoughAvailable")
		for _, node := range []string{"node-01", "node-02"} {
			c.editPod(c.podOn(node).Name, func(p *corev1.Pod) { ready(p, false) })
		}
		c.run(time.Minute)
		c.wantConditions("with two pods that do not serve", "False AbortRequested", "False TooFewAvailable")
		c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		c.run(time.Minute)
		c.wantConditions("in the middle, without a policy", "False AbortRequested", "False TooFewAvailable")
		c.ask(`{"plain": 1}`)
		c.run(time.Minute)
		c.wantConditions("in the end", "", "")
		if got := c.condition("Foreign"); got != "True Foreign" {
			t.Errorf("others say %q", got)
		}
	})
}

// The conditions do not change with each pod: they are written twice for a wave of many nodes.
func TestConditionsChangeWithThePhase(t *testing.T) {
	released(t, 20, `{"waves": [{"name": "all", "nodes": "100%", "soak": "10m"}]}`, "", func(c *cluster) {
		var said []string
		c.intercept(func(r request) (error, bool) {
			if r.is("update", "daemonsets") {
				for _, s := range decode(r.body).(*appsv1.DaemonSet).Status.Conditions {
					said = append(said, fmt.Sprintf("%s %s %s %s", s.Type, s.Status, s.Message, s.LastTransitionTime.UTC().Format(time.RFC3339)))
				}
			}
			return nil, false
		})
		c.editSet(image("agent:2"))
		c.run(30 * time.Minute)
		c.wantRelease("in the end", "Idle   0", nil)
		slices.Sort(said)
		if writes, kinds := len(said), len(slices.Compact(said)); writes < 40 || kinds != 4 {
			t.Errorf("%d conditions were written, of %d kinds, want many and 4 (one of Available, three of Progressing):\n%s", writes, kinds, strings.Join(slices.Compact(said), "\n"))
		}
	})
}

// Conditions of others on a DaemonSet without a policy stay, whatever their names (R17).
func TestConditionsWithoutAPolicy(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(3)
		c.addSet()
		c.editSet(saysOthers(view.ConditionAvailable))
		c.start()
		c.run(time.Minute)
		c.covered(3, "agent:1")
		c.wantConditions("without a policy", "", "True Foreign")
	})
}

// The condition says that the guard holds pods for as long as it does, whatever happens to the policy.
func TestConditionsOfTheGuard(t *testing.T) {
	guarded(t, func(c *cluster) {
		for i := range 6 {
			c.label(i+1, "mian")
		}
		c.run(time.Minute)
		c.wantConditions("with a typo", "False RemovalsHeld", "True EnoughAvailable")
		c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		c.run(time.Minute)
		c.wantConditions("then without a policy", "False RemovalsHeld", "True EnoughAvailable")
		for i := range 6 {
			c.label(i+1, "main")
		}
		c.run(time.Minute)
		c.wantConditions("once it is put back", "", "")
	})
}

// A leader that does not know yet what is kept of a release does not touch the conditions.
func TestConditionsStayWhileNothingIsKnown(t *testing.T) {
	released(t, 20, "{}", "agent:bad", func(c *cluster) {
		c.editSet(image("agent:bad"))
		c.run(15 * time.Minute)
		c.wantConditions("at first", "False TooManyFailed", "True EnoughAvailable")
		c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.PolicyAnnotation) })
		c.run(time.Minute)
		c.wantConditions("without the policy", "False PolicyGone", "True EnoughAvailable")
		c.stop()
		c.intercept(func(r request) (error, bool) {
			if r.is("get", view.RolloutResource) {
				return apierrors.NewInternalError(errors.New("not now")), false
			}
			return nil, false
		})
		c.start()
		c.run(time.Minute)
		c.wantConditions("while what is kept cannot be read", "False PolicyGone", "True EnoughAvailable")
		c.intercept(nil)
		c.stop()
		c.editSet(func(ds *appsv1.DaemonSet) { follows(ds); image("agent:2")(ds) })
		c.deny("create controllerrevisions")
		c.start()
		c.run(time.Minute)
		c.wantConditions("while there can be no revision", "False PolicyGone", "True EnoughAvailable")
	})
}
