package audit

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the findings of testdata/*.txtar as they come out")

// storyNow is the time at which the stories happen.
func storyNow() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

// TestStories runs testdata/*.txtar. Each section "manifest" is a cluster, and the
// section "findings" after it is what Audit finds in it. Text after a colon is a
// title.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d stories, want at least 10 (%v)", len(files), err)
	}
	told, ran := map[Reason]bool{}, 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ran++
			runStory(t, file, told)
		})
	}
	for _, r := range Reasons() {
		if !told[r] && ran == len(files) { // not if only some were asked for
			t.Errorf("no story finds %s", r)
		}
	}
}

func runStory(t *testing.T, file string, told map[Reason]bool) {
	story, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var in *Input
	changed := false
	for i := range story.Files {
		f := &story.Files[i]
		if section, _, _ := strings.Cut(f.Name, ":"); section == "manifest" {
			in = &Input{Now: storyNow()}
			if others, err := in.Read(f.Data); err != nil || others > 0 {
				t.Fatalf("%s, section %q: %d objects of other kinds, %v", file, f.Name, others, err)
			}
			continue
		}
		if in == nil {
			t.Fatalf("%s, section %q: no manifest stands before it", file, f.Name)
		}
		findings := Audit(in)
		for _, x := range findings {
			told[x.Reason] = true
		}
		got := printed(findings)
		if *update {
			changed = changed || got != string(f.Data)
			f.Data = []byte(got)
		} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
			t.Errorf("%s, section %d (-want +got):\n%s", file, i+1, diff)
		}
	}
	if changed {
		if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// printed returns the findings as a story shows them. It leaves out Why, which the
// reason determines, and Change where it is the reason's remedy.
func printed(findings []Finding) string {
	var b strings.Builder
	for _, x := range findings {
		fmt.Fprintf(&b, "%-6s %-7s %s/%s %s: %s\n", x.Severity, x.Cost, x.Namespace, x.DaemonSet, x.Reason, x.Text)
		if x.Change != x.Reason.Remedy() {
			fmt.Fprintf(&b, "    %s\n", x.Change)
		}
		for _, c := range x.Commands {
			fmt.Fprintf(&b, "    $ %s\n", c)
		}
	}
	return b.String()
}

// Every reason has a unique name, a sentence and a remedy.
func TestReasonsAreTold(t *testing.T) {
	var names []string
	for _, r := range Reasons() {
		names = append(names, r.String())
		if r.String() == "" || !strings.HasSuffix(r.Sentence(), ".") && !strings.HasSuffix(r.Sentence(), ".)") || !strings.HasSuffix(r.Remedy(), ".") {
			t.Errorf("%d %q: %q, %q", r, r, r.Sentence(), r.Remedy())
		}
	}
	if NoPriority != Reason(len(names)) {
		t.Errorf("%d reasons have a text, want %d", len(names), NoPriority)
	}
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
		t.Errorf("%d names for %d reasons", n, len(names))
	}
	if got := (NoPriority + 1).String() + (NoPriority + 1).Sentence() + (NoPriority + 1).Remedy() + (High + 1).String(); got != "Reason(27)Unknown reason 27.Severity(4)" {
		t.Error(got)
	}
}

func TestReadRefuses(t *testing.T) {
	const head = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\n"
	for manifest, want := range map[string]string{
		"a: [":                      "document 1: ",
		"just text":                 "document 1: it is not an object of Kubernetes",
		"name: a":                   "document 1: it is not an object of Kubernetes: it has no kind, or no apiVersion",
		head + "---\nkind: X":       "document 2: it is not an object of Kubernetes",
		head + "spec: {a: 1}":       `document 1: DaemonSet default/a: unknown field "spec.a"`,
		head + "spec: {}\nspec: {}": `document 1: `,
		head + "spec: 1":            `document 1: DaemonSet default/a: json: cannot unmarshal number`,
		head + "---\n" + head:       `document 2: DaemonSet default/a is given twice`,
		"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {}":                                                           `document 1: a DaemonSet has no metadata.name`,
		"apiVersion: extensions/v1beta1\nkind: DaemonSet\nmetadata: {name: a, namespace: b}":                           `document 1: DaemonSet b/a has apiVersion extensions/v1beta1, which API servers no longer serve`,
		"apiVersion: v1\nkind: List\nitems: [{kind: DaemonSet, apiVersion: apps/v1}]":                                  `document 1: item 1: a DaemonSet has no metadata.name`,
		"apiVersion: v1\nkind: List\nitems: [{metadata: {name: a}}]":                                                   `document 1: item 1: it is not an object of Kubernetes`,
		"apiVersion: everynode.io/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: p}\nspec: {gaurd: {}}":               `document 1: RolloutPolicy p: unknown field "spec.gaurd"`,
		"apiVersion: everynode.io/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: p}\nspec: {guard: {removals: 101%}}": `document 1: RolloutPolicy p: spec.guard.removals: 101% is more than all`,
		"apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: 1":                                                  `document 1: node n1: `,
	} {
		in := &Input{}
		if _, err := in.Read([]byte(manifest)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", manifest, err, want)
		}
	}
}

func TestReadTakes(t *testing.T) {
	for manifest, want := range map[string]string{
		"":                "0 DaemonSets, 0 nodes, 0 others",
		"---\n# a\n---\n": "0 DaemonSets, 0 nodes, 0 others",
		`{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"}}`:                                                   "1 DaemonSets, 0 nodes, 0 others",
		"apiVersion: apps/v1\nkind: DaemonSetList\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]":                             "2 DaemonSets, 0 nodes, 0 others",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}}]":                            "1 DaemonSets, 0 nodes, 0 others",
		"apiVersion: v1\nkind: List\nitems: 1":                                                                                        "0 DaemonSets, 0 nodes, 1 others",
		"apiVersion: v1\nkind: NodeList\nitems: [{metadata: {name: a}}]":                                                              "0 DaemonSets, 1 nodes, 0 others",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: apps.kruise.io/v1alpha1\nkind: DaemonSet\nspec: {a: 1}": "0 DaemonSets, 0 nodes, 2 others",
		"apiVersion: example.com/v1\nkind: WaitingList\nitems: {a: 1}\nimmutable: perhaps":                                            "0 DaemonSets, 0 nodes, 1 others",
	} {
		in := &Input{}
		others, err := in.Read([]byte(manifest))
		if got := fmt.Sprintf("%d DaemonSets, %d nodes, %d others", len(in.DaemonSets), len(in.Nodes), others); err != nil || got != want {
			t.Errorf("%s\n%s, %v\nwant %s", manifest, got, err, want)
		}
	}
}
