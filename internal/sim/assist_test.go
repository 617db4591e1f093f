package sim

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawAssisted makes a cluster whose own DaemonSet controller has the pods, beside which releases go in waves.
func drawAssisted(t *rapid.T) *Scenario {
	sc := drawReleased(t)
	sc.Assists, sc.Set.OnDelete, sc.Set.MaxSurge = true, true, ""
	if sc.Set.MaxUnavailable == "0" {
		sc.Set.MaxUnavailable = "1"
	}
	for i := range sc.Events {
		e := &sc.Events[i]
		switch {
		case e.Op == "set" && e.Args[0] == "maxSurge", pick(t, "other", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) == 9:
			e.Op, e.Args = "set", []string{"strategy", pick(t, "type", "OnDelete", "OnDelete", "RollingUpdate")}
		case pick(t, "other", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) == 9:
			e.Op, e.Args = "still", []string{(time.Duration(rapid.IntRange(1, 40).Draw(t, "long")) * time.Second).String()}
		case pick(t, "other", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) == 9:
			e.Op, e.Args = "twice", []string{pick(t, "node", "n0", "n1", "n2", "n3")}
		}
	}
	return sc
}

// Whatever happens, and whatever the DaemonSet controller of the cluster does beside it, no more nodes are given the target than the
// quota, leaks counted as far as they are known, and in the end all have what people have asked for. A failure prints the scenario.
func TestAssists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawAssisted(t)
		if err := Run(sc); err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
	})
}
