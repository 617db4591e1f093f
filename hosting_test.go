package everynode_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What a hosting site reads (.github, .devcontainer) is read by nobody here, so a mistake in it would show on the day when it is
// needed. These tests know of it what we use.

var (
	makeTarget = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	// makeCall is a call of make in a shell's line: at its beginning, or after what begins a command.
	makeCall = regexp.MustCompile(`(?:^|[;&|]\s*|\n\s*|\s[A-Z_]+=\S+ )(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)`)
	commitID = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9-]+@[0-9a-f]{40}$`)
)

// targets returns the names that make takes: those of the Makefile and of what it includes.
func targets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("build/*.mk")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range append(files, "Makefile") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range makeTarget.FindAllSubmatch(text, -1) {
			names = append(names, string(match[1]))
		}
	}
	return names
}

// checkMakeCalls finds targets that are called and do not exist.
func checkMakeCalls(name, command string, targets []string) (wrong []string) {
	for _, match := range makeCall.FindAllStringSubmatch(command, -1) {
		if !slices.Contains(targets, match[1]) {
			wrong = append(wrong, fmt.Sprintf("%s: there is no target %s: %q", name, match[1], command))
		}
	}
	return wrong
}

// workflow is what we use of a workflow.
type workflow struct {
	Name        string                     `json:"name"`
	On          any                        `json:"on"`
	Permissions map[string]string          `json:"permissions"`
	Concurrency any                        `json:"concurrency,omitempty"`
	Jobs        map[string]json.RawMessage `json:"jobs"`
}

type job struct {
	RunsOn   string `json:"runs-on"`
	Minutes  int    `json:"timeout-minutes"`
	Strategy struct {
		FailFast *bool               `json:"fail-fast"`
		Matrix   map[string][]string `json:"matrix"`
	} `json:"strategy"`
	Steps []struct {
		Name string         `json:"name"`
		Uses string         `json:"uses"`
		With map[string]any `json:"with"`
		If   string         `json:"if"`
		Run  string         `json:"run"`
	} `json:"steps"`
}

// commands returns what a job runs, once for each value of its matrix.
func (j *job) commands() (all []string) {
	for _, step := range j.Steps {
		lines := []string{step.Run}
		for key, values := range j.Strategy.Matrix {
			var filled []string
			for _, line := range lines {
				for _, value := range values {
					filled = append(filled, strings.ReplaceAll(line, "${{ matrix."+key+" }}", value))
				}
			}
			lines = filled
		}
		all = append(all, lines...)
	}
	return all
}

// checkWorkflow finds what would fail, or be unsafe, on the day it runs.
func checkWorkflow(name string, text []byte, targets []string) (wrong []string) {
	var w workflow
	// YAML 1.1 takes the key "on" for true.
	text = regexp.MustCompile(`(?m)^on:`).ReplaceAll(text, []byte(`"on":`))
	if err := yaml.UnmarshalStrict(text, &w); err != nil {
		return []string{fmt.Sprintf("%s: %v", name, err)}
	}
	say := func(format string, args ...any) { wrong = append(wrong, name+": "+fmt.Sprintf(format, args...)) }
	if w.Name == "" || w.On == nil || len(w.Jobs) == 0 {
		say("it needs a name, on and jobs")
	}
	if w.Permissions["contents"] != "read" || len(w.Permissions) != 1 {
		say("its permissions are not those to read contents, and nothing else")
	}
	for id, raw := range w.Jobs {
		var j job
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&j); err != nil {
			say("job %s: %v", id, err)
			continue
		}
		if j.RunsOn == "" || j.Minutes == 0 {
			say("job %s needs a machine (runs-on) and an end (timeout-minutes)", id)
		}
		for _, step := range j.Steps {
			if step.Uses != "" && !commitID.MatchString(step.Uses) {
				say("job %s uses %s: name the commit, as a tag can be moved", id, step.Uses)
			}
			if (step.Uses == "") == (step.Run == "") {
				say("job %s has a step that does not either use or run something", id)
			}
		}
		calls := false
		for _, command := range j.commands() {
			wrong = append(wrong, checkMakeCalls(name, command, targets)...)
			calls = calls || makeCall.MatchString(command) || strings.Contains(command, ".ci/run")
		}
		if !calls {
			say("job %s runs no target of the Makefile: what is tested there must be what people can run", id)
		}
	}
	return wrong
}

// form is an issue form.
type form struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Labels      []string `json:"labels"`
	Body        []struct {
		Type       string `json:"type"`
		ID         string `json:"id"`
		Attributes struct {
			Label       string `json:"label"`
			Description string `json:"description"`
			Value       string `json:"value"`
			Render      string `json:"render"`
			Options     []any  `json:"options"`
		} `json:"attributes"`
		Validations struct {
			Required bool `json:"required"`
		} `json:"validations"`
	} `json:"body"`
}

// checkForm finds what a hosting site would not show.
func checkForm(name string, text []byte) (wrong []string) {
	var f form
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return []string{fmt.Sprintf("%s: %v", name, err)}
	}
	say := func(format string, args ...any) { wrong = append(wrong, name+": "+fmt.Sprintf(format, args...)) }
	if f.Name == "" || f.Description == "" || len(f.Body) == 0 {
		say("a form needs a name, a description and a body")
	}
	ids := map[string]bool{}
	for _, part := range f.Body {
		choice := part.Type == "dropdown" || part.Type == "checkboxes"
		switch {
		case part.Type == "markdown":
			if part.Attributes.Value == "" {
				say("a text without words")
			}
			continue
		case !choice && part.Type != "textarea" && part.Type != "input":
			say("no part of a form is a %q", part.Type)
		case part.ID == "" || ids[part.ID]:
			say("the id %q of a part is missing or stands twice", part.ID)
		case part.Attributes.Label == "":
			say("%s has no label", part.ID)
		case choice != (len(part.Attributes.Options) > 0):
			say("%s: options are for what is chosen from, and needed there", part.ID)
		}
		ids[part.ID] = true
	}
	return wrong
}

func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows (%v)", err)
	}
	known := targets(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		report(t, checkWorkflow(file, text, known))
	}
	run, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkMakeCalls(".ci/run", strings.ReplaceAll(string(run), "exec ", ""), known))
}

func TestIssueForms(t *testing.T) {
	files, err := filepath.Glob(".github/ISSUE_TEMPLATE/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "config.yml" {
			var config struct {
				Blank bool `json:"blank_issues_enabled"`
			}
			if err := yaml.UnmarshalStrict(text, &config); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		report(t, checkForm(file, text))
		all += string(text)
	}
	if !strings.Contains(all, "everynode logs --export") {
		t.Error("no form asks for the archive of everynode logs --export")
	}
}

// Targets that the pages tell people to make exist.
func TestMakeCallsInDocs(t *testing.T) {
	known := targets(t)
	agents, err := filepath.Glob("examples/agents/*/rootfs")
	if err != nil {
		t.Fatal(err)
	}
	for _, agent := range agents {
		known = append(known, "agent-"+filepath.Base(filepath.Dir(agent)))
	}
	tree(t, func(name string, text []byte) {
		if filepath.Ext(name) != ".md" {
			return
		}
		for line := range strings.Lines(string(text)) {
			if command, ok := strings.CutPrefix(line, "    "); ok {
				report(t, checkMakeCalls(name, strings.TrimPrefix(command, "$ "), known))
			}
		}
	})
}

func TestDevcontainer(t *testing.T) {
	text, err := os.ReadFile(".devcontainer/devcontainer.json")
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAll(text, nil)
	var container struct {
		Image      string `json:"image"`
		PostCreate string `json:"postCreateCommand"`
	}
	if err := json.Unmarshal(text, &container); err != nil || container.Image == "" {
		t.Fatalf("it names no image: %v", err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if version == nil || !strings.Contains(container.Image, ":"+string(version[1])+"-") {
		t.Errorf("the image %s is not for the Go of go.mod (%s)", container.Image, version)
	}
	report(t, checkMakeCalls(".devcontainer", container.PostCreate, targets(t)))
}

func TestHostingRulesFind(t *testing.T) {
	const head = "name: a\non: {push: {}}\npermissions: {contents: read}\njobs:\n  a:\n    runs-on: x\n    timeout-minutes: 1\n"
	const id = "@0123456789012345678901234567890123456789"
	for _, tc := range []struct{ text, want string }{
		{head + "    steps: [{uses: actions/x" + id + "}, {run: make check}]", ""},
		{head + "    strategy: {matrix: {target: [check, test]}}\n    steps: [{run: \"make ${{ matrix.target }}\"}]", ""},
		{head + "    strategy: {matrix: {target: [check, gone]}}\n    steps: [{run: \"make ${{ matrix.target }}\"}]", "no target gone"},
		{head + "    steps: [{run: sudo .ci/run}]", ""},
		{head + "    steps: [{run: \"EVERYNODE_LONG=1 make gone\"}]", "no target gone"},
		{head + "    steps: [{run: go test ./...}]", "runs no target"},
		{head + "    steps: [{uses: actions/x@v7}, {run: make check}]", "name the commit"},
		{head + "    steps: [{run: make check, shel: bash}]", "unknown field"},
		{head + "    steps: [{name: nothing}, {run: make check}]", "either use or run"},
		{strings.Replace(head, "contents: read", "contents: write", 1) + "    steps: [{run: make check}]", "permissions"},
		{strings.Replace(head, "timeout-minutes", "timeout", 1) + "    steps: [{run: make check}]", "unknown field"},
	} {
		got := strings.Join(checkWorkflow("w", []byte(tc.text), []string{"check", "test"}), "\n")
		if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s\n%q; want %q in it", tc.text, got, tc.want)
		}
	}
	const start = "name: a\ndescription: b\nbody:\n"
	for _, tc := range []struct{ text, want string }{
		{start + "- {type: input, id: a, attributes: {label: b}, validations: {required: true}}", ""},
		{start + "- {type: dropdown, id: a, attributes: {label: b, options: [c]}}", ""},
		{start + "- {type: dropdown, id: a, attributes: {label: b}}", "options"},
		{start + "- {type: text, id: a, attributes: {label: b}}", "no part of a form"},
		{start + "- {type: input, id: a, attributes: {label: b}}\n- {type: input, id: a, attributes: {label: c}}", "stands twice"},
		{start + "- {type: input, id: a, attributes: {lable: b}}", "unknown field"},
		{"description: b\nbody: [{type: markdown, attributes: {value: c}}]", "needs a name"},
	} {
		got := strings.Join(checkForm("f", []byte(tc.text)), "\n")
		if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s\n%q; want %q in it", tc.text, got, tc.want)
		}
	}
}
