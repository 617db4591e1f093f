package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// The outcome of a test. The zero value is a test that nobody has run yet.
const (
	passed = "passed"
	failed = "failed"
	notRun = "not run"
)

// result is the outcome of one test, with the reason why it failed or was not run.
type result struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Seconds float64 `json:"seconds,omitempty"`
	Why     string  `json:"why,omitempty"`
}

type results map[string]result // by name

// add returns r merged with others; where both have a test, the result in others wins.
func (r results) add(others results) results {
	sum := maps.Clone(r)
	maps.Copy(sum, others)
	return sum
}

func (r results) anyFailed() bool {
	for _, one := range r {
		if one.State == failed {
			return true
		}
	}
	return false
}

func (r results) counts() string {
	counts := map[string]int{}
	for _, one := range r {
		counts[one.State]++
	}
	return fmt.Sprintf("%d passed, %d failed, %d not run", counts[passed], counts[failed], counts[notRun])
}

// kept is the file of results, all of one version of Kubernetes.
type kept struct {
	Version string  `json:"version"`
	Results results `json:"results"`
}

// readResults returns what earlier runs have found; nothing if they ran another version.
func readResults(file, version string) (kept, error) {
	empty := kept{Version: version, Results: results{}}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return kept{}, fmt.Errorf("read earlier results: %w", err)
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return kept{}, fmt.Errorf("read earlier results from %s: %w; delete it, and run the tests again", file, err)
	}
	if k.Version != version {
		return empty, nil
	}
	return k, nil
}

func (k *kept) write(file string) error {
	text, err := json.MarshalIndent(k, "", " ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep the results: %w", err)
	}
	return nil
}

// spec is the part of ginkgo's report about one test that we read.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	RunTime                 time.Duration
	Failure                 struct{ Message string }
}

// readReport reads ginkgo's report. It skips tests that were not selected, which are in the report, too.
func readReport(file string) (results, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read ginkgo's report: %w", err)
	}
	var report []struct{ SpecReports []spec }
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("read ginkgo's report: %w", err)
	}
	found := results{}
	for _, part := range report {
		for _, s := range part.SpecReports {
			if one, ok := s.result(); ok {
				found[one.Name] = one
			}
		}
	}
	return found, nil
}

// result returns false for a test that was not selected or was cut short, and for an entry that is not a
// test.
func (s spec) result() (result, bool) {
	r := result{
		Name:    strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " "),
		State:   failed,
		Seconds: s.RunTime.Round(100 * time.Millisecond).Seconds(),
		Why:     s.Failure.Message,
	}
	switch s.State {
	case passed:
		r.State, r.Why = passed, ""
	case "skipped", "pending":
		if s.Failure.Message == "" {
			return result{}, false
		}
		r.State, r.Why = notRun, "the suite skips it here: "+s.Failure.Message
	case "interrupted", "aborted":
		return result{}, false
	}
	return r, s.LeafNodeType == "It"
}

// summary counts the outcomes of tests.
type summary struct {
	Version string            `json:"version"`
	Tests   []result          `json:"tests"` // by name
	Images  map[string]string `json:"images"`
}

// summarize returns the summary of one run.
func (s *suite) summarize(found results) summary {
	sum := summary{Version: s.version, Images: imageList()}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		sum.Tests = append(sum.Tests, found[name])
	}
	return sum
}

// summarizeAll returns the summary of every conformance test, and of what else was run.
func (s *suite) summarizeAll(found kept) summary {
	all := results{}.add(found.Results)
	for _, name := range s.names {
		if _, ok := all[name]; ok {
			continue
		}
		why := s.excluded(name)
		if why == "" {
			why = "nobody has run it yet: make conformance"
		}
		all[name] = result{Name: name, State: notRun, Why: why}
	}
	return s.summarize(all)
}

func (s summary) in(state string) []result {
	return slices.DeleteFunc(slices.Clone(s.Tests), func(r result) bool { return r.State != state })
}

func (s summary) err() error {
	if n := len(s.in(failed)); n > 0 {
		return fmt.Errorf("%d of %d tests failed; what they printed is in %s", n, len(s.Tests), resultsDir)
	}
	return nil
}

func (s summary) printJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(s)
}

// print prints which tests failed and how, and which were not run, by reason.
func (s summary) print(w io.Writer) {
	pass, fail, not := s.in(passed), s.in(failed), s.in(notRun)
	fmt.Fprintf(w, "\nKubernetes %s, %d tests: %d passed, %d failed, %d not run\n", s.Version, len(s.Tests), len(pass), len(fail), len(not))
	for _, r := range fail {
		fmt.Fprintf(w, "\nFAILED %s\n%s\n", r.Name, indent(head(r.Why, 12)))
	}
	byReason := map[string][]string{}
	for _, r := range not {
		byReason[r.Why] = append(byReason[r.Why], r.Name)
	}
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		fmt.Fprintf(w, "\nnot run, %d: %s\n%s\n", len(byReason[reason]), reason, indent(strings.Join(byReason[reason], "\n")))
	}
}

func head(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = append(lines[:n], "...")
	}
	return strings.Join(lines, "\n")
}

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }
