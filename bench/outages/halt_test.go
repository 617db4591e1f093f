package main

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"everynode/bench/testbed"
	"everynode/internal/view"
)

// after is a time since a scenario began.
func after(d time.Duration) time.Time { return time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC).Add(d) }

func TestHalt(t *testing.T) {
	at := func(release int, phase, reason string, failed ...string) *view.DaemonSetRolloutStatus {
		s := &view.DaemonSetRolloutStatus{Release: release, Phase: phase, Reason: reason}
		for _, why := range failed {
			s.Failures = append(s.Failures, view.RolloutFailure{Reason: why})
		}
		return s
	}
	held := func(phase string, nodes int) *view.DaemonSetRolloutStatus {
		return &view.DaemonSetRolloutStatus{Phase: phase, Guard: &view.RolloutGuardStatus{Held: nodes}}
	}
	for name, tc := range map[string]struct {
		states []*view.DaemonSetRolloutStatus // one every second, from 1 s on
		since  int                            // seconds; 0: it goes on
		why    string
	}{
		"nothing was seen": {},
		"it goes on":       {states: []*view.DaemonSetRolloutStatus{at(1, "Rolling", "UnderQuota"), at(1, "Soaking", "NotSoaked"), at(1, "Waiting", "NoneWell")}},
		"it stops, and stays so": {
			states: []*view.DaemonSetRolloutStatus{at(1, "Rolling", "NotSettled"), at(1, "Halted", "TooManyFailed", "NotStarted"), at(1, "Halted", "TooManyFailed", "NotStarted", "NodeBroke", "NotStarted")},
			since:  2, why: "Halted, TooManyFailed: NodeBroke and NotStarted",
		},
		"the next release follows, and goes on": {states: []*view.DaemonSetRolloutStatus{at(1, "Halted", "TooManyFailed"), at(2, "Rolling", "UnderQuota")}},
		"the next release stops, too": {
			states: []*view.DaemonSetRolloutStatus{at(1, "Halted", "TooManyFailed"), at(2, "Halted", "TooManyFailed")},
			since:  2, why: "Halted, TooManyFailed",
		},
		"a bad API server holds it, and later again": {
			states: []*view.DaemonSetRolloutStatus{at(1, "Rolling", "APIUnwell"), at(1, "Rolling", "NotSettled"), at(1, "Rolling", "APIUnwell")},
			since:  3, why: "APIUnwell",
		},
		"it is held": {states: []*view.DaemonSetRolloutStatus{at(1, "Held", "PolicyGone")}, since: 1, why: "Held, PolicyGone"},
		"the guard holds more and more pods": {
			states: []*view.DaemonSetRolloutStatus{held("Idle", 0), held("Idle", 101), held("Idle", 300)},
			since:  2, why: "the guard holds the pods of 300 nodes",
		},
		"the guard holds pods in a release": {states: []*view.DaemonSetRolloutStatus{held("Rolling", 1000)}, since: 1, why: "the guard holds the pods of 1000 nodes"},
	} {
		t.Run(name, func(t *testing.T) {
			var h halt
			for i, s := range tc.states {
				h.saw(s, after(time.Duration(i+1)*time.Second))
			}
			want := time.Time{}
			if tc.since > 0 {
				want = after(time.Duration(tc.since) * time.Second)
			}
			if !h.since.Equal(want) || h.why != tc.why {
				t.Errorf("since %s, %q; want %s, %q", h.since, h.why, want, tc.why)
			}
		})
	}
}

