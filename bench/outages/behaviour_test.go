package main

import (
	"reflect"
	"testing"
	"time"
)

// first returns the first n steps of a version's pod, with times since the pod
// was bound.
func first(b behaviour, n int) (all []step) {
	at := time.Duration(0)
	for s := range b.steps() {
		at += s.After
		s.After = at
		if all = append(all, s); len(all) == n {
			break
		}
	}
	return all
}

func TestSteps(t *testing.T) {
	const s, m = time.Second, time.Minute
	loop := func(restarts int, why string) status {
		return status{Waiting: "CrashLoopBackOff", Restarts: restarts, Ended: why}
	}
	for name, tc := range map[string]struct {
		version behaviour
		want    []step
	}{
		"well":        {behaviour{}, []step{{After: 30 * s, Status: status{Ready: true}}}},
		"never ready": {behaviour{NeverReady: true}, []step{{After: 30 * s}}},
		"no image":    {behaviour{Waiting: "ImagePullBackOff"}, []step{{After: 30 * s, Status: status{Waiting: "ImagePullBackOff"}}}},
		"takes its node down": {
			behaviour{BreaksNode: true, BreaksAfter: 2 * m},
			[]step{{After: 30 * s, Status: status{Ready: true}}, {After: 2*m + 30*s, BreaksNode: true}},
		},
		"crashes at once, and is started later each time": {
			behaviour{Ends: "Error"},
			[]step{
				{After: 30 * s, Status: loop(0, "Error")}, {After: 30 * s, Status: loop(1, "Error")}, {After: 40 * s, Status: loop(2, "Error")},
				{After: 60 * s, Status: loop(3, "Error")}, {After: 100 * s, Status: loop(4, "Error")}, {After: 180 * s, Status: loop(5, "Error")},
				{After: 340 * s, Status: loop(6, "Error")}, {After: 640 * s, Status: loop(7, "Error")}, {After: 940 * s, Status: loop(8, "Error")},
			},
		},
		"leaks: the kubelet has forgotten its back-off": {
			behaviour{Ends: "OOMKilled", EndsAfter: 20 * m},
			[]step{
				{After: 30 * s, Status: status{Ready: true}},
				{After: 30*s + 20*m, Status: loop(0, "OOMKilled")},
				{After: 40*s + 20*m, Status: status{Ready: true, Restarts: 1, Ended: "OOMKilled"}},
				{After: 40*s + 40*m, Status: loop(1, "OOMKilled")},
				{After: 50*s + 40*m, Status: status{Ready: true, Restarts: 2, Ended: "OOMKilled"}},
				{After: 50*s + 60*m, Status: loop(2, "OOMKilled")},
				{After: 60*s + 60*m, Status: status{Ready: true, Restarts: 3, Ended: "OOMKilled"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := first(tc.version, len(tc.want)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got\n%+v, want\n%+v", got, tc.want)
			}
		})
	}
}

// Only a container that ends is started again: all other lives end.
func TestStepsEnd(t *testing.T) {
	for _, s := range scenarios() {
		if got := len(first(s.Bad, 50)); (got == 50) != (s.Bad.Ends != "") {
			t.Errorf("%s: %d steps", s.Name, got)
		}
	}
}
