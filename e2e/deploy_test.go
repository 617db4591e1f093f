package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// chart is the path of the Helm chart, relative to this package.
var chart = filepath.Join("..", "deploy", "helm", "everynode-controller")

// handoverJob refuses `helm uninstall` while it would roll something out; testJob is what `helm test` runs; kindsJob is what `helm install`
// waits for before it makes defaultPolicy.
const (
	handoverJob   = "Job kube-system/everynode-controller-handover"
	testJob       = "Job kube-system/everynode-controller-test"
	kindsJob      = "Job kube-system/everynode-controller-kinds"
	defaultPolicy = "RolloutPolicy /default"
)

// TestManifestsAgree: what `kubectl apply -k deploy/` and `helm install` send differs only in the labels with which Helm marks
// its own objects, and in what only Helm does before and after. The static pod equals the Deployment's pod in everything that
// both can have.
func TestManifestsAgree(t *testing.T) {
	bin := builtPrograms(t)
	kustomized := objectsOf(t, filepath.Join(bin, "everynode"), "kubectl", "kustomize", filepath.Join("..", "deploy"))
	helmed := objectsOf(t, filepath.Join(bin, "tools", "helm"), "template", "everynode-controller", chart, "--namespace", "kube-system")
	for name, when := range map[string]string{handoverJob: "pre-delete", testJob: "test", kindsJob: "post-install", defaultPolicy: "post-install"} {
		if hook := helmed[name]; hook == nil || hook.GetAnnotations()["helm.sh/hook"] != when {
			t.Errorf("the chart has no %s for %s: %v", name, when, hook)
		}
		delete(helmed, name)
	}
	// The rights of the Jobs, which only the chart has.
	jobs := func(_ string, o *unstructured.Unstructured) bool { return o.GetName() == "everynode-controller-reader" }
	before := len(helmed)
	if maps.DeleteFunc(helmed, jobs); before-len(helmed) != 5 {
		t.Errorf("%d objects of the chart are about the account of its Jobs, want it, two roles and their bindings", before-len(helmed))
	}
	for _, o := range helmed {
		labels := o.GetLabels()
		for _, own := range []string{"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
			if labels[own] == "" {
				t.Errorf("%s %s of the chart has no label %s", o.GetKind(), o.GetName(), own)
			}
			delete(labels, own)
		}
		o.SetLabels(labels)
	}
	if diff := cmp.Diff(kustomized, helmed); diff != "" {
		t.Errorf("deploy/ and the chart differ (-kustomize +helm):\n%s", diff)
	}
	assisting := objectsOf(t, filepath.Join(bin, "tools", "helm"), "template", "everynode-controller", chart, "--namespace", "kube-system", "--set", "mode=assist")
	if args := jobArgs(t, assisting[handoverJob]); !slices.Equal(args, []string{"handover", "--check"}) {
		t.Errorf("where it assists, the chart asks %v before it is deleted", args)
	}
	if diff := cmp.Diff(mayAndDoes(t, withComponent(t, bin, "assist")), mayAndDoes(t, assisting)); diff != "" {
		t.Errorf("deploy/ and the chart differ where they assist (-kustomize +helm):\n%s", diff)
	}
	if diff := cmp.Diff(nodeAffinity(t, withComponent(t, bin, "control-plane-only")), nodeAffinity(t, objectsOf(t, filepath.Join(bin, "tools", "helm"),
		"template", "everynode-controller", chart, "--namespace", "kube-system", "--set", "controlPlane=require"))); diff != "" {
		t.Errorf("only nodes of the control plane (-kustomize +helm):\n%s", diff)
	}

	pod := objectsOf(t, "cat", filepath.Join("..", "deploy", "static-pod", "everynode-controller.yaml"))["Pod kube-system/everynode-controller"]
	template, _, err := unstructured.NestedMap(kustomized["Deployment kube-system/everynode-controller"].Object, "spec", "template", "spec")
	if err != nil || template == nil || pod == nil {
		t.Fatalf("no pods to compare: %v", err)
	}
	static := pod.Object["spec"].(map[string]any)
	for _, spec := range []map[string]any{template, static} {
		// These say how each gets to a node, and to the API server.
		for _, own := range []string{"affinity", "nodeSelector", "topologySpreadConstraints", "tolerations", "priority", "priorityClassName", "serviceAccountName", "automountServiceAccountToken", "volumes"} {
			delete(spec, own)
		}
		c := spec["containers"].([]any)[0].(map[string]any)
		delete(c, "envFrom")
		delete(c, "volumeMounts")
		c["args"] = slices.DeleteFunc(c["args"].([]any), func(a any) bool { return strings.HasPrefix(a.(string), "--kubeconfig=") })
	}
	if diff := cmp.Diff(template, static); diff != "" {
		t.Errorf("the static pod is unlike the Deployment's (-Deployment +static):\n%s", diff)
	}
}

