// Package monitoring_test parses the alerts as Prometheus does and checks when they fire. It is a separate module,
// because Prometheus brings a hundred modules, some newer than those that everynode's programs are linked with.
package monitoring_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// metric is what the controller exports under a name.
type metric struct {
	labels    []string
	histogram bool
}

// metrics returns those of testdata/metrics.txt, which a test of the controller compares with what it exports.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		m := metric{labels: fields[1:]}
		if strings.HasSuffix(fields[0], "_duration_seconds") {
			m.histogram, m.labels = true, append(m.labels, "le")
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				all[fields[0]+part] = m
			}
			continue
		}
		all[fields[0]] = m
	}
	return all
}

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// rules returns the alerts, parsed as Prometheus does.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("alerts.yaml", false, model.UTF8Validation, newParser(), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// ofTarget are labels that the scrape adds, not the controller.
func ofTarget() []string { return []string{"cluster", "instance", "job"} }

// wrongIn returns what an expression uses that the controller does not export.
func wrongIn(expression string, known map[string]metric) (wrong []string) {
	tree, err := newParser().ParseExpr(expression)
	if err != nil {
		return []string{err.Error()}
	}
	var has []string // labels that any of the expression's metrics has
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		m, ok := known[s.Name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("there is no metric %q", s.Name))
		}
		for _, matcher := range s.LabelMatchers {
			if matcher.Name != model.MetricNameLabel && !slices.Contains(append(m.labels, ofTarget()...), matcher.Name) {
				wrong = append(wrong, fmt.Sprintf("%s has no label %q", s.Name, matcher.Name))
			}
		}
		has = append(has, m.labels...)
		return nil
	})
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, label := range a.Grouping {
				if !slices.Contains(append(has, ofTarget()...), label) {
					wrong = append(wrong, fmt.Sprintf("%s: no metric has the label %q", a, label))
				}
			}
		}
		return nil
	})
	return wrong
}

func TestWrongInFinds(t *testing.T) {
	known := map[string]metric{"a": {labels: []string{"b"}}}
	for expression, want := range map[string]string{
		`sum by (b, cluster) (rate(a{b="1", job="j"}[5m]))`: "", `a{`: "unexpected", `x`: `there is no metric "x"`,
		`a{c="1"}`: `a has no label "c"`, `max by (c) (a)`: `no metric has the label "c"`,
	} {
		if got := strings.Join(wrongIn(expression, known), "; "); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}

// Each alert uses only what the controller exports, has a severity and a description, and has a section in the docs.
func TestAlerts(t *testing.T) {
	known := metrics(t)
	page := readDocs(t)
	all := rules(t)
	if len(all) < 10 {
		t.Errorf("%d alerts", len(all))
	}
	for _, r := range all {
		for _, w := range wrongIn(r.Expr, known) {
			t.Errorf("%s: %s", r.Alert, w)
		}
		if !strings.HasPrefix(r.Alert, "Everynode") || r.For == 0 || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has %v, %v, %v", r.Alert, r.For, r.Labels, r.Annotations)
		}
		if want := "docs/monitoring.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s has the runbook %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if !strings.Contains(page, "\n### "+r.Alert+"\n") {
			t.Errorf("docs/monitoring.md has no section %q", r.Alert)
		}
	}
	if want := fmt.Sprintf("| %d alerts, ", len(all)); !strings.Contains(page, want) {
		t.Errorf("docs/monitoring.md does not say %q", want)
	}
	for _, section := range regexp.MustCompile(`(?m)^### (Everynode\w+)$`).FindAllStringSubmatch(page, -1) {
		if !slices.ContainsFunc(all, func(r rulefmt.Rule) bool { return r.Alert == section[1] }) {
			t.Errorf("docs/monitoring.md has a section about %s, which is not an alert", section[1])
		}
	}
}

func readDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(path.Join("..", "..", "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func quiet() map[string]string {
	return map[string]string{
		`everynode_leader{instance="a"}`: "1x120", `everynode_leader{instance="b"}`: "0x120",
		`everynode_api_requests_total{instance="a", verb="list", resource="pods", code="200"}`:                  "0+60x120",
		`everynode_sync_errors_total{instance="a"}`:                                                             "0x120",
		`everynode_watch_lag_seconds{instance="a"}`:                                                             "0x120",
		`everynode_clock_skew_seconds{instance="a"}`:                                                            "-1x120",
		`everynode_rollout_kinds_missing{instance="a"}`:                                                         "0x120",
		`everynode_daemonsets{instance="a"}`:                                                                    "2x120",
		`everynode_daemonsets_listed{instance="a"}`:                                                             "2x120",
		`everynode_daemonset_nodes{instance="a", reason="UpToDate"}`:                                            "3x120",
		`everynode_queue_duration_seconds_bucket{instance="a", le="0.1"}`:                                       "0+60x120",
		`everynode_queue_duration_seconds_bucket{instance="a", le="26"}`:                                        "0+60x120",
		`everynode_queue_duration_seconds_bucket{instance="a", le="+Inf"}`:                                      "0+60x120",
		`everynode_daemonset_retrying_nodes{instance="a", namespace="n", daemonset="d"}`:                        "0x120",
		`everynode_daemonset_desired_nodes{instance="a", namespace="n", daemonset="d"}`:                         "3x120",
		`everynode_daemonset_updated_nodes{instance="a", namespace="n", daemonset="d"}`:                         "3x120",
		`everynode_daemonset_budget_nodes{instance="a", namespace="n", daemonset="d", kind="unavailable"}`:      "1x120",
		`everynode_daemonset_budget_nodes{instance="a", namespace="n", daemonset="d", kind="surge"}`:            "0x120",
		`everynode_daemonset_budget_used_nodes{instance="a", namespace="n", daemonset="d", kind="unavailable"}`: "0x120",
		`everynode_daemonset_budget_used_nodes{instance="a", namespace="n", daemonset="d", kind="surge"}`:       "0x120",
	}
}

// Each alert fires for its own condition, and for nothing else; in a quiet hour and in an update that goes well none
// does.
func TestAlertsFire(t *testing.T) {
	const of = `{instance="a", namespace="n", daemonset="d"}`
	budget := func(metric, kind string) string {
		return metric + `{instance="a", namespace="n", daemonset="d", kind="` + kind + `"}`
	}
	stands := func(phase, reason string) map[string]string {
		return map[string]string{"everynode_daemonset_updated_nodes" + of: "1x120",
			fmt.Sprintf(`everynode_daemonset_release_phase{instance="a", namespace="n", daemonset="d", phase=%q, reason=%q}`, phase, reason): "1x120"}
	}
	soaksUnsaved := stands("Soaking", "NotSoaked")
	soaksUnsaved[`everynode_api_requests_total{instance="a", verb="update", resource="daemonsetrollouts/status", code="403"}`] = "0+12x120"
	const stopped = `everynode_daemonset_release_phase{instance="a", namespace="n", daemonset="d", phase="Halted", reason="TooManyFailed"}`
	for what, c := range map[string]struct {
		differs map[string]string
		want    []string
	}{
		"a quiet hour":                      {nil, nil},
		"a standby takes over":              {map[string]string{`everynode_leader{instance="a"}`: "1x60 0x60", `everynode_leader{instance="b"}`: "0x60 1x60"}, nil},
		"nobody leads":                      {map[string]string{`everynode_leader{instance="a"}`: "0x120"}, []string{"EverynodeNoLeader"}},
		"nothing is scraped":                {map[string]string{`everynode_leader{instance="a"}`: "", `everynode_leader{instance="b"}`: ""}, []string{"EverynodeNoLeader"}},
		"two lead":                          {map[string]string{`everynode_leader{instance="b"}`: "1x120"}, []string{"EverynodeTwoLeaders"}},
		"all of a cluster vanishes":         {map[string]string{`everynode_leader{instance="a"}`: "1x60", `everynode_leader{instance="b"}`: "0x60"}, []string{"EverynodeNoLeader"}},
		"one of two clusters vanishes":      {map[string]string{`everynode_leader{instance="c", cluster="two"}`: "1x60"}, []string{"EverynodeNoLeader"}},
		"one of two clusters restarts":      {map[string]string{`everynode_leader{instance="c", cluster="two"}`: "1x60 _x9 1x50"}, nil},
		"two clusters":                      {map[string]string{`everynode_leader{instance="c", cluster="two"}`: "1x120"}, nil},
		"a right is missing":                {map[string]string{`everynode_api_requests_total{instance="a", verb="list", resource="nodes", code="403"}`: "0+2x120"}, []string{"EverynodeForbidden"}},
		"a state cannot be saved":           {soaksUnsaved, []string{"EverynodeForbidden"}},
		"kinds are missing":                 {map[string]string{`everynode_rollout_kinds_missing{instance="a"}`: "2x120"}, []string{"EverynodeKindsMissing"}},
		"nobody leads for a moment":         {map[string]string{`everynode_leader{instance="a"}`: "1x117 0x3"}, nil},
		"a release stops just now":          {map[string]string{stopped: "_x120 1"}, nil},
		"pods are refused by a policy":      {map[string]string{`everynode_api_requests_total{instance="a", verb="create", resource="pods", code="403"}`: "0+1x120"}, nil},
		"the API server fails":              {map[string]string{`everynode_api_requests_total{instance="a", verb="list", resource="pods", code="500"}`: "0+30x120"}, []string{"EverynodeAPIErrors"}},
		"the API server does not answer":    {map[string]string{`everynode_api_requests_total{instance="a", verb="list", resource="pods", code="error"}`: "0+30x120"}, []string{"EverynodeAPIErrors"}},
		"one request fails":                 {map[string]string{`everynode_api_requests_total{instance="a", verb="list", resource="pods", code="500"}`: "0x118 1x2"}, nil},
		"decisions fail":                    {map[string]string{`everynode_sync_errors_total{instance="a"}`: "0+4x120"}, []string{"EverynodeDecisionsFail"}},
		"decisions are late":                {map[string]string{`everynode_queue_duration_seconds_bucket{instance="a", le="0.1"}`: "0+50x120"}, []string{"EverynodeDecisionsLate"}},
		"the watch is late":                 {map[string]string{`everynode_watch_lag_seconds{instance="a"}`: "45x120"}, []string{"EverynodeWatchLate"}},
		"the clock is late":                 {map[string]string{`everynode_clock_skew_seconds{instance="a"}`: "-40x120"}, []string{"EverynodeClockSkew"}},
		"writes are refused":                {map[string]string{"everynode_daemonset_retrying_nodes" + of: "2x120"}, []string{"EverynodeWritesRefused"}},
		"more are down than may":            {map[string]string{budget("everynode_daemonset_budget_used_nodes", "unavailable"): "2x120"}, []string{"EverynodeOverBudget"}},
		"as many are down as may":           {map[string]string{budget("everynode_daemonset_budget_used_nodes", "unavailable"): "1x120"}, nil},
		"down, and updated by hand":         {map[string]string{budget("everynode_daemonset_budget_used_nodes", "unavailable"): "2x120", budget("everynode_daemonset_budget_nodes", "unavailable"): "0x120"}, nil},
		"an update goes on":                 {map[string]string{"everynode_daemonset_updated_nodes" + of: "0x100 1x10 2x10"}, nil},
		"a release has stopped":             {stands("Halted", "TooManyFailed"), []string{"EverynodeReleaseStopped"}},
		"a release has no policy":           {stands("Held", "PolicyGone"), []string{"EverynodeReleaseStopped"}},
		"no node of a release is well":      {stands("Waiting", "NoneWell"), []string{"EverynodeReleaseStopped"}},
		"a release finds no further node":   {stands("Rolling", "UnderQuota"), []string{"EverynodeUpdateStuck"}},
		"nodes do not come up in one":       {stands("Rolling", "NotSettled"), []string{"EverynodeUpdateStuck"}},
		"a way back gets no further":        {stands("RollingBack", "AbortRequested"), []string{"EverynodeUpdateStuck"}},
		"nodes do not get what they missed": {stands("Idle", ""), []string{"EverynodeUpdateStuck"}},
		"the same, and there is no policy":  {stands("Idle", "PolicyGone"), []string{"EverynodeUpdateStuck", "EverynodePolicyNotFollowed"}},
		"a policy cannot be read":           {map[string]string{`everynode_daemonset_release_phase{instance="a", namespace="n", daemonset="d", phase="Idle", reason="PolicyUnreadable"}`: "1x120"}, []string{"EverynodePolicyNotFollowed"}},
		"a policy is named before it is":    {map[string]string{`everynode_daemonset_release_phase{instance="a", namespace="n", daemonset="d", phase="Idle", reason="PolicyGone"}`: "_x115 1x5"}, nil},
		"nodes wait for a window":           {stands("Idle", "WindowClosed"), nil},
		"a release soaks":                   {stands("Soaking", "NotSoaked"), nil},
		"a release waits for a yes":         {stands("Waiting", "NotApproved"), nil},
		"a release waits for a window":      {stands("Waiting", "WindowClosed"), nil},
		"a release is paused":               {stands("Paused", "PauseRequested"), nil},
		"a release goes back by itself":     {stands("Aborted", "FailedBack"), []string{"EverynodeReleaseStopped"}},
		"a release was taken back":          {stands("Aborted", "AbortRequested"), nil},
		"an update is stuck":                {map[string]string{"everynode_daemonset_updated_nodes" + of: "0x60 1x60"}, []string{"EverynodeUpdateStuck"}},
		"an update waits for a person":      {map[string]string{"everynode_daemonset_updated_nodes" + of: "0x60 1x60", budget("everynode_daemonset_budget_nodes", "unavailable"): "0x120"}, nil},
		"an edit is held":                   {map[string]string{`everynode_daemonset_nodes{instance="a", reason="HeldByGuard"}`: "300x120"}, []string{"EverynodeRemovalsHeld"}},
		"pods do not last":                  {map[string]string{`everynode_daemonset_nodes{instance="a", reason="PodsDoNotLast"}`: "1x120"}, []string{"EverynodePodsDoNotLast"}},
		"more DaemonSets than metrics":      {map[string]string{`everynode_daemonsets{instance="a"}`: "3x120"}, []string{"EverynodeMetricsLeftOut"}},
	} {
		t.Run(what, func(t *testing.T) {
			if got := firing(t, c.differs); !slices.Equal(got, c.want) {
				t.Errorf("%v fire, want %v", got, c.want)
			}
		})
	}
}

// TestClusterThatVanished: the alert about a cluster that no longer sends anything names it, and not the others. It ends
// when nobody has seen the cluster for three days, because somebody may have uninstalled the controller there.
func TestClusterThatVanished(t *testing.T) {
	storage := promqltest.LoadedStorage(t, `load 1h
  everynode_leader{cluster="one", instance="a"} 1x100
  everynode_leader{cluster="two", instance="b"} 1x10
`)
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	all := rules(t)
	i := slices.IndexFunc(all, func(r rulefmt.Rule) bool { return r.Alert == "EverynodeNoLeader" })
	for hour, want := range map[int][]string{10: nil, 11: {`{cluster="two"}`}, 81: {`{cluster="two"}`}, 83: nil, 101: {`{cluster="one"}`}, 173: {`{}`}} {
		query, err := engine.NewInstantQuery(context.Background(), storage, nil, all[i].Expr, time.Unix(0, 0).Add(time.Duration(hour)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		vector, err := query.Exec(context.Background()).Vector()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range vector {
			got = append(got, s.Metric.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d hours it fires for %v, want %v", hour, got, want)
		}
		query.Close()
	}
}

// firing returns the alerts that fire at the end of the two hours: their condition has held for as long as `for` says.
func firing(t *testing.T, differs map[string]string) (names []string) {
	t.Helper()
	series := quiet()
	for name, values := range differs {
		series[name] = values
	}
	script := "load 1m\n"
	for name, values := range series {
		if values != "" {
			script += "  " + name + " " + values + "\n"
		}
	}
	storage := promqltest.LoadedStorage(t, script)
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	end := time.Unix(0, 0).Add(2 * time.Hour)
	for _, r := range rules(t) {
		query, err := engine.NewRangeQuery(context.Background(), storage, nil, r.Expr, end.Add(-time.Duration(r.For)), end, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(context.Background())
		matrix, err := result.Matrix()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, cmp.Or(result.Err, err))
		}
		looks := int(time.Duration(r.For)/time.Minute) + 1
		if slices.ContainsFunc(matrix, func(s promql.Series) bool { return len(s.Floats) == looks }) {
			names = append(names, r.Alert)
		}
		query.Close()
	}
	return names
}
