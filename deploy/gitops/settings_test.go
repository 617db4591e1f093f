package gitops_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write argocd-cm.yaml")

// settings returns the scripts by their keys in Argo CD's settings.
func settings() []struct{ key, file string } {
	return []struct{ key, file string }{
		{"resource.customizations.health.everynode.io_DaemonSetRollout", "daemonsetrollout.lua"},
		{"resource.customizations.health.apps_DaemonSet", "daemonset.lua"},
	}
}

// TestSettings: argocd-cm.yaml has the tested scripts, in the form of a patch of Argo CD's ConfigMap.
func TestSettings(t *testing.T) {
	var want bytes.Buffer
	want.WriteString("# The scripts of this folder as settings of Argo CD; docs/gitops.md says how to install them. `go test . -update` writes it.\ndata:\n")
	for _, s := range settings() {
		fmt.Fprintf(&want, "  %s: |\n", s.key)
		for line := range strings.Lines(script(t, s.file)) {
			if line != "\n" {
				want.WriteString("    ")
			}
			want.WriteString(line)
		}
	}
	if *update {
		if err := os.WriteFile("argocd-cm.yaml", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("argocd-cm.yaml")
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("argocd-cm.yaml does not have the scripts of this folder (%v): run this test with -update", err)
	}
	var patch struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.UnmarshalStrict(got, &patch); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings() {
		if patch.Data[s.key] != script(t, s.file) {
			t.Errorf("%s is not %s as it is in a cluster", s.key, s.file)
		}
	}
}
