package engine

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// What ends a wait before its time: an edit, or another machine under the same name.

// ofCreates returns refusals of a create, each of which is remembered in a different
// place: with the slot, with the slots that wait together, and with the DaemonSet.
func ofCreates() map[string]error {
	return map[string]error{
		"denied":         forbidden("p", "admission webhook denied the request"),
		"quota":          forbidden("p", "exceeded quota: pods"),
		"throttled":      (&webhook{verb: "create", resource: "pods", refuses: 429}).refusal(),
		"webhook broken": apierrors.NewInternalError(errors.New("failed calling webhook: connection refused")),
	}
}

// An edit of the DaemonSet may end the trouble. So its pods are created at once, as
// Kubernetes' controller does, however long they have been refused.
func TestEditEndsWaits(t *testing.T) {
	for name, refusal := range ofCreates() {
		for _, nodes := range []int{3, 40} {
			t.Run(name, func(t *testing.T) {
				inCluster(t, func(c *cluster) {
					c.addNodes(nodes)
					c.addSet()
					c.intercept(func(r request) (error, bool) {
						if r.is("create", "pods") && decode(r.body).(*corev1.Pod).Spec.Containers[0].Image == "agent:1" {
							return refusal, false
						}
						return nil, false
					})
					c.start()
					c.run(5 * time.Minute)
					c.editSet(image("agent:2"))
					c.run(5 * time.Second)
					c.covered(nodes, "agent:2")
				})
			})
		}
	}
}

// The same for an edit that does not change the template.
func TestAnyEditEndsWaits(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") {
				return forbidden("p", "admission webhook denied the request"), false
			}
			return nil, false
		})
		c.start()
		c.run(5 * time.Minute)
		c.intercept(nil)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = 1 })
		c.run(5 * time.Second)
		c.covered(3, "agent:1")
	})
}

// Another machine under the name of one whose pods were refused starts without waits.
func TestAnotherNodeOfTheNameBeginsAfresh(t *testing.T) {
	for _, nodes := range []int{3, 40} {
		inCluster(t, func(c *cluster) {
			c.addNodes(nodes)
			c.addSet()
			old := true
			c.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && (old || decode(r.body).(*corev1.Pod).Spec.NodeName != "node-01") {
					return forbidden("p", "admission webhook denied the request"), false
				}
				return nil, false
			})
			c.start()
			c.run(5 * time.Minute)
			c.removeNode("node-01")
			c.run(time.Second)
			old = false
			c.addNode("node-01")
			c.run(time.Second)
			c.podOn("node-01")
		})
	}
}

// What is forgotten with a node, and what is not.
func TestRenewed(t *testing.T) {
	s, now := newState(identity{}), time.Now()
	s.edited("h")
	s.failed("a", plan.Act{}, delivery.FailedPace(), now, "create")
	for i := range manyFailed {
		s.createFailed(string(rune('A'+i)), delivery.FailedPace(), now, "create")
	}
	last := string(rune('A' + manyFailed - 1))
	for range 6 {
		s.made("a", "h", now)
	}
	s.ended(plan.Delete{Node: "a", UID: "p", Reason: plan.PodFailed}, now)
	for _, node := range []string{"a", last} {
		if !s.waits(node, plan.Act{}, now) {
			t.Errorf("%s does not wait", node)
		}
		if s.renewed(node); s.waits(node, plan.Act{}, now) {
			t.Errorf("%s still waits", node)
		}
	}
	if b := s.backoffOf("a", now); b.Remakes.Again != 0 || b.Pod != "p" {
		t.Errorf("of pods that do not last and of one that failed: %+v", b)
	}
	if !s.waits("A", plan.Act{}, now) {
		t.Error("that of another node is forgotten")
	}
}

// After an edit, if creates were refused before, only a few nodes are tried until a
// create succeeds.
func TestEditsAllTheTimeTryFewNodes(t *testing.T) {
	s, now := newState(identity{}), time.Now()
	s.afresh(1)
	s.made("a", "h", now)
	if s.afresh(2); s.room(0) <= trialCreates {
		t.Errorf("room for %d, though nothing was refused", s.room(0))
	}
	s.failed("a", plan.Act{}, delivery.FailedPace(), now, "create")
	if s.afresh(3); s.room(0) != trialCreates {
		t.Errorf("room for %d after an edit of what was refused", s.room(0))
	}
	if s.afresh(3) {
		t.Error("the same generation is taken for an edit")
	}
}
