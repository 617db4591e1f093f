package engine

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"everynode/internal/view"
)

// removeKinds takes the kinds away with all their objects, as when their definitions are deleted.
func (c *cluster) removeKinds() {
	c.t.Helper()
	for _, r := range []string{view.PolicyResource, view.RolloutResource} {
		c.mu.Lock()
		keys := slices.Sorted(maps.Keys(c.objects[r]))
		c.mu.Unlock()
		for _, key := range keys {
			c.delete(r, key, "")
		}
	}
	c.run(time.Second) // the watches show it
	c.mu.Lock()
	c.objects[view.PolicyResource], c.objects[view.RolloutResource] = nil, nil
	c.mu.Unlock()
	c.cutWatches(true)
}

// wantLacking checks what readiness notes, the metric and the log say about missing kinds. The engine is ready in any
// case, because it still serves every DaemonSet.
func wantLacking(t *testing.T, when string, m *Monitor, log *strings.Builder, kinds, lines int, want ...string) {
	t.Helper()
	isServing(t, m)
	expect(t, metrics(t, m), map[string]float64{"rollout_kinds_missing{}": float64(kinds)})
	if n := strings.Count(log.String(), "the cluster lacks a kind"); n != lines {
		t.Errorf("%s the log says it %d times, want %d: %s", when, n, lines, log.String())
	}
	notes := strings.Join(m.Notes(), "\n")
	if (notes == "") != (kinds == 0) {
		t.Errorf("%s the notes are %q", when, notes)
	}
	for _, w := range want {
		if !strings.Contains(notes, w) {
			t.Errorf("%s the notes are %q, want %q", when, notes, w)
		}
	}
}

// The kinds are deleted, and every policy with them: what a policy has chosen is then updated without waves.
func TestKindsAreTakenAway(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m, log := NewMonitor(), &strings.Builder{}
		c.installKinds()
		c.addKind(view.PolicyResource, policy(`{"daemonSets": {"namespaces": ["default"]}}`))
		c.addNodes(5)
		c.addSet()
		c.start(func(cfg *Config) { cfg.Monitor, cfg.Log = m, slog.New(slog.NewTextHandler(log, nil)) })
		c.run(time.Minute)
		wantLacking(t, "with the kinds", m, log, 0, 0)
		c.removeKinds()
		c.run(10 * time.Minute)
		wantLacking(t, "without them", m, log, 2, 2, "(daemonsetrollouts, rolloutpolicies)", "name a policy (0)", "without waves")
		c.editSet(image("agent:2"))
		c.run(2 * time.Minute)
		c.covered(5, "agent:2")
		c.installKinds()
		c.run(time.Minute)
		wantLacking(t, "with them again", m, log, 0, 2)
	})
}

// A cluster that never had the kinds lacks nothing, until a DaemonSet names a policy.
func TestKindsThatNobodyNeeds(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m, log := NewMonitor(), &strings.Builder{}
		c.addNodes(1)
		c.addSet()
		c.start(func(cfg *Config) { cfg.Monitor, cfg.Log = m, slog.New(slog.NewTextHandler(log, nil)) })
		c.run(5 * time.Minute)
		wantLacking(t, "without a policy", m, log, 0, 0)
		c.editSet(follows)
		c.run(5 * time.Minute)
		wantLacking(t, "with a name of one", m, log, 2, 2, "name a policy (1)", "no new revision")
	})
}

// If only the state cannot be kept, policies are known, and no release continues.
func TestKindOfTheStateIsMissing(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m, log := NewMonitor(), &strings.Builder{}
		c.installKinds()
		c.mu.Lock()
		c.objects[view.RolloutResource] = nil
		c.mu.Unlock()
		c.addKind(view.PolicyResource, policy(`{}`))
		c.addNodes(5)
		c.addSet(follows)
		c.start(func(cfg *Config) { cfg.Monitor, cfg.Log = m, slog.New(slog.NewTextHandler(log, nil)) })
		c.run(time.Minute)
		c.covered(5, "agent:1")
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		if n := c.with("agent:1"); n != 5 {
			t.Errorf("%d pods are of the old template", n)
		}
		wantLacking(t, "without the state", m, log, 1, 1, "(daemonsetrollouts)", "cannot be saved")
	})
}