// TestPoliciesAgree: kustomize and the chart install the same admission policies. The chart takes what they depend on from its
// values. Where the policies cannot be installed, the chart says so.
func TestPoliciesAgree(t *testing.T) {
	bin := builtPrograms(t)
	helm := filepath.Join(bin, "tools", "helm")
	template := []string{"template", "everynode-controller", chart, "--namespace", "kube-system", "--kube-version", "1.36.0"}
	without := objectsOf(t, helm, template...)
	for value, folder := range map[string]string{"guards.install": "policies/guards", "onDelete.install": "policies/on-delete"} {
		helmed, kustomized := objectsOf(t, helm, append(template, "--set", value+"=true")...), withComponent(t, bin, folder)
		for name, o := range helmed {
			if without[name] != nil {
				delete(helmed, name)
				delete(kustomized, name)
				continue
			}
			o.SetLabels(map[string]string{"app.kubernetes.io/name": o.GetLabels()["app.kubernetes.io/name"]})
		}
		if diff := cmp.Diff(kustomized, helmed); diff != "" || len(helmed) < 2 {
			t.Errorf("%s: deploy/ and the chart differ (-kustomize +helm):\n%s", folder, diff)
		}
	}
	mutating := objectsOf(t, helm, append(template, "--set", "mode=assist,onDelete.install=true")...)
	if args := jobArgs(t, mutating[handoverJob]); !slices.Equal(args, []string{"handover", "--check", "--on-delete"}) {
		t.Errorf("with a policy that goes with the chart, it asks %v before it is deleted", args)
	}
	settings := objectsOf(t, helm, append(template, "--set", "guards.install=true,guards.labels={ssd,example.com/pool},guards.taints={gone}")...)["ConfigMap kube-system/everynode-guards"]
	data, _, err := unstructured.NestedStringMap(settings.Object, "data")
	if diff := cmp.Diff(map[string]string{"labels": "ssd\nexample.com/pool", "taints": "gone"}, data); err != nil || diff != "" {
		t.Errorf("%v, what the guards go by (-want +got):\n%s", err, diff)
	}
	out, err := exec.Command(helm, "template", chart, "--set", "onDelete.install=true", "--kube-version", "1.35.0").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("onDelete.install needs Kubernetes 1.36 or newer")) {
		t.Errorf("on Kubernetes 1.35: %v\n%s", err, out)
	}
}

// jobArgs returns the arguments of a Job's only container.
func jobArgs(t *testing.T, job *unstructured.Unstructured) []string {
	t.Helper()
	if job == nil {
		t.Fatal("the chart has no such Job")
	}
	containers, _, err := unstructured.NestedSlice(job.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("containers: %v, %v", containers, err)
	}
	args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
	if err != nil {
		t.Fatal(err)
	}
	return args
}

