package helm_test

import (
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"
)

// helmRelease is what the example of a HelmRelease in docs/gitops.md sets. Flux's own type would bring its controllers.
type helmRelease struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		Interval         string         `json:"interval"`
		PersistentClient *bool          `json:"persistentClient"`
		Chart            map[string]any `json:"chart"`
		Values           map[string]any `json:"values"`
	} `json:"spec"`
}

// TestFluxExample: the example does not keep one client for a whole installation, because the hook that creates the policies needs kinds
// that the chart has created just before. The chart takes its values.
func TestFluxExample(t *testing.T) {
	page, err := os.ReadFile("../../../docs/gitops.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(apiVersion: helm\\.toolkit.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/gitops.md has no HelmRelease")
	}
	var example helmRelease
	if err := yaml.UnmarshalStrict(block[1], &example); err != nil {
		t.Fatal(err)
	}
	if keep := example.Spec.PersistentClient; keep == nil || *keep {
		t.Error("without persistentClient: false the first installation fails")
	}
	made, err := install(t, example.Spec.Values)
	if err != nil {
		t.Fatal(err)
	}
	hooks := 0
	for _, hook := range made.Hooks {
		if hook.Kind == "RolloutPolicy" {
			hooks++
		}
	}
	if hooks != 1 {
		t.Errorf("%d policies are hooks: if none is, the setting is not needed", hooks)
	}
}
