package fleetmap

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the frames as they are drawn now into testdata")

// golden is a frame that is compared character by character.
type golden struct {
	name, about   string
	model         *Model
	width, height int
}

func goldens() []golden {
	return []golden{
		{"three", "three nodes without a zone: one block, and nothing beside it", threeNodes(), 80, 24},
		{"done", "an update that is through", &Model{Set: "apps/agent", Revision: "7c9f5b", Phase: "up to date", Zones: []Zone{{"", many(60, New)}}}, 80, 24},
		{"large", "5,000 nodes in three zones on a terminal of 80 columns and 24 rows", largeFleet(), 80, 24},
		{"wide", "the same where a node has a sign of its own", largeFleet(), 200, 60},
		{"zones", "40 zones: the first ones have rows, the others one together", fortyZones(), 80, 24},
		{"names", "names of 253 characters", longNames(), 80, 24},
		{"narrow", "20 columns", largeFleet(), 20, 24},
		{"harm", "a message can do nothing to the terminal", harmful(), 80, 24},
		{"rollout", "what a controller says of a release, and waves that do not fit into a line", inWaves(), 80, 24},
		{"hidden", "what the user may not read is said", hidden(), 80, 24},
		{"low", "six rows", largeFleet(), 80, 6},
		{"unread", "nothing was read yet, and why", unread(), 60, 24},
		{"empty", "a DaemonSet without a node", &Model{Set: "apps/agent", Phase: "up to date", Zones: []Zone{{}}}, 80, 24},
	}
}

func many(n int, s State) []State { return slices.Repeat([]State{s}, n) }

func threeNodes() *Model {
	return &Model{Set: "default/agent", Revision: "7c9f5b", Before: []string{"5d4c88"}, Phase: "updating", Command: "everynode why ds/agent --not-ok",
		Zones:      []Zone{{"", []State{New, Failing, Old}}},
		Exceptions: []Exception{{Node: "node-2", State: Failing, Since: "14:03:11", Text: "Starting: CrashLoopBackOff (container main, exit code 3, 2 restarts)"}}}
}

func largeFleet() *Model {
	m := &Model{Set: "kube-system/agent", Revision: "7c9f5b", Before: []string{"5d4c88"}, Phase: "updating", Command: "everynode why ds/agent -n kube-system --not-ok", More: 12}
	for i, z := range []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"} {
		nodes := slices.Concat(many(400*(3-i), New), many(20, Starting), many(1671-400*(3-i)-20-5, Old), many(5, NotMeant))
		nodes[100+i], nodes[900] = Failing, Down
		m.Zones = append(m.Zones, Zone{z, nodes[:1667-i]})
	}
	for i := range 14 {
		m.Exceptions = append(m.Exceptions, Exception{Node: fmt.Sprintf("ip-10-0-%d-17.eu-central-1.compute.internal", i), Same: i % 3, State: Failing, Since: "14:03:11",
			Text: "Starting: ImagePullBackOff registry.example.com/team/agent:v2 (container main): 401 Unauthorized"})
	}
	return m
}

func fortyZones() *Model {
	m := &Model{Set: "apps/agent", Revision: "7c9f5b", Phase: "up to date"}
	for i := range 40 {
		m.Zones = append(m.Zones, Zone{fmt.Sprintf("zone-%02d", i), many(i+1, New)})
	}
	m.Zones[39].Nodes[3] = Failing
	return m
}

func longNames() *Model {
	name := strings.Repeat("n", 250) + "-01"
	return &Model{Set: strings.Repeat("a", 253) + "/" + strings.Repeat("b", 253), Revision: "7c9f5b", Phase: "updating", Zones: []Zone{{strings.Repeat("z", 63), []State{Failing, New}}},
		Exceptions: []Exception{{Node: name, Same: 1234, State: Failing, Since: "14:03:11", Text: "NotReady"}, {Node: name[:251] + "2", State: Down, Text: "down"}}}
}

func harmful() *Model {
	return &Model{Set: "apps/agent", Revision: "7c9f5b", Phase: "updating", Stale: "since 14:03:11: \x1b]0;title\x07", Command: "everynode why ds/agent -n apps --not-ok",
		Zones: []Zone{{"eu\x1b[2J\u202e", []State{Failing}}},
		Exceptions: []Exception{
			{Node: "n\x1b[1A1", State: Failing, Text: "exit 1: \x1b[31mred\x1b[0m\r\nnew line\x00\x9b2J\u202eback\u2028"},
			{Node: "n2", State: Failing, Text: `<script>alert(1)</script> <img src=x onerror="alert(1)">`},
			{Node: "n3", State: Failing, Text: "日本語のメッセージ 🚀 e\u0301 " + strings.Repeat("世界", 40)}}}
}

func unread() *Model {
	return &Model{Set: "apps/agent", Unread: "since 14:03:11, trying again: pods: an error on the server (\"etcd is full\x1b[2J\") has prevented the request from succeeding (get pods)"}
}

func inWaves() *Model {
	m := threeNodes()
	m.Rollout = &Rollout{Phase: "Soaking", Reason: "NotSoaked", Wave: "tenth", Quota: 500, Exposed: 500, Failed: 1, Soak: "12m of 1h"}
	m.Waves = []Wave{{"canary", 3, 3}}
	for i := range 8 {
		m.Waves = append(m.Waves, Wave{fmt.Sprintf("rest/zone-%d", i), 100, max(0, 100-40*max(0, i-2))})
	}
	return m
}

func hidden() *Model {
	m := threeNodes()
	m.Hidden = `releases are not shown: daemonsetrollouts.everynode.io is forbidden: User "eva" cannot list resource`
	return m
}