// TestChartPolicies: on the first install, the chart adds the policies once the API server knows their kind. From then on they
// are part of the release, and nothing deletes them. The policy for those who do not use Helm is the same.
func TestChartPolicies(t *testing.T) {
	bin := builtPrograms(t)
	template := []string{"template", "everynode-controller", chart, "--namespace", "kube-system", "--set-json", `policies={"mine": {"waves": [{"name": "a", "nodes": 1}]}}`}
	first := objectsOf(t, filepath.Join(bin, "tools", "helm"), template...)
	later := objectsOf(t, filepath.Join(bin, "tools", "helm"), append(template, "--api-versions", "everynode.io/v1alpha1/RolloutPolicy")...)
	byHand := objectsOf(t, "cat", filepath.Join("..", "deploy", "default-policy.yaml"))
	for _, name := range []string{defaultPolicy, "RolloutPolicy /mine"} {
		was, is := first[name], later[name]
		if was == nil || is == nil {
			t.Fatalf("the chart has %s at first: %v, and later: %v", name, was, is)
		}
		annotations := is.GetAnnotations()
		want := map[string]string{"helm.sh/resource-policy": "keep", "meta.helm.sh/release-name": "everynode-controller", "meta.helm.sh/release-namespace": "kube-system"}
		if name != defaultPolicy { // its spec is from the values
			want["everynode.io/set-by-values"] = "spec"
		}
		if diff := cmp.Diff(want, annotations); diff != "" {
			t.Errorf("annotations of %s (-want +got):\n%s", name, diff)
		}
		annotations["helm.sh/hook"], annotations["helm.sh/hook-delete-policy"] = "post-install", "hook-failed"
		is.SetAnnotations(annotations)
		if diff := cmp.Diff(is, was); diff != "" {
			t.Errorf("%s later and at first, when nothing else may differ:\n%s", name, diff)
		}
	}
	if job := later[kindsJob]; job != nil || !slices.Equal(jobArgs(t, first[kindsJob]), []string{"check"}) {
		t.Errorf("later, there is %v to wait for", job)
	}
	if diff := cmp.Diff(byHand[defaultPolicy].Object["spec"], later[defaultPolicy].Object["spec"]); diff != "" {
		t.Errorf("the policy in deploy/ and that of the chart differ:\n%s", diff)
	}
	mine, _, err := unstructured.NestedSlice(later["RolloutPolicy /mine"].Object, "spec", "waves")
	if err != nil || len(mine) != 1 {
		t.Errorf("waves %v, %v", mine, err)
	}
	for name := range objectsOf(t, filepath.Join(bin, "tools", "helm"), "template", chart, "--set", "policies.default=null") {
		if strings.HasPrefix(name, "RolloutPolicy") || strings.HasSuffix(name, "-kinds") {
			t.Errorf("%s is made, though nobody wants it", name)
		}
	}
}

// mayAndDoes returns the roles of the engine, and its pod, with the flags in order.
func mayAndDoes(t *testing.T, objects map[string]*unstructured.Unstructured) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, name := range []string{"ClusterRole /everynode-controller", "Role kube-system/everynode-controller"} {
		all[name] = objects[name].Object["rules"]
	}
	pod := podsOf(t, objects)["Deployment kube-system/everynode-controller"]
	if pod == nil || len(pod.Containers) != 1 {
		t.Fatalf("no pod with one container: %v", pod)
	}
	slices.Sort(pod.Containers[0].Args)
	all["pod"] = pod
	return all
}

// withComponent renders deploy/ with a component that is commented out there.
func withComponent(t *testing.T, bin, name string) map[string]*unstructured.Unstructured {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "deploy"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	on := strings.NewReplacer("# components:", "components:", "#   - "+name, "  - "+name).Replace(string(text))
	if !strings.Contains(on, "\n  - "+name+"\n") {
		t.Fatalf("%s has no component %s:\n%s", file, name, text)
	}
	if err := os.WriteFile(file, []byte(on), 0o600); err != nil {
		t.Fatal(err)
	}
	return objectsOf(t, filepath.Join(bin, "everynode"), "kubectl", "kustomize", dir)
}

// nodeAffinity returns the node affinity of the engine's pods.
func nodeAffinity(t *testing.T, objects map[string]*unstructured.Unstructured) map[string]any {
	t.Helper()
	affinity, found, err := unstructured.NestedMap(objects["Deployment kube-system/everynode-controller"].Object, "spec", "template", "spec", "affinity", "nodeAffinity")
	if err != nil || !found || affinity["requiredDuringSchedulingIgnoredDuringExecution"] == nil {
		t.Fatalf("no node is required: %v, %v", affinity, err)
	}
	return affinity
}

