package helm_test

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// install returns the result of `helm install` for the chart with some values.
func install(t *testing.T, values map[string]any) (*release.Release, error) {
	t.Helper()
	chart, config := everynodeChart(t)
	i := action.NewInstall(config)
	i.ReleaseName, i.Namespace, i.DryRunStrategy = "everynode-controller", "kube-system", action.DryRunClient
	i.KubeVersion = &common.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}
	made, err := i.RunWithContext(t.Context(), chart, values)
	if err != nil {
		return nil, err
	}
	return made.(*release.Release), nil
}

// TestValuesAreRefused: a value cannot inject YAML.
func TestValuesAreRefused(t *testing.T) {
	const more = "x\"\n      hostPID: true\n#"
	for name, values := range map[string]map[string]any{
		"image.repository":  {"image": map[string]any{"repository": more}},
		"image.tag":         {"image": map[string]any{"tag": more}},
		"metrics.tlsSecret": {"metrics": map[string]any{"tlsSecret": more}},
	} {
		if _, err := install(t, values); err == nil || !strings.Contains(err.Error(), "pattern") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJobs: the Jobs of the chart run where the controller may run, with an account that can only read, because root on the node
// of a Job can take its token.
func TestJobs(t *testing.T) {
	made, err := install(t, map[string]any{"controlPlane": "require"})
	if err != nil {
		t.Fatal(err)
	}
	jobs := 0
	for _, hook := range made.Hooks {
		if hook.Kind != "Job" {
			continue
		}
		jobs++
		for _, has := range []string{"serviceAccountName: everynode-controller-reader\n", "requiredDuringSchedulingIgnoredDuringExecution:\n",
			"key: node-role.kubernetes.io/control-plane\n"} {
			if !strings.Contains(hook.Manifest, has) {
				t.Errorf("%s does not say %q:\n%s", hook.Name, has, hook.Manifest)
			}
		}
	}
	if jobs != 3 {
		t.Errorf("%d Jobs", jobs)
	}
	if manifest := made.Manifest; !strings.Contains(manifest, "kind: ServiceAccount\nmetadata:\n  name: everynode-controller-reader\n") {
		t.Error("their account is not there")
	}
}
