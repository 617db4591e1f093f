package fleetview

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"everynode/internal/fleetmap"
	"everynode/internal/plan"
)

// Cells survive being written and read back, and each takes three letters.
func TestCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digit := rapid.IntRange(0, NoWave)
		cells := Cells(rapid.SliceOf(rapid.Custom(func(t *rapid.T) Cell {
			return Cell{CellState(digit.Draw(t, "state")), uint8(digit.Draw(t, "reason")), uint8(digit.Draw(t, "wave"))}
		})).Draw(t, "cells"))
		text, err := json.Marshal(cells)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) != 3*len(cells)+2 {
			t.Fatalf("%d cells are %s", len(cells), text)
		}
		var again Cells
		if err := json.Unmarshal(text, &again); err != nil || !slices.Equal(cells, again) {
			t.Fatalf("%v became %v: %v", cells, again, err)
		}
	})
}

func TestCellsRefuse(t *testing.T) {
	if _, err := json.Marshal(Cells{{Reason: uint8(MaxReasons)}}); err == nil {
		t.Error("a reason that has no letter was written")
	}
	for _, text := range []string{`"ab"`, `"ab!"`, `"abcd"`, `7`} {
		if err := json.Unmarshal([]byte(text), &Cells{}); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

// There is a letter for each reason, and the states are those of the map in the terminal.
func TestWords(t *testing.T) {
	if n := len(plan.Reasons()) + 1; n > MaxReasons {
		t.Errorf("%d reasons, and letters for %d", n, MaxReasons)
	}
	for i, word := range CellStates() {
		if got := fleetmap.State(i).String(); got != word {
			t.Errorf("state %d is %q here and %q on the map of a terminal", i, word, got)
		}
	}
}

// A viewer that has a State and gets the Change has the next State.
func TestChangesLead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawState(t, nil), (*State)(nil)
		for range 3 {
			after = drawState(t, before)
			c := Between(before, after)
			if c == nil {
				if !same(before, after) {
					t.Fatalf("nothing is said to have changed between\n%+v\n%+v", before, after)
				}
				before = after
				continue
			}
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			var read Change
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			kept, _ := json.Marshal(before)
			if got := before.Apply(&read); !same(got, after) {
				a, _ := json.Marshal(got)
				b, _ := json.Marshal(after)
				t.Fatalf("with\n%s\nit became\n%s\nnot\n%s", text, a, b)
			}
			if again, _ := json.Marshal(before); string(kept) != string(again) {
				t.Fatal("the earlier State was changed")
			}
			before = after
		}
	})
}

// same reports whether two States are equal except for the time.
func same(a, b *State) bool {
	x, y := *a, *b
	x.At, y.At = 0, 0
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}

// drawState returns a State that may follow another one: it has at least as many nodes.
func drawState(t *rapid.T, before *State) *State {
	least := 0
	if before != nil {
		least = len(before.Nodes)
	}
	s := &State{At: int64(rapid.IntRange(0, 9).Draw(t, "at")), Stale: rapid.SampledFrom([]string{"", "since"}).Draw(t, "stale"), Nodes: []Node{}, Sets: []*Set{}}
	for range rapid.IntRange(least, least+3).Draw(t, "nodes") {
		s.Nodes = append(s.Nodes, Node{Name: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "node"), Down: rapid.SampledFrom([]string{"", "down"}).Draw(t, "down")})
	}
	for _, name := range []string{"one", "three", "two"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		if old := s.oldSet(before, name); old != nil && len(old.Cells) == len(s.Nodes) && rapid.Bool().Draw(t, "the same") {
			s.Sets = append(s.Sets, old)
			continue
		}
		s.Sets = append(s.Sets, drawSet(t, name, len(s.Nodes)))
	}
	return s
}

func (s *State) oldSet(before *State, name string) *Set {
	if before == nil {
		return nil
	}
	return before.byKey()["apps/"+name]
}

func drawSet(t *rapid.T, name string, nodes int) *Set {
	set := &Set{Head: Head{Namespace: "apps", Name: name, Revision: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "revision")}, Findings: []Finding{},
		History: History{Revisions: []Revision{}, Moments: []Moment{}}}
	set.Phase, set.Stopped, set.More = rapid.SampledFrom([]string{"", "rolls"}).Draw(t, "phase"), rapid.SampledFrom([]string{"", "so"}).Draw(t, "stopped"), rapid.IntRange(0, 2).Draw(t, "more")
	if rapid.Bool().Draw(t, "release") {
		set.Release = &Release{Number: rapid.IntRange(1, 2).Draw(t, "number")}
		set.Waves = []Wave{{Name: "first", There: rapid.IntRange(0, 1).Draw(t, "there")}}
		set.Pods = map[string]int{"x": rapid.IntRange(0, 1).Draw(t, "pods")}
		set.Budget = &Budget{Used: rapid.IntRange(0, 1).Draw(t, "used")}
	}
	for range rapid.IntRange(0, 2).Draw(t, "moments") {
		set.History.Moments = append(set.History.Moments, Moment{At: 1, Text: "it was so"})
	}
	for id := range 4 {
		if rapid.Bool().Draw(t, "finding") {
			set.Findings = append(set.Findings, Finding{ID: id, State: rapid.IntRange(3, 6).Draw(t, "state"), Nodes: rapid.IntRange(1, 2).Draw(t, "of")})
		}
	}
	SortFindings(set.Findings)
	for range nodes {
		set.Cells = append(set.Cells, Cell{CellState(rapid.IntRange(0, 6).Draw(t, "cell")), 0, 0})
	}
	if set.Cells == nil {
		set.Cells = Cells{}
	}
	return set
}