// TestChartValues checks the values that the chart must refuse, and what it makes of an address of the API server.
func TestChartValues(t *testing.T) {
	helm := filepath.Join(builtPrograms(t), "tools", "helm")
	for _, bad := range []string{"replica=2", "replicas=0", "apiServer.host=https://10.0.0.1", "metrics.port=0", "hostNetwork=maybe", "jobTolerations[0].kye=x", "confirmRemoval=-1", "logFormat=xml",
		"controlPlane=no", "mode=both", "metrics.tlsSecret=a b", `image.tag=1"`, "image.repository=a b", "apiServer.host=a\nb", "imagePullSecrets[0].nam=x", "nodeSelector.a=1", "definitions.install=maybe", "guards.labels={a b}", "onDelete.install=1", "policies.A_.waves=x", "policies.default=1"} {
		out, err := exec.Command(helm, "template", chart, "--set", bad).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("values don't meet the specifications of the schema")) {
			t.Errorf("--set %s: %v\n%s", bad, err, out)
		}
	}
	objects := objectsOf(t, helm, "template", "everynode-controller", chart, "--namespace", "ours",
		"--set", "apiServer.host=10.0.0.1,apiServer.port=8443,metrics.port=9000,metrics.tlsSecret=ours,metrics.clientAuth=true,image.repository=example.com/ec,image.tag=v2,extraArgs={--create-qps=50}")
	containers, _, err := unstructured.NestedSlice(objects["Deployment ours/everynode-controller"].Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("containers: %v, %v", containers, err)
	}
	c := containers[0].(map[string]any)
	probe, _, err := unstructured.NestedMap(c, "readinessProbe", "httpGet")
	got := map[string]any{"env": c["env"], "args": c["args"], "image": c["image"], "probe": probe, "envFrom": c["envFrom"]}
	want := map[string]any{
		"env": []any{map[string]any{"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"}, map[string]any{"name": "KUBERNETES_SERVICE_PORT", "value": "8443"}},
		"args": []any{"--log-format=json", "--metrics-bind-address=0.0.0.0:9000", "--tls-cert-file=/tls/tls.crt",
			"--tls-private-key-file=/tls/tls.key", "--client-ca-file=/tls/ca.crt", "--create-qps=50"},
		"image": "example.com/ec:v2",
		"probe": map[string]any{"host": "127.0.0.1", "path": "/readyz", "port": int64(9000), "scheme": "HTTPS"}, "envFrom": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, the container (-want +got):\n%s", err, diff)
	}
	if objects["CustomResourceDefinition /rolloutpolicies.everynode.io"] == nil {
		t.Error("the kinds of releases in waves are not installed")
	}
	without := objectsOf(t, helm, "template", "everynode-controller", chart, "--namespace", "kube-system", "--set", "definitions.install=false")
	if without[handoverJob] == nil {
		t.Error("nothing is asked before it is uninstalled where somebody else has installed the kinds")
	}
	for name := range without {
		if strings.HasPrefix(name, "CustomResourceDefinition") {
			t.Errorf("%s is installed, though nobody wants it", name)
		}
	}
	out, err := exec.Command(helm, "template", chart, "--set", "metrics.clientAuth=true").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("metrics.clientAuth needs metrics.tlsSecret")) {
		t.Errorf("certificates of clients, and no TLS: %v\n%s", err, out)
	}
	// Names that YAML takes for something else.
	odd := objectsOf(t, helm, "template", "2026", chart, "--namespace", "1234", "--set-json", `policies={"on": {}, "0x1f": {}}`)
	for _, name := range []string{"RolloutPolicy /on", "RolloutPolicy /0x1f", "Deployment 1234/everynode-controller"} {
		if o := odd[name]; o == nil || o.GetLabels()["app.kubernetes.io/instance"] != "2026" {
			t.Errorf("the chart makes %s of a release 2026 as %v", name, o)
		}
	}
	// One lease for the cluster, and a service account in the namespace of the pods.
	binding := objects["RoleBinding kube-system/everynode-controller"]
	subjects, _, err := unstructured.NestedSlice(binding.Object, "subjects")
	if err != nil || cmp.Diff(subjects, []any{map[string]any{"kind": "ServiceAccount", "name": "everynode-controller", "namespace": "ours"}}) != "" {
		t.Errorf("the lease is for %v, %v", subjects, err)
	}
}

