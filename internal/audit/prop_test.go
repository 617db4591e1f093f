package audit

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// For any input, also one that no API server accepts, Audit does not panic, finds
// the same in any order of the input, does not change the input, and returns
// consistent findings.
func TestAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := copied(in)
		findings := Audit(in)
		if diff := cmp.Diff(before, in); diff != "" {
			t.Fatalf("the input has changed: %s", diff)
		}
		checkFindings(t, in, findings)
		slices.Reverse(in.DaemonSets)
		slices.Reverse(in.Nodes)
		slices.Reverse(in.Pods)
		if diff := cmp.Diff(findings, Audit(in)); diff != "" {
			t.Fatalf("in another order: %s", diff)
		}
		for _, ref := range References(in) {
			if ref.Name == "" || ref.Namespace == "" {
				t.Fatalf("%+v cannot be asked for", ref)
			}
		}
	})
}

func checkFindings(t *rapid.T, in *Input, findings []Finding) {
	if !slices.IsSortedFunc(findings, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) }) {
		t.Fatalf("not the worst first: %v", findings)
	}
	once := map[string]bool{}
	for _, x := range findings {
		at := slices.IndexFunc(in.DaemonSets, func(ds appsv1.DaemonSet) bool {
			return ds.Name == x.DaemonSet && namespaceOf(ds.Namespace) == x.Namespace
		})
		if at < 0 || in.DaemonSets[at].DeletionTimestamp != nil {
			t.Fatalf("%+v is of no DaemonSet that is judged", x)
		}
		if x.Text == "" || x.Why == "" || x.Change == "" || !slices.Contains(Reasons(), x.Reason) || !slices.Contains(Severities(), x.Severity) {
			t.Fatalf("%+v does not say what it should", x)
		}
		if x.Cost != nil && (x.Cost.Nodes < 0 || x.Cost.Nodes > x.Cost.Of) || x.Cost == nil && in.Nodes != nil {
			t.Fatalf("%+v costs %s", x, x.Cost)
		}
		if id := fmt.Sprint(x.Namespace, "/", x.DaemonSet, x.Reason, x.Text); once[id] {
			t.Fatalf("%s is said twice", id)
		} else {
			once[id] = true
		}
	}
}

func copied(in *Input) *Input {
	out := *in
	out.DaemonSets, out.Nodes, out.Pods = nil, slices.Clone(in.Nodes), slices.Clone(in.Pods)
	for i := range in.DaemonSets {
		out.DaemonSets = append(out.DaemonSets, *in.DaemonSets[i].DeepCopy())
	}
	for i := range in.Nodes {
		out.Nodes[i] = *in.Nodes[i].DeepCopy()
	}
	return &out
}

func one[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

func drawInput(t *rapid.T) *Input {
	in := &Input{Now: one(t, "now", time.Time{}, storyNow())}
	for i := range rapid.IntRange(0, 3).Draw(t, "sets") {
		in.DaemonSets = append(in.DaemonSets, *drawSet(t, fmt.Sprint("set-", i)))
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "nodes") {
		in.Nodes = append(in.Nodes, *drawNode(t, fmt.Sprint("node-", i)))
	}
	for range rapid.IntRange(0, 4).Draw(t, "pods") {
		in.Pods = append(in.Pods, Pod{Owner: one(t, "owner", types.UID("set-0"), "set-1", ""), Hash: one(t, "hash", "a", "b", "c"), Created: storyNow().Add(-time.Duration(rapid.IntRange(0, 10).Draw(t, "age")) * time.Hour)})
	}
	for _, ref := range References(in) {
		if rapid.Bool().Draw(t, "known") {
			in.Know(ref, one(t, "immutable", nil, new(bool)))
		}
	}
	return in
}

func drawNode(t *rapid.T, name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, key := range []string{"a", "b", corev1.LabelOSStable} {
		if value := one(t, key, "", "x", "y"); value != "" {
			n.Labels[key] = value
		}
	}
	if effect := one(t, "effect", "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule); effect != "" {
		n.Spec.Taints = []corev1.Taint{{Key: one(t, "taint", "a", "ToBeDeletedByClusterAutoscaler"), Effect: effect}}
	}
	if status := one(t, "ready", "", corev1.ConditionTrue, corev1.ConditionUnknown); status != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	}
	return n
}

func drawAmount(t *rapid.T, label string) *intstr.IntOrString {
	return one(t, label, nil, new(intstr.FromInt32(0)), new(intstr.FromInt32(1)), new(intstr.FromInt32(9)), new(intstr.FromInt32(-1)),
		new(intstr.FromString("0%")), new(intstr.FromString("50%")), new(intstr.FromString("100%")), new(intstr.FromString("1000%")), new(intstr.FromString("x")))
}