func TestFrames(t *testing.T) {
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			var got bytes.Buffer
			for _, l := range Frame(g.model, g.width, g.height) {
				fmt.Fprintln(&got, l.Plain())
			}
			file := filepath.Join("testdata", g.name+".txtar")
			if *update {
				data := txtar.Format(&txtar.Archive{Comment: []byte(g.about + "\n"), Files: []txtar.File{{Name: "frame", Data: got.Bytes()}}})
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want.Files[0].Data, got.Bytes()) {
				t.Errorf("got\n%s\nwant\n%s", &got, want.Files[0].Data)
			}
		})
	}
}

// Colours add nothing but colour codes, and each is reset where it ends.
func TestColours(t *testing.T) {
	colour := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for _, g := range goldens() {
		for _, l := range Frame(g.model, g.width, g.height) {
			text := l.Coloured()
			if got := strings.TrimRight(colour.ReplaceAllString(text, ""), " "); got != l.Plain() {
				t.Errorf("%s: %q has %q without its colours", g.name, l.Plain(), got)
			}
			if last := strings.LastIndex(text, "\x1b["); last >= 0 && !strings.HasPrefix(text[last:], "\x1b[0m") {
				t.Errorf("%s: the colour goes on after %q", g.name, text)
			}
		}
	}
}

// Each state has a sign, a word and a colour of its own.
func TestStatesDiffer(t *testing.T) {
	seen := map[string]State{}
	for s := range State(states) {
		look := s.look()
		for _, mark := range []string{string(look.sign), look.name, "colour " + look.colour} {
			if other, twice := seen[mark]; twice {
				t.Errorf("%s and %s both have %q", s, other, mark)
			}
			seen[mark] = s
		}
	}
}

// Every node is in exactly one cell, and the map does not exceed the rows and columns
// asked for.
func TestArrangeHasEveryNodeOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 300), func(n int) Zone { return Zone{Nodes: make([]State, n)} }), 0, 50).Draw(t, "zones")
		columns, rows := rapid.IntRange(1, 200).Draw(t, "columns"), rapid.IntRange(1, 60).Draw(t, "rows")
		all := 0
		for i := range zones {
			all += len(zones[i].Nodes)
		}
		blocks, perCell := arrange(zones, columns, rows)
		height, there := 0, 0
		for _, b := range blocks {
			next := 0
			for _, row := range b.rows {
				height++
				if len(row) > columns {
					t.Fatalf("a row has %d cells, there is room for %d", len(row), columns)
				}
				for _, c := range row {
					if c.from != next || c.to <= c.from || c.to-c.from > perCell {
						t.Fatalf("%+v follows node %d, with at most %d in a cell", c, next, perCell)
					}
					next = c.to
				}
			}
			if next != len(b.zone.Nodes) {
				t.Fatalf("%d of %d nodes are in cells", next, len(b.zone.Nodes))
			}
			there += next
		}
		if there != all || height > rows {
			t.Fatalf("%d of %d nodes in %d rows, at most %d", there, all, height, rows)
		}
		if perCell > 1 && rowsOf(fold(nonEmpty(zones), rows), columns, perCell-1) <= rows {
			t.Fatalf("%d nodes in a cell, although fewer would do", perCell)
		}
	})
}

func nonEmpty(zones []Zone) []Zone {
	return slices.DeleteFunc(slices.Clone(zones), func(z Zone) bool { return len(z.Nodes) == 0 })
}

// Every frame fits, and contains nothing that a terminal would execute.
func TestFramesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		m := &Model{Set: text.Draw(t, "set"), Revision: text.Draw(t, "revision"), Before: rapid.SliceOfN(text, 0, 3).Draw(t, "before"), Phase: text.Draw(t, "phase"),
			Stale: text.Draw(t, "stale"), Hidden: text.Draw(t, "hidden"), Command: text.Draw(t, "command"), Unread: rapid.OneOf(rapid.Just(""), text).Draw(t, "unread"), More: rapid.IntRange(0, 5000).Draw(t, "more")}
		for range rapid.IntRange(0, 50).Draw(t, "zones") {
			state := State(rapid.IntRange(0, states-1).Draw(t, "state"))
			m.Zones = append(m.Zones, Zone{text.Draw(t, "zone"), many(rapid.IntRange(0, 500).Draw(t, "nodes"), state)})
			m.Waves = append(m.Waves, Wave{text.Draw(t, "wave"), 3, rapid.IntRange(0, 3).Draw(t, "there")})
		}
		for range rapid.IntRange(0, 20).Draw(t, "exceptions") {
			m.Exceptions = append(m.Exceptions, Exception{Node: text.Draw(t, "node"), Same: rapid.IntRange(0, 5000).Draw(t, "same"), Since: text.Draw(t, "since"), Text: text.Draw(t, "text")})
		}
		if rapid.Bool().Draw(t, "rollout") {
			m.Rollout = &Rollout{Phase: text.Draw(t, "its phase"), Reason: text.Draw(t, "reason"), Wave: text.Draw(t, "open wave"), Soak: text.Draw(t, "soak")}
		}
		columns, rows := rapid.IntRange(1, 200).Draw(t, "columns"), rapid.IntRange(0, 60).Draw(t, "rows")
		lines := Frame(m, columns, rows)
		if len(lines) > rows {
			t.Fatalf("%d lines, there is room for %d", len(lines), rows)
		}
		for _, l := range lines {
			plain := l.Plain()
			if width(plain) > columns {
				t.Fatalf("%d columns of %d: %q", width(plain), columns, plain)
			}
			if harmless(plain) != plain {
				t.Fatalf("%q is not harmless", plain)
			}
		}
	})
}
