package monitoring_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// dashboard is what Grafana needs for a dashboard.
type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []struct{ Name, Type, Definition string } `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ H, W, X, Y int }
	Datasource  struct{ UID string }
	Targets     []struct {
		RefID, Expr string
		Datasource  struct{ UID string }
	}
}

// The dashboard can be loaded: each panel has a place of its own and queries the selected Prometheus for what the
// controller exports.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion == 0 || len(d.Panels) < 10 {
		t.Errorf("%s %q, version %d, %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	variables, known := map[string]bool{"__rate_interval": true}, metrics(t)
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	ids, places := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice || p.ID == 0 || p.Title == "" {
			t.Errorf("%q has the id %d, as %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%q is at %+v, of 24 columns", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := places[at]; taken {
					t.Fatalf("%q is where %q is", p.Title, other)
				}
				places[at] = p.Title
			}
		}
		if p.Type != "row" {
			checkPanel(t, &p, variables, known)
		}
	}
	checkReleases(t, d.Panels, known)
}

// checkReleases checks that each metric of releases is in a panel.
func checkReleases(t *testing.T, panels []panel, known map[string]metric) {
	t.Helper()
	shown, of := "", 0
	for _, p := range panels {
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
		}
	}
	for name := range known {
		if !strings.Contains(name, "release_") {
			continue
		}
		if of++; !strings.Contains(shown, name+"{") {
			t.Errorf("no panel shows %s", name)
		}
	}
	if of == 0 {
		t.Error("testdata/metrics.txt has no metric of releases")
	}
}

func checkPanel(t *testing.T, p *panel, variables map[string]bool, known map[string]metric) {
	t.Helper()
	if len(p.Targets) == 0 || p.Description == "" || p.Datasource.UID != "${datasource}" {
		t.Errorf("%q has %d targets, the datasource %q and the description %q", p.Title, len(p.Targets), p.Datasource.UID, p.Description)
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if refs[target.RefID] || target.RefID == "" || target.Datasource.UID != "${datasource}" {
			t.Errorf("%q: target %q of %q", p.Title, target.RefID, target.Datasource.UID)
		}
		refs[target.RefID] = true
		for _, after := range strings.Split(target.Expr, "$")[1:] {
			name := after[:len(after)-len(strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyz_"))]
			if !variables[name] {
				t.Errorf("%q: there is no variable %q", p.Title, name)
			}
		}
		for _, w := range wrongIn(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), known) {
			t.Errorf("%q: %s", p.Title, w)
		}
	}
}
