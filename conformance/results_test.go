package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A report as ginkgo writes it, of six tests: one that passed, two that failed in different ways, one that skipped
// itself, one that was not selected, one that was cut short. It also has a step that is not a test.
const ginkgoReport = `[{"SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed", "RunTime": 5},
 {"ContainerHierarchyTexts": ["[sig-x] A", "b"], "LeafNodeType": "It", "LeafNodeText": "c [Conformance]", "State": "passed", "RunTime": 1540000000},
 {"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "It", "LeafNodeText": "d", "State": "failed", "Failure": {"Message": "too late"}},
 {"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "It", "LeafNodeText": "e", "State": "timedout", "Failure": {"Message": "an hour"}},
 {"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "It", "LeafNodeText": "f", "State": "skipped", "Failure": {"Message": "no Windows"}},
 {"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "It", "LeafNodeText": "g", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "It", "LeafNodeText": "h", "State": "interrupted", "Failure": {"Message": "Ctrl-C"}}
]}]`

func readSample(t *testing.T) results {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, []byte(ginkgoReport), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestReadReport(t *testing.T) {
	want := results{
		"[sig-x] A b c [Conformance]": {Name: "[sig-x] A b c [Conformance]", State: passed, Seconds: 1.5},
		"[sig-x] A d":                 {Name: "[sig-x] A d", State: failed, Why: "too late"},
		"[sig-x] A e":                 {Name: "[sig-x] A e", State: failed, Why: "an hour"},
		"[sig-x] A f":                 {Name: "[sig-x] A f", State: notRun, Why: "the suite skips it here: no Windows"},
	}
	found := readSample(t)
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if got := found.counts(); got != "1 passed, 2 failed, 1 not run" {
		t.Errorf("counts: %s", got)
	}
}

// Of a suite that was only run in part, the summary has each test in exactly one place, with its reason.
func TestSummary(t *testing.T) {
	s := &suite{
		version: "v1.2.3",
		names:   []string{"[sig-x] A b c [Conformance]", "[sig-x] needs a moon [Conformance]", "[sig-x] other [Conformance]"},
		notRun:  []exclusion{{"a moon", "there is no moon"}},
	}
	sum := s.summarizeAll(kept{Results: readSample(t)})
	var out strings.Builder
	sum.print(&out)
	for _, want := range []string{
		"Kubernetes v1.2.3, 6 tests: 1 passed, 2 failed, 3 not run\n",
		"\nFAILED [sig-x] A d\n    too late\n",
		"\nFAILED [sig-x] A e\n    an hour\n",
		"\nnot run, 1: there is no moon\n    [sig-x] needs a moon [Conformance]\n",
		"\nnot run, 1: the suite skips it here: no Windows\n    [sig-x] A f\n",
		"\nnot run, 1: nobody has run it yet: make conformance\n    [sig-x] other [Conformance]\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing from:\n%s", want, out.String())
		}
	}
	if err := sum.err(); err == nil || !strings.Contains(err.Error(), "2 of 6 tests failed") {
		t.Errorf("two tests failed, and the summary says %v", err)
	}
	if err := s.summarizeAll(kept{}).err(); err != nil {
		t.Errorf("nothing has failed, and the summary says %v", err)
	}
}

// A later run replaces earlier results of the same tests, and nothing else; results of another version are dropped.
func TestResultsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	record, err := readResults(file, "v1")
	if err != nil {
		t.Fatal(err)
	}
	record.Results = record.Results.add(results{"a": {Name: "a", State: failed}, "b": {Name: "b", State: passed}})
	record.Results = record.Results.add(results{"a": {Name: "a", State: passed}})
	if err := record.write(file); err != nil {
		t.Fatal(err)
	}
	same, err := readResults(file, "v1")
	if err != nil || same.Results.anyFailed() || len(same.Results) != 2 {
		t.Errorf("read back %v, %v", same, err)
	}
	other, err := readResults(file, "v2")
	if err != nil || other.Version != "v2" || len(other.Results) != 0 {
		t.Errorf("results of v1 read as %v, %v", other, err)
	}
}

func TestExclusions(t *testing.T) {
	list, err := parseExclusions("# words\n\n== far away\none test\nand another\n\n== too big\nthird\n")
	want := []exclusion{{"one test", "far away"}, {"and another", "far away"}, {"third", "too big"}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("read %v, %v; want %v", list, err, want)
	}
	if _, err := parseExclusions("a test\n== a reason\n"); err == nil {
		t.Error("a test without a reason is accepted")
	}
}

// The tests come from the Kubernetes version that the nodes run, and the lists checked in here are for that version.
func TestSuite(t *testing.T) {
	known, err := readSuite()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\tk8s.io/kubernetes "+known.version+"\n") {
		t.Errorf("the tests are those of Kubernetes %s, and go.mod of everynode names another", known.version)
	}
	if len(known.names) < 400 {
		t.Errorf("Kubernetes %s has %d conformance tests", known.version, len(known.names))
	}
	names := map[string]bool{}
	for name := range imageList() {
		names[name] = true
	}
	if len(names) != len(images()) {
		t.Errorf("%d images have %d names", len(images()), len(names))
	}
}

func TestSelection(t *testing.T) {
	known := &suite{notRun: []exclusion{{"needs [this]", "far away"}}}
	for _, tc := range []struct {
		s    selection
		want []string
	}{
		{selection{procs: 4}, []string{"--procs=4", "--label-filter=Conformance", `--skip=needs \[this\]`}},
		{
			selection{procs: 1, all: true, sigs: []string{"apps", "node"}, focus: "x"},
			[]string{"--procs=1", "--label-filter=Conformance && (sig-apps || sig-node)", "--focus=x"},
		},
		{selection{daemonSets: true, all: true}, []string{"--procs=0", "--focus=" + daemonSetTests}},
	} {
		if got := tc.s.arguments(known); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %q, want %q", tc.s, got, tc.want)
		}
	}
}
