package main

import (
	"testing"
	"time"
)

// seen is one event: of a pod, or of a node.
type seen struct {
	at   int // seconds
	pod  sight
	node string
	down bool
}

// counts is the result of a list of events.
type counts struct {
	exposed, most, without, badPods int
	last                            int // seconds
	acted                           int // seconds
	well                            bool
}

func TestTally(t *testing.T) {
	begin := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	ready := func(uid, node, version string) sight {
		return sight{UID: uid, Node: node, Version: version, Ready: true}
	}
	stopping := func(s sight) sight { s.Terminating = true; return s }
	gone := func(s sight) sight { s.Gone = true; return s }
	unready := func(s sight) sight { s.Ready = false; return s }
	a, b, c := ready("1", "a", "good"), ready("2", "b", "good"), ready("3", "c", "good")
	badA, badB := ready("4", "a", "bad"), ready("5", "b", "bad")
	for name, tc := range map[string]struct {
		record []seen
		want   counts
	}{
		"nothing happens": {nil, counts{well: true}},
		"a pod that ends is not a working pod": {
			[]seen{{at: 1, pod: stopping(a)}, {at: 9, pod: gone(stopping(a))}},
			counts{most: 1, without: 1, acted: 1},
		},
		"one after the other is never two at once": {
			[]seen{{at: 1, pod: stopping(a)}, {at: 2, pod: gone(a)}, {at: 3, pod: badA}, {at: 4, pod: stopping(b)}, {at: 5, pod: badB}},
			counts{exposed: 2, most: 1, badPods: 2, last: 5, acted: 5},
		},
		"a bad pod that is not ready": {
			[]seen{{at: 1, pod: gone(a)}, {at: 2, pod: unready(badA)}, {at: 3, pod: gone(b)}, {at: 9, pod: unready(badB)}},
			counts{exposed: 2, most: 2, without: 2, badPods: 2, last: 9, acted: 9},
		},
		"a node is exposed once, and stays so when the pod has gone": {
			[]seen{{at: 1, pod: badA}, {at: 2, pod: gone(badA)}, {at: 3, pod: ready("6", "a", "bad")}, {at: 4, pod: gone(ready("6", "a", "bad"))}},
			counts{exposed: 1, last: 1, acted: 4, well: true},
		},
		"a bad pod that works is not well": {
			[]seen{{at: 1, pod: badA}},
			counts{exposed: 1, badPods: 1, last: 1, acted: 1},
		},
		"a node that is down has no working pod, whatever its pod says": {
			[]seen{{at: 1, node: "a", down: true}, {at: 2, pod: a}, {at: 3, node: "b", down: true}, {at: 4, node: "b"}},
			counts{most: 2, without: 1},
		},
		"a node is down once": {
			[]seen{{at: 1, node: "a", down: true}, {at: 2, node: "a", down: true}, {at: 3, node: "a"}},
			counts{most: 1, well: true},
		},
		"two working pods are one node": {
			[]seen{{at: 1, pod: badA}, {at: 2, pod: gone(a)}, {at: 3, pod: gone(badA)}, {at: 4, pod: a}},
			counts{exposed: 1, most: 1, last: 1, acted: 4, well: true},
		},
		"a pod that was never seen goes": {
			[]seen{{at: 1, pod: gone(badB)}},
			counts{well: true},
		},
		"all at once": {
			[]seen{{at: 1, pod: unready(a)}, {at: 1, pod: unready(b)}, {at: 1, pod: unready(c)}, {at: 2, pod: a}},
			counts{most: 3, without: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tally := newTally(3)
			for _, p := range []sight{a, b, c} {
				tally.pod(begin, p)
			}
			tally.begin("bad")
			for _, e := range tc.record {
				if e.node != "" {
					tally.node(e.node, e.down)
				} else {
					tally.pod(begin.Add(time.Duration(e.at)*time.Second), e.pod)
				}
			}
			got := counts{exposed: len(tally.exposed), most: tally.most, without: tally.without(), badPods: tally.badPods, well: tally.well()}
			if got.exposed > 0 {
				got.last = int(tally.last.Sub(begin).Seconds())
			}
			if !tally.acted.IsZero() {
				got.acted = int(tally.acted.Sub(begin).Seconds())
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// Bad pods that exist when counting begins count as bad pods, but their nodes do not
// count as newly exposed.
func TestTallyBegins(t *testing.T) {
	tally := newTally(2)
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	tally.pod(now, sight{UID: "1", Node: "a", Version: "bad", Ready: true})
	tally.begin("bad")
	if !tally.acted.IsZero() {
		t.Errorf("what was seen before counts: %s", tally.acted)
	}
	if tally.badPods != 1 || len(tally.exposed) != 0 || tally.most != 1 {
		t.Errorf("%d bad pods, %d exposed, at most %d without; want 1, 0, 1", tally.badPods, len(tally.exposed), tally.most)
	}
	tally.node("b", true)
	if tally.up() {
		t.Error("node b is down")
	}
	if tally.node("b", false); !tally.up() {
		t.Error("node b is up again")
	}
}