// The limits that the page promises.
const (
	fleetNodes, fleetSets = 5000, 20
	maxFirst              = 2_000_000 // bytes for the first State
	maxSecond             = 50_000    // bytes for each second of a rollout
)

// A State of 5,000 nodes and 20 DaemonSets, all with policies, is under 2 MB. A release of all 20 at once takes under 50 kB in
// each second, with two changes of each node that moves, and as many messages as a viewer gets in a second.
func TestSizes(t *testing.T) {
	first := largeState()
	text, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("at first: %d bytes", len(text))
	if len(text) > maxFirst {
		t.Errorf("%d bytes at first, at most %d", len(text), maxFirst)
	}
	const messages = 1000 / Pace
	worst, before := 0, first
	for second := range 20 {
		size := 0
		for i := range messages {
			after := before.rolledOn(second*messages+i, messages)
			text, err := json.Marshal(Between(before, after))
			if err != nil {
				t.Fatal(err)
			}
			size, before = size+len(text), after
		}
		worst = max(worst, size)
	}
	t.Logf("in a second of 20 releases: %d bytes in %d messages", worst, messages)
	if worst > maxSecond {
		t.Errorf("%d bytes in a second, at most %d", worst, maxSecond)
	}
}

func largeState() *State {
	s := &State{At: 1, Cluster: "https://203.0.113.7:6443", Sets: []*Set{}}
	for _, r := range plan.Reasons() {
		s.Reasons = append(s.Reasons, Reason{r.String(), r.Sentence()})
	}
	for i := range fleetNodes {
		s.Nodes = append(s.Nodes, Node{Name: fmt.Sprintf("ip-10-%d-%d-17.eu-central-1.compute.internal", i/250, i%250), Zone: "eu-central-1" + string('a'+byte(i%3)), Pool: "workers-m6i-2xlarge"})
	}
	for i := range fleetSets {
		set := &Set{Head: Head{Namespace: "kube-system", Name: fmt.Sprintf("agent-%02d", i), Revision: "7c9f5b88d4", Before: []string{"5d4c88f7b6"}, Phase: "Rolling tenth", Strategy: "RollingUpdate",
			Budget:  &Budget{MaxUnavailable: 50, Used: 50},
			Release: &Release{Number: 4, Phase: "Soaking", Reason: "NotSoaked", Message: "wave tenth has soaked for 12m3s of 30m", Policy: "node-agents", Stable: "5d4c88f7b6", Target: "7c9f5b88d4", Wave: "tenth", Quota: 500, Eligible: fleetNodes, Soak: "12m3s of 30m"},
			Waves:   []Wave{{Name: "canary", Nodes: 3, There: 3}, {Name: "tenth", Nodes: 497, Open: true}, {Name: "all", Nodes: 4500}}}}
		for j := range 10 {
			set.Findings = append(set.Findings, Finding{ID: j, State: 6, Node: s.Nodes[j].Name, Nodes: 3, Since: 1_790_000_000_000, Text: "Starting: CrashLoopBackOff (container main, exit code 3, 2 restarts): " + strings.Repeat("x", 120)})
		}
		for j := range 10 {
			set.History.Revisions = append(set.History.Revisions, Revision{Number: int64(j), Hash: "7c9f5b88d4", Created: 1_790_000_000_000, Images: []string{"registry.example.com/team/agent:v1.2.3"}})
		}
		for range 30 {
			set.History.Moments = append(set.History.Moments, Moment{At: 1_790_000_000_000, Kind: "revision", Text: "revision 3 (7c9f5b88d4): registry.example.com/team/agent:v1.2.3"})
		}
		set.Cells = make(Cells, fleetNodes)
		s.Sets = append(s.Sets, set)
	}
	return s
}

// rolledOn returns the State after the next message, number n, of several messages per second. In a second 50 nodes of each
// DaemonSet change twice, and so do its numbers; one finding changes in every third message. In one DaemonSet after the other a
// wave opens, which is added to its history.
func (s *State) rolledOn(n, messages int) *State {
	after := *s
	after.At += 1000 / int64(messages)
	after.Sets = nil
	moved := 100 / messages
	for i, old := range s.Sets {
		set := *old
		release := *old.Release
		release.Exposed, release.Soak, release.Message = moved/2*n, fmt.Sprintf("12m%ds of 30m", n), fmt.Sprintf("wave tenth has soaked for 12m%ds of 30m", n)
		set.Release, set.Waves = &release, slices.Clone(old.Waves)
		set.Waves[1].There, set.Pods = moved/2*n, map[string]int{"7c9f5b88d4": moved / 2 * n, "5d4c88f7b6": fleetNodes - moved/2*n}
		set.Cells, set.Findings = slices.Clone(old.Cells), slices.Clone(old.Findings)
		for j := range moved {
			c := &set.Cells[(moved*n+j)%fleetNodes]
			c.State, c.Reason = (c.State+1)%7, 3
		}
		if n%3 == 0 {
			set.Findings[n%10].Nodes += 7
		}
		if n%len(s.Sets) == i {
			set.Phase = fmt.Sprintf("Rolling in wave %d", n)
			opened := Moment{At: after.At, Kind: "wave", Text: "release 4: wave tenth opened"}
			set.History.Moments = append([]Moment{opened}, old.History.Moments[:len(old.History.Moments)-1]...)
		}
		after.Sets = append(after.Sets, &set)
	}
	return &after
}

func BenchmarkBetween(b *testing.B) {
	before := largeState()
	after := before.rolledOn(1, 1)
	for b.Loop() {
		if c := Between(before, after); len(c.Sets) != fleetSets || !reflect.DeepEqual(c.Gone, []string(nil)) {
			b.Fatal("not all DaemonSets have changed")
		}
	}
}
