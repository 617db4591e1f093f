package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/kubernetes/test/conformance/testdata"
	"sigs.k8s.io/yaml"
)

const (
	// sliceTime bounds one group of tests; each test has bounds of its own.
	sliceTime = 2 * time.Hour
	// sayGoodbye is how long the tests may take to clean up once they are interrupted.
	sayGoodbye = 2 * time.Minute

	daemonSetTests = `\[sig-apps\] (Daemon set|ControllerRevision) `
)

//go:embed notrun.txt
var notRunList string

// suite is what this version of Kubernetes calls conformance, and what of it cannot run here.
type suite struct {
	version string
	names   []string // of the conformance tests
	notRun  []exclusion
}

// exclusion keeps tests from being run: those whose names contain part.
type exclusion struct{ part, reason string }

// readSuite fails if an exclusion excludes nothing: it is out of date, or misspelt.
func readSuite() (*suite, error) {
	version, err := kubernetesVersion()
	if err != nil {
		return nil, err
	}
	s := &suite{version: version}
	text, err := testdata.GetConformanceTestdataFS().ReadTestFile("test/conformance/testdata/conformance.yaml")
	if err != nil {
		return nil, fmt.Errorf("read Kubernetes' list of conformance tests: %w", err)
	}
	var tests []struct {
		Codename string `json:"codename"`
	}
	if err := yaml.Unmarshal(text, &tests); err != nil {
		return nil, fmt.Errorf("read Kubernetes' list of conformance tests: %w", err)
	}
	for _, t := range tests {
		s.names = append(s.names, t.Codename)
	}
	s.notRun, err = parseExclusions(notRunList)
	if err != nil {
		return nil, err
	}
	for _, x := range s.notRun {
		if !slices.ContainsFunc(s.names, func(name string) bool { return strings.Contains(name, x.part) }) {
			return nil, fmt.Errorf("conformance/notrun.txt names a test that %s does not have, correct it: %s", s.version, x.part)
		}
	}
	return s, nil
}

// kubernetesVersion is that of the module that the tests come from.
func kubernetesVersion() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("this program does not know what it was built from: build it with modules")
	}
	for _, dep := range info.Deps {
		if dep.Path == "k8s.io/kubernetes" {
			return dep.Version, nil
		}
	}
	return "", errors.New("this program was built without Kubernetes' module")
}

// parseExclusions reads paragraphs of tests' names, each below a line that begins with "== " and says why.
func parseExclusions(text string) ([]exclusion, error) {
	var list []exclusion
	reason := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if why, ok := strings.CutPrefix(line, "== "); ok {
			reason = why
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if reason == "" {
			return nil, fmt.Errorf("conformance/notrun.txt: no line `== REASON` comes before %q", line)
		}
		list = append(list, exclusion{part: line, reason: reason})
	}
	return list, nil
}

// excluded returns why a test is not run, or "".
func (s *suite) excluded(name string) string {
	for _, x := range s.notRun {
		if strings.Contains(name, x.part) {
			return x.reason
		}
	}
	return ""
}

// selection is what of the suite one run is about.
type selection struct {
	focus      string
	sigs       []string
	daemonSets bool
	all        bool
	procs      int
}

// slices are the parts in which a selection is run, so that what one part has found is kept when the next is cut
// short. Each is named by the group of people whose tests they are.
func (s selection) slices(known *suite) []string {
	if s.daemonSets {
		return []string{"sig-apps"}
	}
	var names []string
	for _, test := range known.names {
		sig := strings.Trim(strings.Fields(test)[0], "[]")
		if len(s.sigs) == 0 || slices.Contains(s.sigs, strings.TrimPrefix(sig, "sig-")) {
			names = append(names, sig)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// arguments are what ginkgo is told about one slice.
func (s selection) arguments(known *suite, slice string) []string {
	labels, focus := "Conformance && "+slice, s.focus
	if s.daemonSets {
		labels, focus = slice, daemonSetTests
	}
	args := []string{"--label-filter=" + labels, "--procs=" + strconv.Itoa(s.procs)}
	if focus != "" {
		args = append(args, "--focus="+focus)
	}
	if !s.all {
		for _, x := range known.notRun {
			args = append(args, "--skip="+regexp.QuoteMeta(x.part))
		}
	}
	return args
}

// runSuite runs what is selected, slice by slice, and returns what it has found even when it fails.
func runSuite(ctx context.Context, s selection, known *suite, kubeconfig string) (results, error) {
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return nil, fmt.Errorf("make room for results: %w", err)
	}
	found := results{}
	for _, slice := range s.slices(known) {
		began := time.Now()
		some, err := runSlice(ctx, slice, s.arguments(known, slice), kubeconfig)
		found = found.add(some)
		if err != nil {
			return found, err
		}
		fmt.Printf("%s: %s in %s\n", slice, some.counts(), time.Since(began).Round(time.Second))
	}
	if len(found) == 0 {
		return nil, errors.New("no test matches: see -focus and -sig, and conformance/notrun.txt")
	}
	return found, nil
}

func runSlice(ctx context.Context, slice string, args []string, kubeconfig string) (_ results, err error) {
	reportFile, logFile := filepath.Join(resultsDir, slice+".json"), filepath.Join(resultsDir, slice+".log")
	if err := os.Remove(reportFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("write what the tests print: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	kubectl, err := filepath.Abs(filepath.Join(bin, "kubectl"))
	if err != nil {
		return nil, err
	}
	args = append(args, "--no-color", "--timeout="+sliceTime.String(), "--output-dir="+resultsDir, "--json-report="+slice+".json",
		filepath.Join(programs, "e2e.test"), "--", "--provider=skeleton", "--kubeconfig="+kubeconfig, "--kubectl-path="+kubectl)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "ginkgo"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = sayGoodbye
	failed := cmd.Run()
	some, err := readReport(reportFile)
	switch {
	case err != nil:
		return some, errors.Join(fmt.Errorf("the tests of %s ended without a report: see %s", slice, logFile), failed, err)
	case failed != nil && !some.anyFailed():
		return some, fmt.Errorf("the tests of %s failed, but no single one did: %w; see %s", slice, failed, logFile)
	}
	return some, ctx.Err()
}
