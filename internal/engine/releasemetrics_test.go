package engine

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/view"
)

// ofAgent returns the name of a metric of the tests' DaemonSet; more are its other labels.
func ofAgent(name, more string) string {
	return "daemonset_release_" + name + "{daemonset=agent,namespace=default" + more + "}"
}

// The metrics show which wave is open, how long it still soaks, and what the guard holds.
func TestMetricsOfARelease(t *testing.T) {
	m := NewMonitor()
	guarded(t, func(c *cluster) {
		idle := map[string]float64{ofAgent("wave", ""): 0, ofAgent("waves", ""): 3, ofAgent("soak_left_seconds", ""): 0, ofAgent("nodes", ",state=held"): 0}
		expect(t, metrics(t, m), idle)
		c.editSet(image("agent:2"))
		c.run(12 * time.Minute)
		c.wantRelease("after twelve minutes", "Soaking NotSoaked tenth 2", nil)
		got := metrics(t, m)
		expect(t, got, map[string]float64{ofAgent("wave", ""): 2, ofAgent("waves", ""): 3, ofAgent("nodes", ",state=exposed"): 2})
		if left := got[ofAgent("soak_left_seconds", "")]; left < 460 || left > 560 {
			t.Errorf("after two minutes of ten %v seconds of the soak are left", left)
		}
		c.run(time.Hour)
		expect(t, metrics(t, m), idle)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector["pool"] = "mian" })
		c.run(time.Minute)
		expect(t, metrics(t, m), map[string]float64{ofAgent("nodes", ",state=held"): 20})
		c.ask(`{"paused": true}`)
		c.run(time.Minute)
		expect(t, metrics(t, m), map[string]float64{ofAgent("wave", ""): 1, ofAgent("soak_left_seconds", ""): 0})
	}, func(cfg *Config) { cfg.Monitor = m })
}

// Without its policy there are no waves; the kept state of the release is still shown.
func TestMetricsWithoutThePolicy(t *testing.T) {
	var ix index
	ix.releases = newReleases()
	o := &view.DaemonSetRollout{}
	o.Namespace, o.Name = "n", "d"
	o.Status = view.DaemonSetRolloutStatus{Phase: "Held", Stable: "a", Target: "b", Policy: &view.PolicyRef{Name: "gone"}, Wave: &view.RolloutWave{Name: "first"}}
	key := keyOf(&appsv1.DaemonSet{ObjectMeta: o.ObjectMeta})
	ix.releases.rollouts[key] = &rolloutEntry{object: o}
	if got := ix.keptRelease(key); got != (keptRelease{phase: "Held"}) {
		t.Errorf("%+v", got)
	}
}
