package helm_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	status "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// upgrade returns the result of `helm upgrade` for a release of an older chart that had only the named values, with what was set
// then.
func upgrade(t *testing.T, names []string, set map[string]any, how func(*action.Upgrade)) (manifest string, err error) {
	t.Helper()
	latest, config := everynodeChart(t)
	older := &chart.Chart{Metadata: latest.Metadata, Values: maps.Clone(latest.Values)}
	maps.DeleteFunc(older.Values, func(name string, _ any) bool { return !slices.Contains(names, name) })
	config.Capabilities = common.DefaultCapabilities.Copy()
	config.Capabilities.KubeVersion = common.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}
	config.Capabilities.APIVersions = append(config.Capabilities.APIVersions, "everynode.io/v1alpha1/RolloutPolicy")
	err = config.Releases.Create(&release.Release{Name: "everynode-controller", Namespace: "kube-system", Version: 1, Chart: older, Config: set,
		Info: &release.Info{Status: status.StatusDeployed}})
	if err != nil {
		t.Fatal(err)
	}
	u := action.NewUpgrade(config)
	u.Namespace = "kube-system"
	how(u)
	made, err := u.RunWithContext(t.Context(), "everynode-controller", latest, map[string]any{})
	if err != nil {
		return "", err
	}
	return made.(*release.Release).Manifest, nil
}

// TestUpgradeKeepsValues: a chart with more values than the one before keeps what was set, with the flag that docs/upgrade.md
// names. With --reuse-values the new ones would have no defaults.
func TestUpgradeKeepsValues(t *testing.T) {
	// The values of the first chart that had releases in waves.
	old := []string{"replicas", "image", "imagePullSecrets", "apiServer", "controlPlane", "metrics", "bindBy", "logFormat", "extraArgs", "nodeSelector", "resources"}
	set := map[string]any{"replicas": 3, "image": map[string]any{"repository": "registry.example.com/ec"}, "nodeSelector": map[string]any{"a": "b"}}
	manifest, err := upgrade(t, old, set, func(u *action.Upgrade) { u.ResetThenReuseValues = true })
	if err != nil {
		t.Fatal(err)
	}
	for _, has := range []string{"replicas: 3", "registry.example.com/ec:", "a: b", "kind: CustomResourceDefinition", "kind: RolloutPolicy"} {
		if !strings.Contains(manifest, has) {
			t.Errorf("nothing says %q:\n%s", has, manifest)
		}
	}
	if _, err := upgrade(t, old, set, func(u *action.Upgrade) { u.ReuseValues = true }); err == nil || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("with --reuse-values: %v", err)
	}
}
