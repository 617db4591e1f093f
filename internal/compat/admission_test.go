package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"everynode/internal/engine/command"
	"everynode/internal/why"
)

const policiesOfTheChart = "../../deploy/helm/everynode-controller/policies/"

// installFolder installs the manifests of a component, as kustomize does. The end of the test removes them.
func (l *lab) installFolder(folder string) {
	l.t.Helper()
	var component struct{ Resources []string }
	l.do(yaml.Unmarshal(l.file(filepath.Join(folder, "kustomization.yaml")), &component))
	for _, name := range component.Resources {
		l.installFile(filepath.Join(folder, name), func(*unstructured.Unstructured) bool { return true })
	}
}

// installFile installs those objects of a manifest that are wanted. The end of the test removes them.
func (l *lab) installFile(file string, wanted func(*unstructured.Unstructured) bool) {
	l.t.Helper()
	client, err := dynamic.NewForConfig(l.config)
	l.do(err)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(l.client.Discovery()))
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(l.file(file)), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := docs.Decode(o); errors.Is(err, io.EOF) {
			return
		} else {
			l.do(err)
		}
		if !wanted(o) {
			continue
		}
		mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
		l.do(err)
		l.installObject(client, mapping, o)
	}
}

func (l *lab) installObject(client dynamic.Interface, mapping *meta.RESTMapping, o *unstructured.Unstructured) {
	l.t.Helper()
	var objects dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		objects = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	_, err := objects.Create(l.t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	l.do(err)
	l.t.Cleanup(func() {
		if err := objects.Delete(context.WithoutCancel(l.t.Context()), o.GetName(), metav1.DeleteOptions{}); err != nil {
			l.t.Error(err)
		}
	})
}

func (l *lab) file(name string) []byte {
	l.t.Helper()
	text, err := os.ReadFile(name)
	l.do(err)
	return text
}

// as returns a client that impersonates another user.
func (l *lab) as(user string, groups ...string) kubernetes.Interface {
	l.t.Helper()
	config := rest.CopyConfig(l.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	client, err := kubernetes.NewForConfig(config)
	l.do(err)
	return client
}

// TestOnDeletePolicy: a DaemonSet that names a RolloutPolicy becomes OnDelete, by whatever request it is written, and
// keeps the rest of its strategy. Applying the same manifest again changes nothing, and a diff shows nothing.
func TestOnDeletePolicy(t *testing.T) {
	needsMutation(t)
	l := newLab(t)
	l.installFolder(policiesOfTheChart + "on-delete")
	ctx, sets := t.Context(), l.client.AppsV1().DaemonSets(namespace)
	l.until("the policy works", func() bool {
		ds, err := sets.Create(ctx, agent(rolling(3, 0), follows), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	})
	is := func(when string, want appsv1.DaemonSetUpdateStrategyType) {
		t.Helper()
		s := l.set().Spec.UpdateStrategy
		if s.Type != want || s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable.IntValue() != 3 {
			t.Errorf("%s: %+v, want %s with maxUnavailable 3", when, s, want)
		}
	}
	l.create(agent(rolling(3, 0)))
	is("without a policy", appsv1.RollingUpdateDaemonSetStrategyType)
	l.edit(follows)
	is("once it names one", appsv1.OnDeleteDaemonSetStrategyType)
	l.edit(rolling(3, 0))
	is("after an update to RollingUpdate", appsv1.OnDeleteDaemonSetStrategyType)
	l.edit(func(ds *appsv1.DaemonSet) { ds.Annotations = nil })
	is("once it names none", appsv1.OnDeleteDaemonSetStrategyType)
	l.edit(rolling(3, 0))
	is("and is written once more", appsv1.RollingUpdateDaemonSetStrategyType)
	l.do(sets.Delete(ctx, "agent", metav1.DeleteOptions{}))

	l.create(agent(rolling(3, 0), follows))
	is("as it is created", appsv1.OnDeleteDaemonSetStrategyType)
	l.do(sets.Delete(ctx, "agent", metav1.DeleteOptions{}))
	l.appliesUnderOnDelete(is)
}

// needsMutation skips the test on API servers older than 1.36: they do not serve MutatingAdmissionPolicies by
// default.
func needsMutation(t *testing.T) {
	t.Helper()
	if version := filepath.Base(filepath.Dir(os.Getenv(apiServerEnv))); version == "v1.33" || version == "v1.34" || version == "v1.35" {
		t.Skipf("Kubernetes %s has no MutatingAdmissionPolicy of admissionregistration.k8s.io/v1", version)
	}
}

// appliesUnderOnDelete applies a manifest with RollingUpdate again and again, without force, as GitOps tools do.
func (l *lab) appliesUnderOnDelete(is func(when string, want appsv1.DaemonSetUpdateStrategyType)) {
	l.t.Helper()
	ctx, sets := l.t.Context(), l.sets()
	apply := func(o *unstructured.Unstructured, options metav1.ApplyOptions) *unstructured.Unstructured {
		l.t.Helper()
		options.FieldManager = "gitops"
		out, err := sets.Apply(ctx, "agent", o.DeepCopy(), options)
		l.do(err)
		return out
	}
	inGit := l.manifest(rolling(3, 0), follows)
	first := apply(inGit, metav1.ApplyOptions{})
	is("as it is applied", appsv1.OnDeleteDaemonSetStrategyType)
	for range 3 {
		if again := apply(inGit, metav1.ApplyOptions{}); again.GetResourceVersion() != first.GetResourceVersion() || again.GetGeneration() != 1 {
			l.t.Errorf("applied again, it is written: generation %d\nfirst %v\nnow   %v", again.GetGeneration(), first.Object["metadata"], again.Object["metadata"])
			break
		}
	}
	diff := apply(inGit, metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}})
	if kind, _, _ := unstructured.NestedString(diff.Object, "spec", "updateStrategy", "type"); kind != "OnDelete" || diff.GetGeneration() != 1 {
		l.t.Errorf("a diff on the server shows %s, and generation %d", kind, diff.GetGeneration())
	}
	changed := apply(l.manifest(rolling(3, 0), follows, image("agent:2")), metav1.ApplyOptions{})
	is("after another version is applied", appsv1.OnDeleteDaemonSetStrategyType)
	if changed.GetGeneration() != 2 {
		l.t.Errorf("after another version is applied: generation %d", changed.GetGeneration())
	}
	byClient := []byte(`{"spec": {"updateStrategy": {"type": "RollingUpdate"}}}`)
	patched, err := sets.Patch(ctx, "agent", types.MergePatchType, byClient, metav1.PatchOptions{FieldManager: "kubectl-client-side-apply"})
	l.do(err)
	if patched.GetGeneration() != 2 {
		l.t.Errorf("after a patch of the client's: generation %d", patched.GetGeneration())
	}
	is("after a patch of the client's", appsv1.OnDeleteDaemonSetStrategyType)
}

// TestOnDeletePolicyAssists: beside Kubernetes' controller, a manifest with RollingUpdate is released in waves.
func TestOnDeletePolicyAssists(t *testing.T) {
	needsMutation(t)
	d, _, g := newAssisted(t, twoWaves, 3, rolling(1, 0))
	d.installFolder(policiesOfTheChart + "on-delete")
	d.until("the policy works", func() bool {
		d.edit(rolling(1, 0))
		return d.set().Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	})
	ours := d.start(assistant(g))
	d.stands(0, "Idle", "")
	d.edit(rolling(1, 0), image("agent:2"))
	d.stands(1, "Waiting", "NotApproved")
	d.wantImages("in the first wave", map[string]int{"agent:2": 1, "agent:1": 2})
	d.uninstalls("the policy stays", nil, "Nobody would update these any more, as they are OnDelete: compat/agent. ")
	d.uninstalls("the policy goes as well", why.ErrWouldUpdate, "compat/agent   Waiting   2 ", "--on-delete")
	d.ask(map[string]any{"promote": map[string]any{"release": 1, "wave": "first"}})
	d.until("all have it", func() bool { return d.everywhere("agent:2") })
	d.stands(1, "Idle", "")
	d.uninstalls("the policy goes as well, at rest", nil, "No pod would move.", "--on-delete")
	ours.stop()
}

// uninstalls runs, with the rights of the engine's account, the check that `helm uninstall` runs first.
func (d *rolloutKinds) uninstalls(when string, want error, says string, flags ...string) {
	d.t.Helper()
	cmd := command.NewHandover(d.asAccount)
	cmd.SetArgs(append(flags, "--check"))
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	if err := cmd.ExecuteContext(d.t.Context()); !errors.Is(err, want) || !strings.Contains(out.String(), says) {
		d.t.Errorf("%s: %v, want %v, and to be told %q:\n%s", when, err, want, says, &out)
	}
}

// asAccount returns a client configuration for the engine's account in a cluster that is not everynode's.
func (d *rolloutKinds) asAccount(string) (*rest.Config, error) {
	config := rest.CopyConfig(d.config)
	config.Impersonate = account()
	return config, nil
}

// newGuarded returns a cluster with the guards, a guarded label, and a taint that may be added.
func newGuarded(t *testing.T) *lab {
	l := newLab(t)
	l.installFolder(policiesOfTheChart + "guards")
	settings := map[string]any{"data": map[string]string{"labels": "ssd\nexample.com/pool\n", "taints": "example.com/gone"}}
	patch, err := json.Marshal(settings)
	l.do(err)
	_, err = l.client.CoreV1().ConfigMaps("kube-system").Patch(t.Context(), "everynode-guards", types.MergePatchType, patch, metav1.PatchOptions{})
	l.do(err)
	l.addNode("n1", func(n *corev1.Node) {
		n.Labels["ssd"], n.Labels["other"] = "yes", "yes"
		n.Spec.Taints = []corev1.Taint{{Key: "was-there", Effect: corev1.TaintEffectNoExecute}}
	})
	l.until("the guards work", func() bool {
		return l.tries(l.client, label("ssd", nil)) != nil && l.tries(l.client, taint("x", "NoExecute")) != nil
	})
	return l
}

// nodeEdit is a merge patch of a node, or of its status.
type nodeEdit struct {
	patch map[string]any
	sub   []string
}

func label(key string, value any) nodeEdit {
	return nodeEdit{patch: map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}}}
}

