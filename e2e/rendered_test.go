package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// noImage replaces every image: what is installed here pulls nothing.
const noImage = "registry.invalid/image:1"

// objectID names an object of one kind.
type objectID struct{ namespace, name string }

// renderedChart is what Helm renders from a chart.
type renderedChart struct {
	chart, version string
	kinds          []*unstructured.Unstructured // CustomResourceDefinitions
	objects        []*unstructured.Unstructured // all others, in the order in which Helm installs them
	left           []string                     // what is not applied, as KIND NAME
	daemonSets     []objectID
}

// render has Helm render a chart's objects. Hooks are left out: Helm runs them before
// or after an install, and waits for pods that do something.
func (f *chartFleet) render(t *testing.T, c givenChart) *renderedChart {
	t.Helper()
	helm := filepath.Join("tools", "helm")
	var about struct{ Name, Version string }
	if err := yaml.Unmarshal([]byte(f.must(t, helm, "show", "chart", c.path)), &about); err != nil {
		t.Fatalf("%s: %v", c.path, err)
	}
	args := []string{"template", about.Name, c.path, "--namespace", about.Name, "--include-crds", "--no-hooks", "--kube-version", f.version}
	if c.values != "" {
		args = append(args, "--values", c.values)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(f.bin, helm), args...)
	cmd.Env = f.env
	r := &renderedChart{chart: about.Name, version: about.Version}
	for _, o := range printedObjects(t, cmd) {
		r.add(t, o)
	}
	slices.Sort(r.left)
	slices.SortFunc(r.daemonSets, func(a, b objectID) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	})
	if len(r.daemonSets) == 0 {
		t.Fatalf("the chart %s makes no DaemonSet with these values: give NAME.yaml with some that do", c.path)
	}
	return r
}

// add sorts an object into the right list.
func (r *renderedChart) add(t *testing.T, o *unstructured.Unstructured) {
	if o.IsList() {
		list, err := o.ToList()
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			r.add(t, &list.Items[i])
		}
		return
	}
	switch o.GetKind() {
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "APIService":
		// The API server would send requests to a pod that does not answer.
		r.left = append(r.left, o.GetKind()+" "+o.GetName())
		return
	case "CustomResourceDefinition":
		unstructured.RemoveNestedField(o.Object, "spec", "conversion") // conversion by a webhook: left out for the same reason
		r.kinds = append(r.kinds, o)
		return
	case "DaemonSet":
		id := objectID{o.GetNamespace(), o.GetName()}
		if id.namespace == "" {
			id.namespace = r.chart
		}
		r.daemonSets = append(r.daemonSets, id)
	}
	replaceImages(o)
	r.objects = append(r.objects, o)
}

// replaceImages replaces the images in the pod template of an object that has one.
func replaceImages(o *unstructured.Unstructured) {
	for _, path := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		for _, list := range []string{"containers", "initContainers"} {
			containers, _, err := unstructured.NestedSlice(o.Object, append(slices.Clone(path), list)...)
			if err != nil || containers == nil {
				continue // another kind of object, which has something else in this field
			}
			for _, c := range containers {
				if c, ok := c.(map[string]any); ok && c["image"] != nil {
					c["image"] = noImage
				}
			}
			_ = unstructured.SetNestedSlice(o.Object, containers, append(slices.Clone(path), list)...) // it was there
		}
	}
}

// writeObjects writes objects to a file as a List, for kubectl.
func writeObjects(t *testing.T, name string, objects []*unstructured.Unstructured) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name+".json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// complaints returns the lines of kubectl's output that do not report success.
func complaints(out string) string {
	lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool {
		return strings.HasSuffix(line, "serverside-applied") || strings.HasSuffix(line, " deleted") || strings.HasPrefix(line, "Warning: ")
	})
	return lastLines(strings.Join(lines, "\n"))
}

// inShort returns the warnings of `why` in the words of a table.
func inShort(warnings []string) (short []string) {
	for _, w := range warnings {
		switch paths := strings.Count(w, "volume "); {
		case strings.HasPrefix(w, "the host can be written to") && paths == 1:
			short = append(short, "writes to 1 path")
		case strings.HasPrefix(w, "the host can be written to"):
			short = append(short, fmt.Sprintf("writes to %d paths", paths))
		case strings.Contains(w, "whole file system"):
			short = append(short, "sees all of /")
		case strings.Contains(w, "socket of a container runtime"):
			short = append(short, "sees a runtime's socket")
		default:
			short = append(short, w)
		}
	}
	return short
}

// String returns a row of the table in docs/charts.md.
func (r *chartReport) String() string {
	var sets []string
	for _, s := range r.sets {
		text := fmt.Sprintf("`%s` %d", s.name, s.nodes)
		if len(s.reasons) > 0 {
			text += " (" + strings.Join(s.reasons, ", ") + ")"
		}
		if s.update != "RollingUpdate" {
			text += ", " + s.update
		}
		if len(s.warnings) > 0 {
			text += ": " + strings.Join(s.warnings, ", ")
		}
		sets = append(sets, text)
	}
	level := "baseline"
	if r.privileged {
		level = "privileged"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.name, r.version, strings.Join(sets, "; "), level, strings.Join(r.left, ", "))
}