// TestChartNodes: every pod of the chart, also of its Jobs, is for nodes with Linux, whatever else the values select. Virtual nodes have
// taints that the controller tolerates, and would take a copy that never starts.
func TestChartNodes(t *testing.T) {
	helm := filepath.Join(builtPrograms(t), "tools", "helm")
	for _, set := range []string{"mode=engine", "mode=assist", `nodeSelector.kubernetes\.io/arch=amd64,nodeSelector.kubernetes\.io/os=windows`} {
		pods := podsOf(t, objectsOf(t, helm, "template", "everynode-controller", chart, "--namespace", "kube-system", "--set", set))
		if len(pods) != 4 {
			t.Errorf("%d kinds of pods, want the controller's and those of three Jobs", len(pods))
		}
		for name, pod := range pods {
			want := map[string]string{"kubernetes.io/os": "linux"}
			if strings.Contains(set, "arch") {
				want["kubernetes.io/arch"] = "amd64"
			}
			if diff := cmp.Diff(want, pod.NodeSelector); diff != "" {
				t.Errorf("with %s, the nodes of %s (-want +got):\n%s", set, name, diff)
			}
			required := pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
			for _, labels := range []map[string]string{{"type": "virtual-kubelet"}, {"eks.amazonaws.com/compute-type": "fargate"}, nil} {
				fits, err := nodeaffinity.NewLazyErrorNodeSelector(required).Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}})
				if err != nil || fits != (labels == nil) {
					t.Errorf("%s fits a node with %v: %v, %v", name, labels, fits, err)
				}
			}
		}
	}
}

// TestChartPodSecurity: pods that are not on the network of their nodes comply with the Pod Security Standard "restricted", however
// their metrics are served. Those on the network of the node do not even comply with "baseline", which shows that the test can tell.
func TestChartPodSecurity(t *testing.T) {
	bin := builtPrograms(t)
	standards, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  string
		host bool
		// how a kubelet asks whether it is healthy
		probe corev1.ProbeHandler
		bind  string
	}{
		{"mode=engine", true, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Path: "/healthz", Port: intstr.FromInt32(10261)}}, "127.0.0.1:10261"},
		{"mode=assist,hostNetwork=true", true, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Path: "/healthz", Port: intstr.FromInt32(10261)}}, "127.0.0.1:10261"},
		{"mode=assist", false, corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/everynode-controller", "probe", "http://127.0.0.1:10261/healthz"}}}, "127.0.0.1:10261"},
		{"hostNetwork=false,metrics.port=9000", false, corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/everynode-controller", "probe", "http://127.0.0.1:9000/healthz"}}}, "127.0.0.1:9000"},
		{"mode=assist,metrics.tlsSecret=ours,metrics.clientAuth=true", false,
			corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(10261), Scheme: corev1.URISchemeHTTPS}}, "0.0.0.0:10261"},
	} {
		pods := podsOf(t, objectsOf(t, filepath.Join(bin, "tools", "helm"), "template", "everynode-controller", chart, "--namespace", "kube-system", "--set", c.set))
		for name, pod := range pods {
			level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
			if c.host {
				level.Level = api.LevelBaseline
			}
			result := policy.AggregateCheckResults(standards.EvaluatePod(level, &metav1.ObjectMeta{}, pod))
			if pod.HostNetwork != c.host || result.Allowed == c.host {
				t.Errorf("with %s, %s: on the network of the node: %v; %s: %v %s", c.set, name, pod.HostNetwork, level, result.Allowed, result.ForbiddenDetail())
			}
		}
		container := pods["Deployment kube-system/everynode-controller"].Containers[0]
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe} {
			if diff := cmp.Diff(c.probe, probe.ProbeHandler); diff != "" {
				t.Errorf("with %s, a probe (-want +got):\n%s", c.set, diff)
			}
		}
		if !slices.Contains(container.Args, "--metrics-bind-address="+c.bind) {
			t.Errorf("with %s, the flags are %v, want %s", c.set, container.Args, c.bind)
		}
	}
}