func taint(key, effect string) nodeEdit {
	return nodeEdit{patch: map[string]any{"spec": map[string]any{"taints": []any{
		map[string]any{"key": "was-there", "effect": "NoExecute"}, map[string]any{"key": key, "effect": effect}}}}}
}

// tries makes a dry run of an edit of n1.
func (l *lab) tries(client kubernetes.Interface, e nodeEdit) error {
	l.t.Helper()
	patch, err := json.Marshal(e.patch)
	l.do(err)
	_, err = client.CoreV1().Nodes().Patch(l.t.Context(), "n1", types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, e.sub...)
	return err
}

// says checks that an edit is refused with words that tell the user what to do.
func says(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("%s is not refused: %v", what, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s is refused, and nothing says %q: %v", what, word, err)
		}
	}
}

func passes(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s is refused: %v", what, err)
	}
}

// TestNodeGuards: nobody, not even an administrator, can change by mistake labels that DaemonSets select, or taints
// that evict. Harmless edits pass, and so do those of kubelets and of Kubernetes' controllers.
func TestNodeGuards(t *testing.T) {
	l := newGuarded(t)
	kubelet := l.as("system:node:n1", "system:nodes", "system:masters") // the server here has no authorizer for nodes
	lifecycle := l.as("system:serviceaccount:kube-system:node-controller", "system:serviceaccounts", "system:serviceaccounts:kube-system")
	says(t, "a label that goes", l.tries(l.client, label("ssd", nil)), "label ssd of node n1", "ssd=yes", "kubectl annotate node n1 everynode.io/allow-label-removal=yes", "everynode-break-glass")
	says(t, "a label that changes", l.tries(l.client, label("ssd", "no")), "label ssd")
	byStatus := label("ssd", nil)
	byStatus.sub = []string{"status"}
	says(t, "a label that goes by way of the status", l.tries(l.client, byStatus), "label ssd")
	passes(t, "another label that goes", l.tries(l.client, label("other", nil)))
	passes(t, "a guarded label that comes", l.tries(l.client, label("example.com/pool", "a")))
	passes(t, "a kubelet's label", l.tries(kubelet, label("ssd", nil)))

	says(t, "a taint that evicts", l.tries(l.client, taint("mine", "NoExecute")), "taint mine:NoExecute", "node n1", "NoSchedule", "kubectl annotate node n1 everynode.io/allow-taints=yes", "everynode-guards")
	passes(t, "a taint that keeps new pods away", l.tries(l.client, taint("mine", "NoSchedule")))
	passes(t, "a taint that is allowed", l.tries(l.client, taint("example.com/gone", "NoExecute")))
	passes(t, "a taint of Kubernetes'", l.tries(lifecycle, taint("node.kubernetes.io/unreachable", "NoExecute")))
	passes(t, "a kubelet's taint", l.tries(kubelet, taint("mine", "NoExecute")))
	passes(t, "a taint that goes", l.tries(l.client, nodeEdit{patch: map[string]any{"spec": map[string]any{"taints": nil}}}))
	passes(t, "an annotation", l.tries(l.client, nodeEdit{patch: map[string]any{"metadata": map[string]any{"annotations": map[string]any{"a": "b"}}}}))
	heartbeat := nodeEdit{patch: map[string]any{"status": map[string]any{"nodeInfo": map[string]any{"bootID": "b"}}}, sub: []string{"status"}}
	passes(t, "a status", l.tries(lifecycle, heartbeat))

	l.breakGlass("upgrader", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}})
	upgrader := l.as("upgrader")
	l.until("break-glass lets labels go", func() bool { return l.tries(upgrader, label("ssd", nil)) == nil })
	passes(t, "a taint with break-glass", l.tries(upgrader, taint("mine", "NoExecute")))
	l.editNode("n1", func(n *corev1.Node) {
		n.Annotations = map[string]string{"everynode.io/allow-label-removal": "yes", "everynode.io/allow-taints": "yes"}
	})
	passes(t, "a label that goes from a node where it may", l.tries(l.client, label("ssd", nil)))
	passes(t, "a taint on a node where it may", l.tries(l.client, taint("mine", "NoExecute")))
}

// breakGlass gives a user the right to override guards, and another right that the test needs.
func (l *lab) breakGlass(user string, needs rbacv1.PolicyRule) {
	l.t.Helper()
	rbac, ctx := l.client.RbacV1(), l.t.Context()
	_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: []rbacv1.PolicyRule{needs}}, metav1.CreateOptions{})
	l.do(err)
	for _, role := range []string{"everynode-break-glass", user} {
		name := user + "-" + role
		_, err := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}, metav1.CreateOptions{})
		l.do(err)
		l.t.Cleanup(func() {
			l.do(rbac.ClusterRoleBindings().Delete(context.WithoutCancel(ctx), name, metav1.DeleteOptions{}))
		})
	}
	l.t.Cleanup(func() { l.do(rbac.ClusterRoles().Delete(context.WithoutCancel(ctx), user, metav1.DeleteOptions{})) })
}

// breakGlassHere gives a user the right to override guards in the namespace, and the rights of another role there.
func (l *lab) breakGlassHere(user, role string) {
	l.t.Helper()
	for _, role := range []string{"everynode-break-glass", role} {
		bindings, name := l.client.RbacV1().RoleBindings(namespace), user+"-"+role
		_, err := bindings.Create(l.t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}, metav1.CreateOptions{})
		l.do(err)
		l.t.Cleanup(func() { l.do(bindings.Delete(context.WithoutCancel(l.t.Context()), name, metav1.DeleteOptions{})) })
	}
}

