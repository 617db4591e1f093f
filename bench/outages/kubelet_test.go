package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/bench/testbed"
	"everynode/internal/view"
)

// The engine, which sees only what the kubelets write, knows which pods have been ready. One that was killed has, and one
// that never came up has not, however often its container has restarted.
func TestReport(t *testing.T) {
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(after(d)) }
	template := testbed.DaemonSet("agent", "", intstr.FromInt32(1)).Spec.Template
	const s = time.Second
	type said struct {
		at     time.Duration
		status status
	}
	ready, killed, crashed := status{Ready: true}, status{Waiting: "CrashLoopBackOff", Ended: "OOMKilled", Restarts: 1}, status{Waiting: "CrashLoopBackOff", Ended: "Error"}
	for name, tc := range map[string]struct {
		all             []said
		boots           time.Duration // when its node has started again; 0: it has not
		ready, wasReady bool
		since           time.Duration // it is ready
	}{
		"ready":                      {all: []said{{s, ready}}, ready: true, since: s},
		"ready, and so again":        {all: []said{{s, ready}, {9 * s, ready}}, ready: true, since: s},
		"killed":                     {all: []said{{s, ready}, {20 * s, killed}}, wasReady: true},
		"killed, and up again":       {all: []said{{s, ready}, {20 * s, killed}, {21 * s, status{Ready: true, Restarts: 1}}}, ready: true, since: 21 * s},
		"crashes at once":            {all: []said{{s, crashed}, {5 * s, crashed}, {20 * s, crashed}}},
		"never ready":                {all: []said{{s, status{}}}},
		"its node has started again": {all: []said{{s, ready}, {20 * s, ready}}, boots: 10 * s, ready: true, since: 20 * s},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
			l := newLife(pod, at(0))
			for _, said := range tc.all {
				if tc.boots > 0 && said.at > tc.boots {
					l.boot()
				}
				pod.Status = l.report(said.status, at(said.at))
			}
			got := view.Pod(pod)
			if got.Ready != tc.ready || got.WasReady != tc.wasReady || got.Ready && !got.ReadySince.Equal(after(tc.since)) {
				t.Errorf("ready %t since %s, was ready %t; want %t, %s, %t", got.Ready, got.ReadySince, got.WasReady, tc.ready, after(tc.since), tc.wasReady)
			}
		})
	}
}