func drawSet(t *rapid.T, name string) *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Namespace: one(t, "namespace", "", "default", "kube-system"), Generation: int64(rapid.IntRange(0, 2).Draw(t, "generation"))}}
	ds.CreationTimestamp = metav1.NewTime(storyNow().Add(-one(t, "age", time.Minute, 24*time.Hour)))
	if rapid.IntRange(0, 9).Draw(t, "deleted") == 0 {
		ds.DeletionTimestamp = &ds.CreationTimestamp
	}
	labels := map[string]string{"app": name}
	ds.Spec.Selector = one(t, "selector", &metav1.LabelSelector{MatchLabels: labels}, &metav1.LabelSelector{MatchLabels: labels}, &metav1.LabelSelector{}, nil)
	ds.Spec.Template.Labels = labels
	ds.Spec.MinReadySeconds = int32(rapid.IntRange(0, 30).Draw(t, "minReady"))
	ds.Spec.RevisionHistoryLimit = one(t, "history", nil, new(int32(0)), new(int32(10)))
	ds.Spec.UpdateStrategy.Type = one(t, "type", "", appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType, "x")
	if rapid.Bool().Draw(t, "rolling") {
		ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: drawAmount(t, "maxUnavailable"), MaxSurge: drawAmount(t, "maxSurge")}
	}
	number := func(label string) int32 { return int32(rapid.IntRange(0, 5).Draw(t, label)) }
	ds.Status = appsv1.DaemonSetStatus{ObservedGeneration: int64(number("observed")), DesiredNumberScheduled: number("desired"), CurrentNumberScheduled: number("current"), UpdatedNumberScheduled: number("updated"), NumberMisscheduled: number("misscheduled")}
	drawPod(t, &ds.Spec.Template.Spec)
	return ds
}

func drawPod(t *rapid.T, pod *corev1.PodSpec) {
	pod.HostNetwork = rapid.Bool().Draw(t, "hostNetwork")
	pod.NodeSelector = one(t, "nodeSelector", nil, map[string]string{"a": "x"}, map[string]string{"a": "x", "b": "y", corev1.LabelOSStable: "x"})
	pod.PriorityClassName = one(t, "class", "", "agents", "system-node-critical")
	pod.Tolerations = one(t, "tolerations", nil, []corev1.Toleration{{Operator: corev1.TolerationOpExists}})
	requirement := func(key string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: one(t, "operator", corev1.NodeSelectorOpIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, "x"), Values: one(t, "values", nil, []string{"x"}, []string{"1"})}
	}
	if rapid.Bool().Draw(t, "affinity") {
		terms := []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{requirement("a"), requirement("b")}}, {MatchExpressions: []corev1.NodeSelectorRequirement{requirement("b")}}}
		pod.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms[:rapid.IntRange(0, 2).Draw(t, "terms")]}}}
	}
	pod.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: one(t, "configMap", "", "m", rootCA)}}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: one(t, "secret", "", "m")}}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: one(t, "path", "", "/", "/etc/cni", "/run", "relative")}}},
		{Name: "none"},
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "containers") {
		pod.Containers = append(pod.Containers, drawContainer(t, fmt.Sprint("c", i)))
	}
	if rapid.Bool().Draw(t, "init") {
		pod.InitContainers = []corev1.Container{drawContainer(t, "init")}
		pod.InitContainers[0].RestartPolicy = one(t, "restarts", nil, new(corev1.ContainerRestartPolicyAlways))
	}
}

func drawContainer(t *rapid.T, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: one(t, "image", "", "a", "a:latest", "a:1", "a@sha256:0", ":", "@", "/"), ImagePullPolicy: one(t, "pull", "", corev1.PullAlways)}
	c.Ports = one(t, "ports", nil, []corev1.ContainerPort{{ContainerPort: 80}}, []corev1.ContainerPort{{HostPort: 80}})
	c.ReadinessProbe = one(t, "probe", nil, &corev1.Probe{})
	c.SecurityContext = one(t, "security", nil, &corev1.SecurityContext{}, &corev1.SecurityContext{Privileged: new(true)})
	c.EnvFrom = one(t, "from", nil, []corev1.EnvFromSource{{}}, []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{}}})
	c.Resources = one(t, "resources", corev1.ResourceRequirements{}, corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}})
	for _, volume := range []string{"config", "secret", "host", "missing"} {
		if rapid.Bool().Draw(t, "mounts") {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: rapid.Bool().Draw(t, "readOnly"), SubPath: one(t, "subPath", "", "a")})
		}
	}
	return c
}
