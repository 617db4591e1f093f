package engine

import (
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/view"
)

// loseRollout has the answer to the next write of what is kept of the release get lost, after it took effect and then did
// what else happens.
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

// The answer to the write that begins a release is lost, and the DaemonSet follows no policy from then on: the release that is
// kept is held, as ever (R12).
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

// Once a state can be kept again, a release goes on without anything else happening.
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
