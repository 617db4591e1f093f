package sim_test

import (
	"fmt"

	"everynode/internal/sim"
)

// A scenario is text, and the same text always runs the same way.
func ExamplePlay() {
	scenario, err := sim.Parse(`A node joins while the others already have their pods.
-- set --
maxUnavailable 1
-- revisions --
a good
-- nodes --
node-1
node-2
-- events --
30s join node-3
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := sim.Play(scenario, sim.NoBug, func(string) {})
	fmt.Println(report.Creates, "pods were created;", err)
	// Output:
	// 3 pods were created; <nil>
}
