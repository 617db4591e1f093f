package sim

import (
	"testing"

	"pgregory.net/rapid"
)

// mayRuns is how many runs it may take to find a planted bug. Most are found within a
// hundred; what needs a coincidence takes longer.
const mayRuns = 20000

// A simulator that cannot fail proves nothing. Each planted bug must be found.
func TestBugsAreFound(t *testing.T) {
	findBugs(t, Bugs(), rapid.Custom(drawScenario))
	findBugs(t, OfReleases(), rapid.Custom(drawReleased))
	findBugs(t, OfAssisting(), rapid.Custom(drawAssisted))
	findBugs(t, OfChanging(), rapid.Custom(drawChanging))
}

func findBugs(t *testing.T, bugs []Bug, scenarios *rapid.Generator[*Scenario]) {
	files, scripts := readScripts(t)
	for _, bug := range bugs {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			scripted := false
			for i, sc := range scripts {
				if _, err := Play(sc, bug, nil); err != nil {
					t.Logf("found by %s: %v", files[i], err)
					scripted = true
				}
			}
			runs := mayRuns
			if scripted {
				runs /= 10
			}
			for i := range runs {
				if _, err := Play(scenarios.Example(i), bug, nil); err != nil {
					t.Logf("found after %d runs: %v", i+1, err)
					return
				}
			}
			if scripted {
				return
			}
			t.Errorf("not found in %d runs", runs)
		})
	}
}
