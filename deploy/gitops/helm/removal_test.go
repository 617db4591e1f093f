package helm_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	status "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// kinds are those that the chart looks up, by their group and version.
var kinds = map[string][]metav1.APIResource{
	"v1":      {{Name: "nodes", Kind: "Node"}, {Name: "configmaps", Kind: "ConfigMap", Namespaced: true}},
	"apps/v1": {{Name: "deployments", Kind: "Deployment", Namespaced: true}},
	"admissionregistration.k8s.io/v1": {{Name: "mutatingadmissionpolicies", Kind: "MutatingAdmissionPolicy"},
		{Name: "validatingadmissionpolicies", Kind: "ValidatingAdmissionPolicy"}},
	"everynode.io/v1alpha1": {{Name: "rolloutpolicies", Kind: "RolloutPolicy"}},
}

// cluster serves objects by their paths, such as /apps/v1/namespaces/a/deployments/b, to the chart's lookups.
func cluster(t *testing.T, objects map[string]any) genericclioptions.RESTClientGetter {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/")
		var answer any = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound}
		code := http.StatusNotFound
		if there := kinds[path]; there != nil {
			answer, code = metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: path, APIResources: there}, http.StatusOK
		} else if path == "v1/nodes" {
			answer, code = map[string]any{"kind": "NodeList", "apiVersion": "v1", "items": []any{}}, http.StatusOK
		} else if object := objects[path]; object != nil {
			answer, code = object, http.StatusOK
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	flags := genericclioptions.NewConfigFlags(false)
	flags.APIServer = &server.URL
	return flags
}

// deployment is the running controller with these flags.
func deployment(flags ...string) map[string]any {
	return map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "everynode-controller", "namespace": "kube-system"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "everynode-controller", "args": flags}}}}}}
}

// object is a cluster-wide object of a release, or, without a name, of none.
func object(version, kind, name, of, in string) map[string]any {
	meta := map[string]any{"name": name}
	if of != "" {
		meta["annotations"] = map[string]any{"meta.helm.sh/release-name": of, "meta.helm.sh/release-namespace": in}
	}
	return map[string]any{"apiVersion": version, "kind": kind, "metadata": meta}
}

// everynodeChartOn returns the chart, and a configuration of Helm for a cluster with these objects.
func everynodeChartOn(t *testing.T, objects map[string]any) (*chart.Chart, *action.Configuration) {
	t.Helper()
	latest, config := everynodeChart(t)
	config.RESTClientGetter = cluster(t, objects)
	config.Capabilities = common.DefaultCapabilities.Copy()
	config.Capabilities.KubeVersion = common.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}
	for version, served := range kinds {
		for _, kind := range served {
			config.Capabilities.APIVersions = append(config.Capabilities.APIVersions, version+"/"+kind.Kind)
		}
	}
	return latest, config
}

// upgradeOn returns what `helm upgrade` sends on a cluster with these objects. The release was installed with some values, and none of
// them is kept, unless keep is true.
func upgradeOn(t *testing.T, objects, before, values map[string]any, keep bool) (manifest string, err error) {
	t.Helper()
	latest, config := everynodeChartOn(t, objects)
	err = config.Releases.Create(&release.Release{Name: "everynode-controller", Namespace: "kube-system", Version: 6, Chart: latest,
		Config: before, Info: &release.Info{Status: status.StatusDeployed}})
	if err != nil {
		t.Fatal(err)
	}
	u := action.NewUpgrade(config)
	u.Namespace, u.ResetThenReuseValues = "kube-system", keep
	made, err := u.RunWithContext(t.Context(), "everynode-controller", latest, values)
	if err != nil {
		return "", err
	}
	return made.(*release.Release).Manifest, nil
}

// says checks that there is an error if it should say something, and that it does.
func says(t *testing.T, err error, want ...string) {
	t.Helper()
	if (err != nil) != (want != nil) {
		t.Fatalf("refused: %v", err)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it does not say %q: %v", text, err)
		}
	}
}

