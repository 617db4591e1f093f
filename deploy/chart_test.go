package deploy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the values into the README of the chart")

const chart = "helm/everynode-controller/"

// chartValue is a line of values.yaml that sets something, or that begins a group.
type chartValue struct{ path, value, says string }

// chartValues parses values.yaml: each comment is about the line below it, and two spaces are one level.
func chartValues(text string) (all []chartValue, err error) {
	var says, path []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		code := strings.TrimLeft(line, " ")
		depth := (len(line) - len(code)) / 2
		if comment, ok := strings.CutPrefix(code, "#"); ok {
			says = append(says, strings.TrimSpace(comment))
			continue
		}
		if code == "" {
			says = nil
			continue
		}
		key, value, ok := strings.Cut(code, ":")
		if !ok || depth > len(path) {
			return nil, fmt.Errorf("values.yaml: %q is not a key with a value, or it is too far right", line)
		}
		value, beside, _ := strings.Cut(value, " # ")
		if beside != "" {
			says = append(says, beside)
		}
		path = append(path[:depth], key)
		all = append(all, chartValue{strings.Join(path, "."), strings.TrimSpace(value), strings.Join(says, " ")})
		says = nil
	}
	return all, nil
}

// valuesTable formats the values as the README shows them.
func valuesTable(values []chartValue) string {
	var b strings.Builder
	b.WriteString("| value | default | |\n|---|---|---|\n")
	for _, v := range values {
		value := v.value
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.path, value, strings.ReplaceAll(v.says, "|", `\|`))
	}
	return b.String()
}

// TestChartReadme: the README of the chart shows its current values, with the comments of values.yaml.
func TestChartReadme(t *testing.T) {
	text, err := os.ReadFile(chart + "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	values, err := chartValues(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(values) < 20 || values[0].path != "mode" || values[0].value != "engine" || !strings.HasPrefix(values[0].says, "engine: this is the DaemonSet controller") {
		t.Fatalf("of values.yaml %d values are read, the first one as %+v", len(values), values[0])
	}
	readme, err := os.ReadFile(chart + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "## Values\n\n"
	before, _, found := bytes.Cut(readme, []byte(begin))
	if !found {
		t.Fatalf("the README of the chart has no %q", begin)
	}
	want := string(before) + begin + valuesTable(values)
	if *update {
		if err := os.WriteFile(chart+"README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(readme) != want {
		t.Error("the README of the chart does not show values.yaml as it is: run this test with -update")
	}
}

// TestChartJobs: the Jobs that Helm runs have an account that can only read. The rendering of the chart is
// tested in gitops/helm.
func TestChartJobs(t *testing.T) {
	for file, want := range map[string]string{"_helpers.tpl": "everynode-controller-reader", "deployment.yaml": "everynode-controller"} {
		text, err := os.ReadFile(chart + "templates/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(text, []byte("serviceAccountName: ")); got != 1 || !bytes.Contains(text, []byte("serviceAccountName: "+want+"\n")) {
			t.Errorf("%s names %d accounts, want %s", file, got, want)
		}
	}
	text, err := os.ReadFile(chart + "templates/reader.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if verbs, ok := strings.CutPrefix(strings.TrimSpace(line), "verbs: "); ok && verbs != "[list]" && verbs != "[get]" {
			t.Errorf("the account of Jobs may do more than look: %s", verbs)
		}
	}
}
