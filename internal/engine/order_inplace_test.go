package engine

import (
	"testing"
	"time"

	"everynode/internal/plan"
)

// TestReadyCountsFromTheNewContainers: a pod that is changed in place may stay ready all the time, and its kubelet writes times
// in whole seconds. How long it has been ready counts from when its containers are those of the change, whatever they looked
// like before.
func TestReadyCountsFromTheNewContainers(t *testing.T) {
	before, changed := time.Unix(1000, 0), time.Unix(2000, 0)
	type state struct {
		changing, settled bool
		settles           time.Duration
	}
	old, doubted, new := state{changing: true}, state{changing: true, settles: 40 * time.Second}, state{}
	for what, c := range map[string]struct {
		from, to state
		begins   bool
	}{
		"the old container":                     {old, old, false},
		"the new one in its place":              {old, new, true},
		"one that looks like the old":           {old, doubted, true},
		"the same doubt":                        {doubted, doubted, false},
		"the new one in the place of a doubted": {doubted, new, true},
		"a new one that was perhaps not probed": {doubted, state{changing: true, settles: 20 * time.Second}, true},
		"a doubt that time has ended":           {doubted, state{settled: true}, false},
		"the new container":                     {new, new, false},
	} {
		pod := func(s state) *podEntry {
			e := &podEntry{settled: s.settled}
			e.Ready, e.ReadySince, e.Changed, e.Changing, e.Settles = true, before, changed, s.changing, s.settles
			e.readyStamp = before.Unix()
			return e
		}
		from, to, now := pod(c.from), pod(c.to), before.Add(time.Minute)
		to.followReady(from, plan.Moment(1), now)
		if got := to.ReadySince.Equal(now); got != c.begins {
			t.Errorf("%s: counts again: %t, want %t", what, got, c.begins)
		}
	}
}