// TestChartJobs: the Jobs of the chart are not placed on nodes from which no answer can come, because `helm uninstall` waits for one.
// They do run on nodes that have no pod network yet, and on those of the control plane.
func TestChartJobs(t *testing.T) {
	helm := filepath.Join(builtPrograms(t), "tools", "helm")
	objects := objectsOf(t, helm, "template", "everynode-controller", chart, "--namespace", "kube-system", "--set-json", `jobTolerations=[{"key": "pool", "operator": "Exists"}]`)
	for name, pod := range podsOf(t, objects) {
		if pod.PriorityClassName != "system-cluster-critical" {
			t.Errorf("%s has the priority class %q", name, pod.PriorityClassName)
		}
		if !strings.HasPrefix(name, "Job ") {
			continue
		}
		// The API server adds these (DefaultTolerationSeconds).
		for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			pod.Tolerations = append(pod.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
		}
		for _, c := range []struct {
			fits   bool
			taints []corev1.Taint
		}{
			{true, nil},
			{true, []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}},
			{true, []corev1.Taint{{Key: "node-role.kubernetes.io/master", Effect: corev1.TaintEffectNoSchedule}}},
			{true, []corev1.Taint{{Key: "node-role.kubernetes.io/etcd", Value: "true", Effect: corev1.TaintEffectNoExecute}}},
			{true, []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}},
			{true, []corev1.Taint{{Key: "pool", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}}},
			{false, []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}},
			{false, []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}},
			{false, []corev1.Taint{{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}}},
			{false, []corev1.Taint{{Key: "virtual-kubelet.io/provider", Effect: corev1.TaintEffectNoSchedule}}},
		} {
			if _, not := scheduling.FindMatchingUntoleratedTaint(klog.Background(), c.taints, pod.Tolerations, func(*corev1.Taint) bool { return true }, false); not == c.fits {
				t.Errorf("a pod of %s fits a node with %v: %v, want %v", name, c.taints, !not, c.fits)
			}
		}
	}
	// Another class, or none, for all of them.
	for _, class := range []string{"ours", ""} {
		for name, pod := range podsOf(t, objectsOf(t, helm, "template", "everynode-controller", chart, "--set", "priorityClassName="+class)) {
			if pod.PriorityClassName != class {
				t.Errorf("%s has the priority class %q, want %q", name, pod.PriorityClassName, class)
			}
		}
	}
}

// podsOf returns the pods that Deployments and Jobs make, by the names of these.
func podsOf(t *testing.T, objects map[string]*unstructured.Unstructured) map[string]*corev1.PodSpec {
	t.Helper()
	pods := map[string]*corev1.PodSpec{}
	for name, o := range objects {
		spec, found, err := unstructured.NestedMap(o.Object, "spec", "template", "spec")
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			continue
		}
		pods[name] = &corev1.PodSpec{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(spec, pods[name], true); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return pods
}

// builtPrograms returns the folder of the programs that make has built. These tests need no root.
func builtPrograms(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("EVERYNODE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "bin")
	}
	for _, program := range []string{"everynode", filepath.Join("tools", "helm")} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Fatalf("%v: run `make build bin/tools/helm`, or set EVERYNODE_BIN", err)
		}
	}
	return bin
}

// objectsOf decodes the objects that a program prints. Keys: "KIND NAMESPACE/NAME".
func objectsOf(t *testing.T, program string, args ...string) map[string]*unstructured.Unstructured {
	t.Helper()
	objects := map[string]*unstructured.Unstructured{}
	for _, o := range printedObjects(t, exec.Command(program, args...)) {
		objects[o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName()] = o
	}
	return objects
}

// printedObjects decodes the objects that a program prints, in their order.
func printedObjects(t *testing.T, program *exec.Cmd) (objects []*unstructured.Unstructured) {
	t.Helper()
	var complaint bytes.Buffer
	program.Stderr = &complaint
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, lastLines(complaint.String()))
	}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(out), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := docs.Decode(o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		if o.Object != nil {
			objects = append(objects, o)
		}
	}
}
