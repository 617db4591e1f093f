package sim

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func readScript(t *testing.T, file string) *Scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return sc
}

var script = flag.String("script", "", "a scenario that TestScript plays, telling what happens")

// TestScript plays one scenario, such as one that TestProp has printed.
func TestScript(t *testing.T) {
	if *script == "" {
		t.Skip("no -script")
	}
	report, err := Play(readScript(t, *script), NoBug, func(s string) { t.Log(s) })
	t.Logf("%+v", report)
	if err != nil {
		t.Error(err)
	}
}

func readScripts(t *testing.T) (names []string, scripts []*Scenario) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d scripts (%v)", len(files), err)
	}
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".txtar"))
		scripts = append(scripts, readScript(t, file))
	}
	return names, scripts
}

// TestScripts replays testdata. With -v it prints what happens.
func TestScripts(t *testing.T) {
	names, scripts := readScripts(t)
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			var trace func(string)
			if testing.Verbose() {
				trace = func(s string) { t.Log(s) }
			}
			report, err := Play(scripts[i], NoBug, trace)
			t.Logf("%+v", report)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A scenario's text is complete: parsed again, it gives the same scenario.
func TestScriptsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := rapid.OneOf(rapid.Custom(drawScenario), rapid.Custom(drawReleased)).Draw(t, "scenario")
		again, err := Parse(sc.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
		if again.String() != sc.String() {
			t.Fatalf("was\n%s\nis\n%s", sc, again)
		}
		one, errOne := Play(sc, NoBug, nil)
		two, errTwo := Play(again, NoBug, nil)
		if one != two || (errOne == nil) != (errTwo == nil) {
			t.Fatalf("%+v %v, then %+v %v", one, errOne, two, errTwo)
		}
	})
}
