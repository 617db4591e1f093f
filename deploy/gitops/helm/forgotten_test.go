package helm_test

import (
	"maps"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	release "helm.sh/helm/v4/pkg/release/v1"
	"sigs.k8s.io/yaml"
)

const (
	policyPath = "everynode.io/v1alpha1/rolloutpolicies/default"
	guardsPath = "v1/namespaces/kube-system/configmaps/everynode-guards"
)

// sent returns the objects of the chart with these values as the cluster has them after an installation, by their paths.
func sent(t *testing.T, values map[string]any) map[string]any {
	t.Helper()
	latest, config := everynodeChartOn(t, nil)
	i := action.NewInstall(config)
	i.ReleaseName, i.Namespace, i.DryRunStrategy = "everynode-controller", "kube-system", action.DryRunServer
	made, err := i.RunWithContext(t.Context(), latest, values)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]any{}
	for text := range strings.SplitSeq(made.(*release.Release).Manifest, "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		switch o["kind"] {
		case "RolloutPolicy":
			there[policyPath] = o
		case "ConfigMap":
			there[guardsPath] = o
		}
	}
	return there
}

// TestForgottenSettingsAreRefused: an upgrade that forgets what RolloutPolicies say, or which labels are guarded, is refused. With
// the flag that the refusal names it is not. What people have written into them is theirs: Helm leaves that alone, and so does this.
func TestForgottenSettingsAreRefused(t *testing.T) {
	waves := map[string]any{"default": map[string]any{"waves": []any{map[string]any{"name": "all", "nodes": "100%", "approval": true}}}}
	guards := func(labels, taints []any) map[string]any {
		return map[string]any{"install": true, "labels": labels, "taints": taints}
	}
	const policy = "RolloutPolicy default has a spec from the values, and the new ones say policies.default: {}"
	for _, c := range []struct {
		name        string
		set, values map[string]any // at first, and with the upgrade
		refused     []string
	}{
		{"a policy", map[string]any{"policies": waves}, map[string]any{"logFormat": "text"}, []string{policy, "--reset-then-reuse-values\n", "confirmRemoval=7\n"}},
		{"a policy that is null", map[string]any{"policies": waves}, map[string]any{"policies": map[string]any{"default": nil}}, nil},
		{"a policy that is set again", map[string]any{"policies": waves}, map[string]any{"policies": waves}, nil},
		{"a policy, confirmed", map[string]any{"policies": waves}, map[string]any{"confirmRemoval": 7}, nil},
		{"the policy of the chart", nil, map[string]any{"logFormat": "text"}, nil},
		{"a label", map[string]any{"guards": guards([]any{"ssd"}, nil)}, map[string]any{"guards": guards(nil, nil)}, []string{"guards.labels: []", "--reset-then-reuse-values\n"}},
		{"a taint", map[string]any{"guards": guards([]any{"ssd"}, []any{"gone"})}, map[string]any{"guards": guards([]any{"ssd"}, nil)}, []string{"guards.taints: []"}},
		{"another label", map[string]any{"guards": guards([]any{"ssd"}, nil)}, map[string]any{"guards": guards([]any{"hdd"}, nil)}, nil},
		{"no list", map[string]any{"guards": guards(nil, nil)}, map[string]any{"guards": guards(nil, nil)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			there := sent(t, c.set)
			_, err := upgradeOn(t, there, c.set, c.values, false)
			says(t, err, c.refused...)
			if _, err := upgradeOn(t, there, c.set, nil, true); err != nil {
				t.Errorf("with --reset-then-reuse-values: %v", err)
			}
		})
	}
	there := sent(t, map[string]any{"guards": guards(nil, nil)})
	there[policyPath].(map[string]any)["spec"] = waves["default"]
	there[guardsPath].(map[string]any)["data"] = map[string]any{"labels": "ssd"}
	if _, err := upgradeOn(t, there, nil, map[string]any{"guards": guards(nil, nil)}, false); err != nil {
		t.Errorf("what people have written is not forgotten: %v", err)
	}
}

// TestKeptPolicyIsNotReset: `helm uninstall` keeps the policies, and an installation without the values of before does not empty them.
func TestKeptPolicyIsNotReset(t *testing.T) {
	set := map[string]any{"policies": map[string]any{"default": map[string]any{"failure": map[string]any{"nodes": 2}}}}
	there := sent(t, set)
	again := func(values map[string]any) error {
		latest, config := everynodeChartOn(t, there)
		i := action.NewInstall(config)
		i.ReleaseName, i.Namespace, i.DryRunStrategy = "everynode-controller", "kube-system", action.DryRunServer
		_, err := i.RunWithContext(t.Context(), latest, values)
		return err
	}
	err := again(nil)
	says(t, err, "RolloutPolicy default has a spec from the values", "kubectl get rolloutpolicy", "--set confirmRemoval=1\n")
	if strings.Contains(err.Error(), "--reset-then-reuse-values") {
		t.Errorf("it names a flag that helm install does not have: %v", err)
	}
	confirmed := maps.Clone(set)
	delete(confirmed, "policies")
	confirmed["confirmRemoval"] = 1
	for _, values := range []map[string]any{set, confirmed} {
		if err := again(values); err != nil {
			t.Errorf("with %v: %v", values, err)
		}
	}
}
