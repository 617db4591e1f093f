package engine

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A release whose pods admission refuses stops, with surge too, where no node has lost its pod; and however many nodes are
// refused. What has failed stays in the status while nothing is tried, and once admission lets pods pass, the release goes on.
func TestRefusedReleaseStops(t *testing.T) {
	all, none := intstr.FromString("100%"), intstr.FromInt32(0)
	for name, c := range map[string]struct {
		budget appsv1.RollingUpdateDaemonSet
		waves  string
		nodes  int // that fail
		left   int // that keep their pods
	}{
		"one":                   {waves: `{"nodes": 1}`, nodes: 1, left: 49},
		"many":                  {budget: appsv1.RollingUpdateDaemonSet{MaxUnavailable: &all}, waves: `{"nodes": 40}`, nodes: 40, left: 10},
		"one beside its old":    {budget: appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &all}, waves: `{"nodes": 1}`, nodes: 1, left: 50},
		"many beside their old": {budget: appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &all}, waves: `{"nodes": 40}`, nodes: 40, left: 50},
	} {
		t.Run(name, func(t *testing.T) {
			spec := `{"waves": [{"name": "first", ` + c.waves[1:len(c.waves)-1] + `}, {"name": "all", "nodes": "100%"}]}`
			released(t, 50, spec, "", func(k *cluster) {
				k.admit(webhook{verb: "create", resource: "pods", refuses: 403})
				k.editSet(func(ds *appsv1.DaemonSet) {
					image("agent:2")(ds)
					if c.budget.MaxUnavailable != nil {
						ds.Spec.UpdateStrategy.RollingUpdate = &c.budget
					}
				})
				for _, d := range []time.Duration{5 * time.Minute, time.Hour} {
					k.run(d)
					if got := k.stands(); !strings.HasPrefix(got, "Halted TooManyFailed first") || k.with("agent:1") != c.left {
						k.t.Errorf("after %v: %q, %d old pods", d, got, k.with("agent:1"))
					}
					f, failed := k.rollout().Status.Failures, k.rollout().Status.Nodes.Failed
					if failed != c.nodes || len(f) == 0 || f[0].Reason != "NotAdmitted" || !strings.Contains(f[0].Message, "denied") {
						k.t.Errorf("after %v %d have failed: %+v", d, failed, f[:min(len(f), 1)])
					}
				}
				k.admit()
				k.ask(`{"resume": {"release": 1, "stop": 1}}`)
				k.run(30 * time.Minute)
				if got := k.stands(); !strings.HasPrefix(got, "Idle") || k.with("agent:2") != 50 {
					k.t.Errorf("once pods are admitted: %q, %d new pods", got, k.with("agent:2"))
				}
			})
		})
	}
}

// What was refused in a release that was taken back does not fail the next one.
func TestRefusedReleaseIsReleasedAgain(t *testing.T) {
	released(t, 5, `{"waves": [{"name": "first", "nodes": 1}, {"name": "all", "nodes": "100%"}], "failure": {"then": "Rollback"}}`, "", func(c *cluster) {
		c.admit(webhook{verb: "create", resource: "pods", refuses: 403})
		c.editSet(func(ds *appsv1.DaemonSet) {
			image("agent:2")(ds)
			none, all := intstr.FromInt32(0), intstr.FromString("100%")
			ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &all}
		})
		for range 120 {
			if c.run(time.Second); strings.HasPrefix(c.stands(), "Aborted") {
				break
			}
		}
		c.wantRelease("at first", "Aborted FailedBack first 0", map[string]int{"agent:1": 5})
		c.admit()
		c.ask(`{"retry": 1}`)
		c.run(30 * time.Minute)
		c.covered(5, "agent:2")
		if s := c.rollout().Status; s.Release != 2 || s.Stable != s.Target {
			t.Errorf("in the end the status is %+v", s)
		}
	})
}
