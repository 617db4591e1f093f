package engine

import (
	"testing"
	"time"

	"everynode/internal/plan"
)

// A create under way is shown as a pod that may exist, or as the one that the watch has shown meanwhile; never as a pod that
// was known when it was decided, even if that one had the name before. A delete is shown on its pod, whoever has requested
// it.
func TestOverlay(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	create := &write{create: &plan.Create{Node: "n"}, hash: "b", names: []string{"agent-x", "agent-y"}, known: []string{"uid-before"}}
	altering := map[string]*write{"uid-going": {remove: &plan.Delete{UID: "uid-going"}}}
	pod := func(name, uid string) *plan.Pod { return &plan.Pod{Name: name, UID: uid, Node: "n", Bound: true} }
	for what, tc := range map[string]struct {
		pods []*plan.Pod
		want map[string]bool // by UID: whether it is uncertain; "": the create's own pod
	}{
		"nothing there":               {nil, map[string]bool{"": true}},
		"one of its names, new":       {[]*plan.Pod{pod("agent-y", "uid-new")}, map[string]bool{"uid-new": true}},
		"one of its names, known":     {[]*plan.Pod{pod("agent-x", "uid-before")}, map[string]bool{"uid-before": false, "": true}},
		"another name":                {[]*plan.Pod{pod("agent-z", "uid-z")}, map[string]bool{"uid-z": false, "": true}},
		"a pod that is being deleted": {[]*plan.Pod{pod("agent-z", "uid-going")}, map[string]bool{"uid-going": true, "": true}},
	} {
		s := &plan.Sight{Name: "n", Pods: tc.pods}
		overlay(s, []*write{create}, altering, now)
		if len(s.Pods) != len(tc.want) {
			t.Errorf("%s: %d pods, want %d", what, len(s.Pods), len(tc.want))
		}
		for _, p := range s.Pods {
			if uncertain, there := tc.want[p.UID]; !there || uncertain != p.Uncertain || p.Assumed != (p.UID == "") {
				t.Errorf("%s: %+v", what, p)
			}
		}
	}
}

// The watch may show that a pod is being deleted before our request is answered. The pod counts as deleted since the request
// began, and a node that broke after that was well before.
func TestOverlayOfADeleteThatAWatchHasShown(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	altering := map[string]*write{"uid-going": {remove: &plan.Delete{UID: "uid-going"}, began: 16}}
	for shown, want := range map[plan.Moment]plan.Moment{18: 16, 12: 12} {
		s := &plan.Sight{Name: "n", Pods: []*plan.Pod{{Name: "agent-x", UID: "uid-going", Node: "n", Deleted: now, SeenDeleted: shown}}}
		overlay(s, nil, altering, now)
		if p := s.Pods[0]; p.SeenDeleted != want || p.Uncertain {
			t.Errorf("shown at %d: %+v, want %d", shown, p, want)
		}
	}
}