// TestPlacementGuard: nobody can narrow by mistake where a DaemonSet with a policy may run.
func TestPlacementGuard(t *testing.T) {
	l := newGuarded(t)
	placed := func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector = map[string]string{"ssd": "yes"}
		ds.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}, {Key: "b", Operator: corev1.TolerationOpExists}}
	}
	l.create(agent(placed, follows))
	try := func(client kubernetes.Interface, edits ...func(*appsv1.DaemonSet)) error {
		ds := l.set()
		for _, edit := range edits {
			edit(ds)
		}
		_, err := client.AppsV1().DaemonSets(namespace).Update(t.Context(), ds, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	narrow := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector["disk"] = "fast" }
	required := func(value string) func(*appsv1.DaemonSet) {
		return func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}}}}}
		}
	}
	intolerant := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Tolerations = ds.Spec.Template.Spec.Tolerations[:1] }
	allow := func(why string) func(*appsv1.DaemonSet) {
		return func(ds *appsv1.DaemonSet) { ds.Annotations["everynode.io/allow-placement-change"] = why }
	}
	wider := func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector = nil
		ds.Spec.Template.Spec.Tolerations = append(ds.Spec.Template.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
	}
	policyless := func(ds *appsv1.DaemonSet) { delete(ds.Annotations, "everynode.io/rollout-policy") }
	l.until("the guard works", func() bool { return try(l.client, narrow) != nil })
	says(t, "a narrower selector", try(l.client, narrow), "edit of nodeSelector", "DaemonSet agent", "everynode.io/allow-placement-change", "everynode plan", "everynode-break-glass")
	says(t, "a required affinity", try(l.client, required("a")), "edit of affinity")
	says(t, "tolerations less", try(l.client, intolerant), "edit of tolerations")
	says(t, "one node", try(l.client, func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeName = "n1" }), "edit of nodeName")
	says(t, "two of them", try(l.client, narrow, intolerant), "nodeSelector, tolerations")
	says(t, "one that takes the policy off as well", try(l.client, narrow, policyless), "nodeSelector")
	passes(t, "another version", try(l.client, image("agent:2")))
	passes(t, "a wider placement", try(l.client, wider))
	passes(t, "an annotation", try(l.client, allow("")))
	passes(t, "one that says why", try(l.client, narrow, allow("OPS-1")))

	l.edit(narrow, allow("OPS-1"))
	says(t, "a second edit for the same reason", try(l.client, required("a")), "affinity")
	passes(t, "a second edit that says why", try(l.client, required("a"), allow("OPS-2")))
	l.edit(required("a"), allow("OPS-2"))
	says(t, "another required affinity", try(l.client, required("b")), "affinity")
	passes(t, "none any more", try(l.client, func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Affinity = nil }))

	l.breakGlass("mover", rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"update"}})
	mover := l.as("mover")
	l.until("break-glass lets it pass", func() bool { return try(mover, intolerant) == nil })
	l.breakGlassHere("owner", "mover")
	owner := l.as("owner")
	l.until("break-glass of one namespace lets it pass", func() bool { return try(owner, intolerant) == nil })
	l.edit(policyless)
	passes(t, "one without a policy", try(l.client, intolerant))
}

