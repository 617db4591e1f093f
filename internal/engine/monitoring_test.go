package engine

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// exported returns a line for each metric of the controller: its name and labels.
func exported(t *testing.T) (lines []string) {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() { NewMonitor().Describe(described); close(described) }()
	form := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{(.*)\}\}$`)
	for d := range described {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s is not of the form %s", d, form)
		}
		labels := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(labels)
		lines = append(lines, strings.Join(append([]string{m[1]}, labels...), " "))
	}
	slices.Sort(lines)
	return lines
}

const monitoring = "../../deploy/monitoring/"

// The list of metrics that the alerts and the dashboard are tested with, in their own module, is that of the
// controller.
func TestMetricsAreListed(t *testing.T) {
	const file = monitoring + "testdata/metrics.txt"
	want := strings.Join(exported(t), "\n") + "\n"
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the controller exports (%v); it should be\n%s", file, err, want)
	}
}

// Alerts, dashboard and docs name only existing metrics, and the docs name all.
func TestMetricsThatAreNamed(t *testing.T) {
	there := map[string]bool{}
	for _, line := range exported(t) {
		name, _, _ := strings.Cut(line, " ")
		there[name] = true
		if strings.HasSuffix(name, "_duration_seconds") {
			there[name+"_bucket"] = true
		}
	}
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		text, err := os.ReadFile(monitoring + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(metricPrefix+`\w+`).FindAllString(string(text), -1) {
			if !there[name] {
				t.Errorf("%s: the controller has no metric %s", file, name)
			}
		}
	}
	docs, err := os.ReadFile("../../docs/controller.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range there {
		short := strings.TrimPrefix(strings.TrimSuffix(name, "_bucket"), metricPrefix)
		kind := strings.TrimSuffix(strings.TrimPrefix(short, "daemonset_"), "_nodes")
		if !strings.Contains(string(docs), "`"+short) && !regexp.MustCompile(fmt.Sprintf(`daemonset_\{[a-z,]*\b%s\b[a-z,]*\}_nodes`, kind)).Match(docs) {
			t.Errorf("docs/controller.md does not have %s", name)
		}
	}
}
