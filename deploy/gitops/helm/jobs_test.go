package helm_test

import (
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
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

// jobsOf returns the Jobs of the chart by name.
func jobsOf(t *testing.T, made *release.Release) map[string]*batchv1.Job {
	t.Helper()
	jobs := map[string]*batchv1.Job{}
	for _, hook := range made.Hooks {
		if hook.Kind != "Job" {
			continue
		}
		jobs[hook.Name] = &batchv1.Job{}
		if err := yaml.UnmarshalStrict([]byte(hook.Manifest), jobs[hook.Name]); err != nil {
			t.Fatalf("%s: %v\n%s", hook.Name, err, hook.Manifest)
		}
	}
	return jobs
}

// TestJobsFitControlPlanes: with controlPlane: require, the Jobs can be placed on nodes of the control plane of common distributions, with
// the taints that these have. If they cannot be placed, `helm uninstall` is refused.
func TestJobsFitControlPlanes(t *testing.T) {
	made, err := install(t, map[string]any{"controlPlane": "require"})
	if err != nil {
		t.Fatal(err)
	}
	for name, job := range jobsOf(t, made) {
		for _, taint := range []corev1.Taint{
			{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule},      // kubeadm
			{Key: "node-role.kubernetes.io/master", Effect: corev1.TaintEffectNoSchedule},             // OpenShift
			{Key: "node-role.kubernetes.io/etcd", Value: "true", Effect: corev1.TaintEffectNoExecute}, // RKE2, as Rancher makes it
			{Key: "node-role.kubernetes.io/control-plane", Value: "true", Effect: corev1.TaintEffectNoSchedule},
			{Key: "CriticalAddonsOnly", Value: "true", Effect: corev1.TaintEffectNoExecute}, // k3s and RKE2, as their documentation says
		} {
			if !slices.ContainsFunc(job.Spec.Template.Spec.Tolerations, func(t corev1.Toleration) bool {
				return t.Key == taint.Key && t.Operator == corev1.TolerationOpExists && (t.Effect == "" || t.Effect == taint.Effect)
			}) {
				t.Errorf("%s does not tolerate %s", name, taint.ToString())
			}
		}
	}
}

// TestJobResources: a ResourceQuota refuses pods that do not say how much memory they need, and may take. The Jobs say it, as the
// controller does, and it can be set.
func TestJobResources(t *testing.T) {
	for _, c := range []struct{ set, requests, limits string }{
		{`{}`, "cpu=50m,memory=64Mi", "memory=1Gi"},
		{`{"resources": {"limits": {"memory": "8Gi"}}}`, "cpu=50m,memory=64Mi", "memory=1Gi"},
		{`{"jobResources": {"limits": {"cpu": "1", "memory": "2Gi"}}}`, "cpu=50m,memory=64Mi", "cpu=1,memory=2Gi"},
	} {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(c.set), &values); err != nil {
			t.Fatal(err)
		}
		made, err := install(t, values)
		if err != nil {
			t.Fatal(err)
		}
		for name, job := range jobsOf(t, made) {
			resources := job.Spec.Template.Spec.Containers[0].Resources
			if requests, limits := listed(resources.Requests), listed(resources.Limits); requests != c.requests || limits != c.limits {
				t.Errorf("with %s, %s requests %q and is limited to %q, want %q and %q", c.set, name, requests, limits, c.requests, c.limits)
			}
		}
	}
}

// TestJobEnvironment: the Jobs find the API server as the controller does, and keep their heap within the limit.
func TestJobEnvironment(t *testing.T) {
	for _, c := range []struct {
		host, env, from string
	}{
		{"", "GOMEMLIMIT", "kubernetes-services-endpoint"},
		{"10.0.0.1", "GOMEMLIMIT KUBERNETES_SERVICE_HOST=10.0.0.1 KUBERNETES_SERVICE_PORT=6443", ""},
	} {
		made, err := install(t, map[string]any{"apiServer": map[string]any{"host": c.host}})
		if err != nil {
			t.Fatal(err)
		}
		for name, job := range jobsOf(t, made) {
			container := job.Spec.Template.Spec.Containers[0]
			var env, from []string
			for _, e := range container.Env {
				if e.ValueFrom == nil {
					env = append(env, e.Name+"="+e.Value)
				} else if e.ValueFrom.ResourceFieldRef != nil && e.ValueFrom.ResourceFieldRef.Resource == "limits.memory" {
					env = append(env, e.Name)
				}
			}
			for _, e := range container.EnvFrom {
				from = append(from, e.ConfigMapRef.Name)
			}
			if got, all := strings.Join(env, " "), strings.Join(from, " "); got != c.env || all != c.from {
				t.Errorf("with host %q, %s has %q and those of %q, want %q and %q", c.host, name, got, all, c.env, c.from)
			}
		}
	}
}

// listed formats amounts, in order of their names.
func listed(amounts corev1.ResourceList) string {
	var all []string
	for name, amount := range amounts {
		all = append(all, string(name)+"="+amount.String())
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// TestJobs: the Jobs of the chart run where the controller may run, with an account that can only read, because root on the node
// of a Job can take its token.
func TestJobs(t *testing.T) {
	made, err := install(t, map[string]any{"controlPlane": "require"})
	if err != nil {
		t.Fatal(err)
	}
	jobs := jobsOf(t, made)
	for _, hook := range made.Hooks {
		if hook.Kind != "Job" {
			continue
		}
		for _, has := range []string{"serviceAccountName: everynode-controller-reader\n", "requiredDuringSchedulingIgnoredDuringExecution:\n",
			"key: node-role.kubernetes.io/control-plane\n"} {
			if !strings.Contains(hook.Manifest, has) {
				t.Errorf("%s does not say %q:\n%s", hook.Name, has, hook.Manifest)
			}
		}
	}
	if len(jobs) != 3 {
		t.Errorf("%d Jobs", len(jobs))
	}
	if manifest := made.Manifest; !strings.Contains(manifest, "kind: ServiceAccount\nmetadata:\n  name: everynode-controller-reader\n") {
		t.Error("their account is not there")
	}
}