// When it stopped, for both systems in the same simulated time: a second is a minute.
func TestStopped(t *testing.T) {
	const s, m = time.Second, time.Minute
	minute := func(d time.Duration) time.Duration { return d * 60 }
	pods := func(nodes ...string) map[string]sight {
		all := map[string]sight{}
		for _, n := range nodes {
			all[n] = sight{UID: n, Node: n}
		}
		return all
	}
	on := func(nodes ...string) map[string]bool {
		all := map[string]bool{}
		for _, n := range nodes {
			all[n] = true
		}
		return all
	}
	halted := func(d time.Duration) halt { return halt{since: after(d), why: "Halted"} }
	bad, typo, lost := scenario{Observe: 20 * m}, scenario{Observe: 10 * m, Kind: selector}, scenario{Observe: 10 * m, Kind: labels}
	for name, tc := range map[string]struct {
		s      scenario
		system string
		t      tally
		want   string
		spread time.Duration
	}{
		"ours has stopped, long after the first node got it": {
			bad, everynode, tally{exposed: on("a"), last: after(s / 5), acted: after(s / 5), halt: halted(10 * s)}, "10 min", 12 * s},
		"a pod that was already on its way": {
			bad, everynode, tally{exposed: on("a", "b"), last: after(11 * s), acted: after(11 * s), halt: halted(10 * s)}, "11 min", 11 * m},
		"ours goes on": {bad, everynode, tally{exposed: on("a"), last: after(s), acted: after(s)}, "not within 20 min", m},
		"ours has reached all nodes before it stopped": {
			bad, everynode, tally{exposed: on("a", "b", "c", "d"), last: after(8 * s), acted: after(9 * s), halt: halted(15 * s)}, "all after 8 min", 8 * m},
		"Kubernetes' has nothing left to replace for now": {
			bad, upstream, tally{exposed: on("a", "b"), last: after(s), acted: after(3 * s)}, "3 min", m},
		"Kubernetes' goes on":               {bad, upstream, tally{exposed: on("a", "b"), last: after(s), acted: after(19 * s)}, "not within 20 min", m},
		"Kubernetes' has replaced all":      {bad, upstream, tally{exposed: on("a", "b", "c", "d"), last: after(19 * s), acted: after(19 * s)}, "all after 19 min", 19 * m},
		"the guard has held all pods":       {typo, everynode, tally{pods: pods("a", "b", "c", "d"), halt: halted(s / 2)}, "30 s", 0},
		"all pods are gone":                 {typo, upstream, tally{pods: pods(), acted: after(7 * s)}, "all after 7 min", 0},
		"the last pods end":                 {typo, upstream, tally{pods: map[string]sight{"a": {UID: "a", Node: "a", Terminating: true}}, acted: after(6 * s)}, "all after 6 min", 0},
		"one pod is left":                   {typo, upstream, tally{pods: pods("a"), acted: after(7 * s)}, "7 min", 0},
		"all pods without a label are gone": {lost, upstream, tally{pods: pods("b", "c", "d"), acted: after(4 * s)}, "all after 4 min", 0},
		"what was replaced before":          {bad, upstream, tally{exposed: on("a"), last: after(-s), acted: after(-s)}, "0 s", 0},
	} {
		t.Run(name, func(t *testing.T) {
			tc.t.nodes = 4
			r := result{System: tc.system}
			r.see(tc.s, &tc.t, after(0), after(tc.s.Observe/60), minute)
			if got := r.stopped(); got != tc.want || r.Spread != tc.spread {
				t.Errorf("%q, spread for %s; want %q, %s", got, r.Spread, tc.want, tc.spread)
			}
		})
	}
}

// Each state of a release arrives.
func TestFollow(t *testing.T) {
	kinds := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		view.ReleaseResource(view.RolloutResource): "DaemonSetRolloutList"})
	rollouts := kinds.Resource(view.ReleaseResource(view.RolloutResource)).Namespace(testbed.Namespace)
	phase := func(name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": view.PolicyVersion, "kind": view.RolloutKind,
			"metadata": map[string]any{"name": "agent", "namespace": testbed.Namespace}, "status": map[string]any{"phase": name}}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(chan string, 10)
	err := (&releases{client: kinds}).follow(ctx, func(s *view.DaemonSetRolloutStatus, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		seen <- s.Phase
	})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("phase %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("phase %q was not seen", want)
		}
	}
	if _, err := rollouts.Create(ctx, phase("Rolling"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("Rolling")
	if _, err := rollouts.Update(ctx, phase("Halted"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("Halted")
}