// TestGuardsWithoutSettings: without the ConfigMap the guards of nodes refuse nothing, rather than everything. With
// an empty one no label is guarded, and no taint is allowed.
func TestGuardsWithoutSettings(t *testing.T) {
	l := newGuarded(t)
	maps := l.client.CoreV1().ConfigMaps("kube-system")
	_, err := maps.Patch(t.Context(), "everynode-guards", types.MergePatchType, []byte(`{"data": null}`), metav1.PatchOptions{})
	l.do(err)
	l.until("labels pass", func() bool { return l.tries(l.client, label("ssd", nil)) == nil })
	l.until("no taint passes", func() bool { return l.tries(l.client, taint("example.com/gone", "NoExecute")) != nil })
	kept, err := maps.Get(t.Context(), "everynode-guards", metav1.GetOptions{})
	l.do(err)
	l.do(maps.Delete(t.Context(), kept.Name, metav1.DeleteOptions{}))
	l.until("labels and taints pass", func() bool {
		return l.tries(l.client, label("ssd", nil)) == nil && l.tries(l.client, taint("mine", "NoExecute")) == nil
	})
	kept.ResourceVersion, kept.UID = "", ""
	_, err = maps.Create(t.Context(), kept, metav1.CreateOptions{})
	l.do(err)
}
