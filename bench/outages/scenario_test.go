package main

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"everynode/bench/testbed"
)

func TestScenarios(t *testing.T) {
	names, public := map[string]bool{}, 0
	for _, s := range scenarios() {
		if names[s.Name] || s.Name == "" || s.Title == "" {
			t.Errorf("%q: a scenario has a name of its own and a title", s.Name)
		}
		names[s.Name] = true
		if (s.Kind == release) != (s.Bad != behaviour{}) {
			t.Errorf("%s: a release is of a bad version, and nothing else is", s.Name)
		}
		if rest := s.Observe - releaseEvery*time.Duration(max(1, s.Versions)-1); rest < releaseEvery {
			t.Errorf("%s: the last version is watched for %s alone", s.Name, rest)
		}
		for _, from := range s.Sources {
			if u, err := url.Parse(from.URL); err != nil || u.Scheme != "https" || u.Host == "" || from.What == "" {
				t.Errorf("%s: source %+v", s.Name, from)
			}
		}
		if len(s.Sources) > 0 {
			public++
		}
	}
	if public < 8 {
		t.Errorf("%d scenarios have happened in public, want 8", public)
	}
}

func TestVersions(t *testing.T) {
	for _, s := range scenarios() {
		bad, counted := s.bad(), s.counted()
		if _, ok := bad[testbed.Image("1")]; ok || slices.Contains(counted, testbed.Image("1")) {
			t.Errorf("%s: what runs before is a good version", s.Name)
		}
		want := map[kind]int{release: max(1, s.Versions), selector: 1, dependency: 1}[s.Kind]
		if len(counted) != want {
			t.Errorf("%s: nodes with %v are exposed, want %d versions", s.Name, counted, want)
		}
		for v, b := range bad {
			if b != s.Bad || !slices.Contains(counted, v) {
				t.Errorf("%s: version %s is %+v", s.Name, v, b)
			}
		}
	}
}

func TestPrint(t *testing.T) {
	r := &results{Nodes: 1000, Scale: 60, Versions: "v1", CPUs: 2, Memory: 8e9, Started: time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)}
	r.add(&result{Scenario: "crash", System: everynode, Exposed: 1, Most: 2, Stopped: 12 * time.Second, Recovery: 90 * time.Second, By: "abort"})
	r.add(&result{Scenario: "crash", System: upstream, Exposed: 100, Before: 50, Most: 101, Stopped: 7*time.Minute + 30*time.Second, Never: true, Left: 3, LeftBad: 4})
	for name, want := range map[string][]string{
		"table":    {"crash 1 100 (50 before) 2 101 12 s 7.5 min 1.5 min not within 40 min: 3 nodes without, 4 bad pods"},
		"markdown": {"| `crash`: it crashes at once | 1 | 100 (50 before) | 2 | 101 | 12 s | 7.5 min | 1.5 min | not within 40 min: 3 nodes without, 4 bad pods |", "a minute of the fleet lasts 1 s"},
		"json":     {`"nodesExposed": 100,`, `"timeScale": 60,`},
	} {
		var b strings.Builder
		if err := formats()[name](&b, r); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(strings.FieldsFunc(b.String(), func(c rune) bool { return c == ' ' }), " ")
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%s has no %q:\n%s", name, text, b.String())
			}
		}
		if strings.Contains(b.String(), "bad-image") {
			t.Errorf("%s: a scenario that was not played is printed", name)
		}
	}
}

// What is judged by real time has a fleet that is slower, and only then.
func TestScales(t *testing.T) {
	for text, want := range map[string][]float64{"": {60, 10}, "api-flood": {10}, "crash,leak": {60}} {
		o := &outages{settings: settings{scale: 60, only: strings.FieldsFunc(text, func(c rune) bool { return c == ',' })}}
		if got := o.scales(); !slices.Equal(got, want) {
			t.Errorf("%q has the scales %v, not %v", text, got, want)
		}
	}
	if o := (&outages{settings: settings{scale: 5}}); !slices.Equal(o.scales(), []float64{5}) {
		t.Errorf("a slow measurement has the scales %v", o.scales())
	}
}

func TestMerge(t *testing.T) {
	part := func(nodes int, names ...string) *results {
		r := &results{Nodes: nodes, Scale: 60, Seconds: 10}
		for _, name := range names {
			r.add(&result{Scenario: name, System: everynode})
		}
		return r
	}
	all, err := merge([]*results{part(100, "crash"), part(100, "leak", "bad-image")})
	if err != nil || len(all.Results) != 3 || all.Seconds != 20 || all.of("leak", everynode) == nil {
		t.Errorf("got %+v, %v", all, err)
	}
	if _, err := merge([]*results{part(100, "crash"), part(200, "leak")}); err == nil {
		t.Error("results of different fleets stand in one table")
	}
}

// The policy is the default one, faster by the time scale.
func TestPolicy(t *testing.T) {
	spec := policy(60)
	var text []string
	for _, w := range spec["waves"].([]any) {
		w := w.(map[string]any)
		text = append(text, strings.Join([]string{w["name"].(string), w["soak"].(string)}, " "))
	}
	if got := strings.Join(text, ", "); got != "first 10s, tenth 10s, all 10s" {
		t.Errorf("waves %s", got)
	}
	if got := spec["failure"].(map[string]any)["startWithin"]; got != "10s" {
		t.Errorf("startWithin %v", got)
	}
}
