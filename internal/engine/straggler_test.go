package engine

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/view"
)

// inModes runs a test with five nodes: with the engine in charge, with both strategies, and beside another controller. The
// DaemonSet follows the policy.
func inModes(t *testing.T, spec string, test func(c *cluster)) {
	t.Helper()
	for name, strategy := range map[string]func(*appsv1.DaemonSet){"in charge": func(*appsv1.DaemonSet) {}, "in charge, OnDelete": onDelete} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.installKinds()
				c.addKind(view.PolicyResource, policy(spec))
				c.addNodes(5)
				c.addSet(strategy)
				c.start()
				c.run(time.Minute)
				c.covered(5, "agent:1")
				test(c)
			})
		})
	}
	t.Run("beside another controller", func(t *testing.T) { assisted(t, 5, spec, func(c *cluster, _ *beside) { test(c) }) })
}

// misses completes a release while a node is down. The node's pod stays as it is for as long as that lasts.
func (c *cluster) misses(node string) {
	c.t.Helper()
	c.turn(node, corev1.ConditionFalse, 0)
	c.run(time.Minute)
	c.editSet(image("agent:2"))
	c.run(time.Hour)
	c.wantRelease("when the release is through", "Idle   0", map[string]int{"agent:2": 4, "agent:1": 1})
	if n := c.rollout().Status.Nodes.Other; n != 1 {
		c.t.Errorf("%d nodes are told to have another revision", n)
	}
}

// A node that is back gets the release. One that is still being maintained is not back yet.
func TestStragglersGetTheReleaseWhenTheyAreBack(t *testing.T) {
	inModes(t, `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "all", "nodes": "100%"}]}`, func(c *cluster) {
		c.editNode("node-03", func(n *corev1.Node) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "MaintenanceInProgress", Status: corev1.ConditionTrue})
		})
		c.misses("node-03")
		c.turn("node-03", corev1.ConditionTrue, 0)
		c.run(time.Hour)
		c.wantRelease("while it is looked after", "Idle   0", map[string]int{"agent:2": 4, "agent:1": 1})
		c.editNode("node-03", func(n *corev1.Node) { n.Status.Conditions = n.Status.Conditions[:1] })
		c.run(time.Minute)
		c.covered(5, "agent:2")
	})
}

// A node that has missed a release gets its revision when it is back, but not during a pause. The engine reports that, and the
// node gets the revision once the pause ends.
func TestStragglersWaitForTheEndOfAPause(t *testing.T) {
	inModes(t, `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "all", "nodes": "100%"}]}`, func(c *cluster) {
		c.misses("node-03")
		c.ask(`{"paused": true}`)
		c.run(time.Second)
		c.turn("node-03", corev1.ConditionTrue, 0)
		c.run(10 * time.Minute)
		c.wantRelease("in a pause", "Idle PauseRequested  0", map[string]int{"agent:2": 4, "agent:1": 1})
		if got := c.rollout().Status.Message; !strings.HasSuffix(got, ", and 1 that missed it wait until the pause ends (spec.paused)") {
			c.t.Errorf("it says %q", got)
		}
		before := c.countWrites()
		c.run(3 * time.Hour)
		if n := c.countWrites() - before; n != 0 {
			c.t.Errorf("%d writes while nothing happens", n)
		}
		c.ask(`{}`)
		c.run(time.Minute)
		c.covered(5, "agent:2")
		c.wantRelease("after the pause", "Idle   0", nil)
	})
}

// The same while no window is open, even if that cannot be recorded.
func TestStragglersWaitForAWindow(t *testing.T) {
	const twoHours = `"windows": [{"from": "00:00", "to": "02:00", "timeZone": "UTC"}]` // the clock of a bubble starts at midnight
	inModes(t, `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "all", "nodes": "100%"}], `+twoHours+`}`, func(c *cluster) {
		c.misses("node-03")
		c.deny("update daemonsetrollouts/status")
		c.run(3 * time.Hour)
		c.turn("node-03", corev1.ConditionTrue, 0)
		c.run(10 * time.Minute)
		c.wantRelease("when nothing can be written", "Idle   0", map[string]int{"agent:2": 4, "agent:1": 1})
		c.deny()
		c.run(10 * time.Minute)
		c.wantRelease("while no window is open", "Idle WindowClosed  0", map[string]int{"agent:2": 4, "agent:1": 1})
		if got := c.rollout().Status.Message; !strings.Contains(got, ", and 1 that missed it wait for a window; the next opens on Sun 2 Jan 00:00 UTC") {
			c.t.Errorf("it says %q", got)
		}
		c.run(20*time.Hour + 30*time.Minute)
		c.covered(5, "agent:2")
		c.wantRelease("in the window", "Idle   0", nil)
	})
}

// Reverting a template waits for neither: nodes go back at once.
func TestRevertsWaitForNoPause(t *testing.T) {
	inModes(t, `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "first", "nodes": 2, "soak": "1h"}, {"name": "all", "nodes": "100%"}]}`, func(c *cluster) {
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.wantRelease("before", "Soaking NotSoaked first 2", map[string]int{"agent:2": 2, "agent:1": 3})
		c.ask(`{"paused": true}`)
		c.run(time.Minute)
		c.editSet(image("agent:1"))
		c.run(5 * time.Minute)
		c.covered(5, "agent:1")
		c.wantRelease("in the end", "Idle   0", nil)
	})
}