// TestRemovalIsRefused: an upgrade that forgets values does not end assist mode, and keeps the admission policies. It says what to
// type. One that names another revision confirms nothing, so a value that Helm has kept does not.
func TestRemovalIsRefused(t *testing.T) {
	const running = "apps/v1/namespaces/kube-system/deployments/everynode-controller"
	const onDelete = "admissionregistration.k8s.io/v1/mutatingadmissionpolicies/everynode-on-delete"
	const guards = "admissionregistration.k8s.io/v1/validatingadmissionpolicies/everynode-node-labels"
	assists, policy := deployment("--log-format=json", "--mode=assist"), object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "everynode-on-delete", "everynode-controller", "kube-system")
	guard := object("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "everynode-node-labels", "everynode-controller", "kube-system")
	installs := func(yes bool) map[string]any { return map[string]any{"install": yes} }
	for _, c := range []struct {
		name    string
		there   map[string]any
		values  map[string]any
		refused []string // what the refusal says; none if there is none
	}{
		{"forgotten", map[string]any{running: assists, onDelete: policy}, map[string]any{"image": map[string]any{"tag": "x"}},
			[]string{"runs with --mode=assist", "mode: engine", "MutatingAdmissionPolicy everynode-on-delete", "--reset-then-reuse-values\n", "--set confirmRemoval=7\n"}},
		{"kept", map[string]any{running: assists, onDelete: policy}, map[string]any{"mode": "assist", "onDelete": installs(true)}, nil},
		{"confirmed", map[string]any{running: assists, onDelete: policy}, map[string]any{"confirmRemoval": 7}, nil},
		{"confirmed an earlier one", map[string]any{running: assists, onDelete: policy}, map[string]any{"confirmRemoval": 6}, []string{"confirmRemoval=7\n"}},
		{"only the policy", map[string]any{running: assists, onDelete: policy}, map[string]any{"mode": "assist", "onDelete": installs(false)}, []string{"onDelete.install: false"}},
		{"the guards", map[string]any{running: deployment(), guards: guard}, map[string]any{"logFormat": "text"}, []string{"guards.install: false"}},
		{"an engine", map[string]any{running: deployment("--log-format=json")}, nil, nil},
		{"an engine begins to assist", map[string]any{running: deployment("--log-format=json")}, map[string]any{"mode": "assist"}, nil},
		{"the policy is not Helm's", map[string]any{running: deployment(), onDelete: object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "everynode-on-delete", "", "")}, nil, nil},
		{"the policy is of another release", map[string]any{running: deployment(), onDelete: object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "everynode-on-delete", "everynode-controller", "other")}, nil, nil},
		{"nothing is there", nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := map[string]any{"mode": "assist", "onDelete": installs(true), "guards": installs(true)}
			_, err := upgradeOn(t, c.there, before, c.values, false)
			says(t, err, c.refused...)
			if c.refused == nil {
				return
			}
			if strings.Contains(err.Error(), "install=true") || strings.Contains(err.Error(), "--set mode") {
				t.Errorf("it says some of the values, and those that it does not say would still be forgotten: %v", err)
			}
		})
	}
	// Without a cluster to look at, which is how Argo CD renders it, nothing is refused.
	if _, err := upgrade(t, nil, nil, func(*action.Upgrade) {}); err != nil {
		t.Error(err)
	}
}

// TestPoliciesOfOthers: a RolloutPolicy that people or another chart have made is not the release's. One that a release of this chart has
// left is sent, whatever that release was called: Helm then asks for --take-ownership, as it does for the kinds that the release left.
func TestPoliciesOfOthers(t *testing.T) {
	const path = "everynode.io/v1alpha1/rolloutpolicies/default"
	left := func(name, namespace, chart string) map[string]any {
		o := object("everynode.io/v1alpha1", "RolloutPolicy", "default", name, namespace)
		o["metadata"].(map[string]any)["labels"] = map[string]any{"app.kubernetes.io/name": chart}
		return o
	}
	for _, c := range []struct {
		name string
		is   map[string]any
		sent bool
	}{
		{"none", nil, true},
		{"of this release", left("everynode-controller", "kube-system", "everynode-controller"), true},
		{"left by one of the same name in another namespace", left("everynode-controller", "other", "everynode-controller"), true},
		{"left by one of another name", left("other", "kube-system", "everynode-controller"), true},
		{"of another chart", left("agents", "kube-system", "agents"), false},
		{"of another chart whose release has the same name", left("everynode-controller", "other", "agents"), false},
		{"made by people", object("everynode.io/v1alpha1", "RolloutPolicy", "default", "", ""), false},
	} {
		objects := map[string]any{}
		if c.is != nil {
			objects[path] = c.is
		}
		manifest, err := upgradeOn(t, objects, nil, map[string]any{"mode": "assist"}, false)
		if err != nil {
			t.Fatal(err)
		}
		if sent := strings.Contains(manifest, "kind: RolloutPolicy\nmetadata:\n  name: \"default\"\n"); sent != c.sent {
			t.Errorf("%s: the policy is part of the release: %v, want %v", c.name, sent, c.sent)
		}
	}
}
