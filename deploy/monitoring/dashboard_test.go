package monitoring_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is what Grafana needs for a dashboard.
type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

// variable is what people choose above the panels.
type variable struct {
	Name, Type, Definition, AllValue string
	IncludeAll, Multi                bool
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ H, W, X, Y int }
	Datasource  struct{ UID string }
	Targets     []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ UID string }
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
	checkVariables(t, d.Templating.List)
}

// ofClusters returns what is wrong with an expression if one Prometheus has several clusters: it must select the chosen ones, and add
// nothing up, and take no maximum, over what belongs to different ones. Where it shows each cluster, the legend must name it.
func ofClusters(expression, legend string) (wrong []string) {
	tree, err := newParser().ParseExpr(expression)
	if err != nil {
		return []string{err.Error()}
	}
	apart := true
	parser.Inspect(tree, func(n parser.Node, above []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if !slices.ContainsFunc(n.LabelMatchers, func(m *labels.Matcher) bool { return m.String() == `cluster=~"$cluster"` }) {
				wrong = append(wrong, fmt.Sprintf("%s is not of the chosen clusters", n.Name))
			}
			inner := len(above) - 1 // the innermost aggregation
			for inner >= 0 {
				if a, ok := above[inner].(*parser.AggregateExpr); ok {
					if !slices.Contains(a.Grouping, "cluster") || a.Without {
						wrong = append(wrong, fmt.Sprintf("%s mixes clusters", a))
					}
					break
				}
				inner--
			}
		case *parser.AggregateExpr:
			apart = apart && slices.Contains(n.Grouping, "cluster")
		}
		return nil
	})
	if apart && !strings.Contains(legend, "{{cluster}}") {
		wrong = append(wrong, "the legend does not name the cluster")
	}
	return wrong
}

func TestOfClustersFinds(t *testing.T) {
	for _, c := range []struct{ expression, legend, want string }{
		{`sum by (cluster) (a{cluster=~"$cluster"})`, "{{cluster}}", ""},
		{`sum(max by (cluster) (a{cluster=~"$cluster"}))`, "", ""},
		{`abs(a{cluster=~"$cluster"})`, "{{cluster}}", ""},
		{`sum(a{cluster=~"$cluster"})`, "", "mixes clusters"},
		{`max by (b) (rate(a{cluster=~"$cluster"}[5m]))`, "", "mixes clusters"},
		{`max without (cluster) (a{cluster=~"$cluster"})`, "{{cluster}}", "mixes clusters"},
		{`max by (cluster) (a)`, "{{cluster}}", "a is not of the chosen clusters"},
		{`max by (cluster) (a{cluster=~"$cluster"} - b)`, "{{cluster}}", "b is not of the chosen clusters"},
		{`max by (cluster) (a{cluster=~"$cluster"})`, "a", "the legend does not name the cluster"},
	} {
		if got := strings.Join(ofClusters(c.expression, c.legend), "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.expression, got, c.want)
		}
	}
}

// checkVariables checks that each choice is limited by those before it, and that "All" includes series that have no such label: a
// Prometheus of one cluster has no label `cluster`.
func checkVariables(t *testing.T, all []variable) {
	t.Helper()
	var before []string
	for _, v := range all {
		if v.Type == "datasource" {
			continue
		}
		if !v.IncludeAll || !v.Multi || v.AllValue != ".*" {
			t.Errorf("$%s is %+v", v.Name, v)
		}
		for _, name := range before {
			if !strings.Contains(v.Definition, name+`=~"$`+name+`"`) {
				t.Errorf("$%s does not depend on $%s: %s", v.Name, name, v.Definition)
			}
		}
		before = append(before, v.Name)
	}
	if want := []string{"cluster", "namespace", "daemonset"}; !slices.Equal(before, want) {
		t.Errorf("people choose %v, want %v", before, want)
	}
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
		for _, w := range ofClusters(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), target.LegendFormat) {
			t.Errorf("%q: %s", p.Title, w)
		}
	}
}
