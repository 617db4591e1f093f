package sim

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawAssisted draws a cluster whose own DaemonSet controller manages the pods, while releases go in waves beside it.
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

// Whatever happens, and whatever the cluster's DaemonSet controller does, the model controller gives the target to no more nodes
// than the quota, minus the leaks that it knows of. In the end all nodes have what people have asked for. A failure prints the
// scenario.
func TestAssists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawAssisted(t)
		if err := Run(sc); err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
	})
}
