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
	// suiteTime limits a whole run; each test has limits of its own.
	suiteTime = 6 * time.Hour
	// farewell is how long the tests may take to clean up once they are interrupted.
	farewell = 2 * time.Minute

	// Files in resultsDir: ginkgo's report, and what the tests print.
	reportName, logName = "report.json", "tests.log"

	daemonSetTests = `\[sig-apps\] (Daemon set|ControllerRevision) `
)

//go:embed notrun.txt
var notRunList string

// suite is the list of conformance tests of this version of Kubernetes, and which of them cannot run here.
type suite struct {
	version string
	names   []string // of the conformance tests
	notRun  []exclusion
}

// exclusion keeps the tests whose names contain part from being run.
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

// kubernetesVersion returns the version of the module that the tests come from.
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

// selection is the part of the suite that one run covers.
type selection struct {
	focus      string
	sigs       []string
	daemonSets bool
	all        bool
	procs      int
}

// arguments returns ginkgo's arguments for a selection.
func (s selection) arguments(known *suite) []string {
	filter := []string{"Conformance"}
	if len(s.sigs) > 0 {
		filter = append(filter, "(sig-"+strings.Join(s.sigs, " || sig-")+")")
	}
	args := []string{"--procs=" + strconv.Itoa(s.procs)}
	if s.daemonSets {
		args = append(args, "--focus="+daemonSetTests)
	} else {
		args = append(args, "--label-filter="+strings.Join(filter, " && "))
	}
	if s.focus != "" {
		args = append(args, "--focus="+s.focus)
	}
	if !s.all {
		for _, x := range known.notRun {
			args = append(args, "--skip="+regexp.QuoteMeta(x.part))
		}
	}
	return args
}

// runSuite runs the selected tests, and returns what it has found even when it fails or is cut short.
func runSuite(ctx context.Context, s selection, known *suite, kubeconfig string) (_ results, err error) {
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return nil, fmt.Errorf("make room for results: %w", err)
	}
	if err := os.Remove(filepath.Join(resultsDir, reportName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("delete an earlier report: %w", err)
	}
	log, err := os.Create(filepath.Join(resultsDir, logName))
	if err != nil {
		return nil, fmt.Errorf("write what the tests print: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	kubectl, err := filepath.Abs(filepath.Join(bin, "kubectl"))
	if err != nil {
		return nil, err
	}
	args := append(s.arguments(known), "--no-color", "--timeout="+suiteTime.String(), "--output-dir="+resultsDir, "--json-report="+reportName,
		filepath.Join(programs, "e2e.test"), "--", "--provider=skeleton", "--kubeconfig="+kubeconfig, "--kubectl-path="+kubectl)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "ginkgo"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = farewell
	fmt.Printf("the tests run, and print to %s\n", log.Name())
	ended := cmd.Run()
	found, err := readReport(filepath.Join(resultsDir, reportName))
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the tests ended without a report: see %s", log.Name()), ended, err)
	case ctx.Err() != nil:
		return found, fmt.Errorf("the tests were cut short: %w; what they had found is kept", ctx.Err())
	case ended != nil && !found.anyFailed():
		return found, fmt.Errorf("the tests failed, but no single one did: %w; see %s", ended, log.Name())
	case len(found) == 0:
		return nil, errors.New("no test matches: see -focus and -sig, and conformance/notrun.txt")
	}
	return found, nil
}
