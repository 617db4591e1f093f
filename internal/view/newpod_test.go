package view

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

func TestNewPod(t *testing.T) {
	ds := daemonSet()
	zone := &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "Exists"}}}}}}}
	ds.Spec.Template.Spec.Affinity = zone
	ds.Spec.Template.Annotations = map[string]string{"note": "x"}
	ds.Spec.Template.Finalizers = []string{"f"}
	before := ds.DeepCopy()

	pod := NewPod(ds, "abc", plan.Create{Node: "n"}, "agent-x")
	if pod.Name != "agent-x" || pod.Namespace != "default" || pod.GenerateName != "agent-" || pod.Spec.NodeName != "n" {
		t.Errorf("pod is %s/%s on %q", pod.Namespace, pod.Name, pod.Spec.NodeName)
	}
	wantLabels := map[string]string{"app": "agent", "controller-revision-hash": "abc", "pod-template-generation": "3"}
	if diff := cmp.Diff(wantLabels, pod.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if !metav1.IsControlledBy(pod, ds) || pod.OwnerReferences[0].Kind != "DaemonSet" || pod.OwnerReferences[0].APIVersion != "apps/v1" {
		t.Errorf("owners: %+v", pod.OwnerReferences)
	}
	if diff := cmp.Diff(zone, pod.Spec.Affinity); diff != "" {
		t.Errorf("a bound pod keeps its affinity (-want +got):\n%s", diff)
	}

	waits := NewPod(ds, "", plan.Create{Node: "n", ByScheduler: true}, "agent-y")
	if waits.Spec.NodeName != "" || TargetNode(waits) != "n" {
		t.Errorf("for the scheduler: node %q, meant for %q", waits.Spec.NodeName, TargetNode(waits))
	}
	if _, ok := waits.Labels["controller-revision-hash"]; ok {
		t.Error("an empty hash is written")
	}
	// Nothing is shared with the template.
	pod.Labels["app"], pod.Annotations["note"], pod.Finalizers[0] = "y", "y", "y"
	waits.Spec.Containers[0].Name = "y"
	if diff := cmp.Diff(before, ds); diff != "" {
		t.Errorf("the DaemonSet was changed:\n%s", diff)
	}
}

func TestNewPodWithoutTemplateGeneration(t *testing.T) {
	ds := daemonSet()
	for _, a := range []map[string]string{nil, {appsv1.DeprecatedTemplateGeneration: "x"}} {
		ds.Annotations = a
		if _, ok := NewPod(ds, "abc", plan.Create{Node: "n"}, "p").Labels["pod-template-generation"]; ok {
			t.Errorf("%v: the label is written", a)
		}
		if Spec(ds, "abc").Generation != 0 {
			t.Errorf("%v: the generation is read", a)
		}
	}
}

func TestPodName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	ds := daemonSet()
	names := map[string]bool{}
	other := daemonSet()
	other.UID = "other"
	for _, name := range []string{
		PodName(ds, "n1", "abc", "", 0), PodName(ds, "n2", "abc", "", 0), PodName(ds, "n1", "abd", "", 0),
		PodName(ds, "n1", "abc", "u", 0), PodName(ds, "n1", "abc", "", 1), PodName(other, "n1", "abc", "", 0),
		PodName(ds, "n1a", "bc", "", 0), // the same letters, split differently
	} {
		if names[name] || !valid.MatchString(name) || !strings.HasPrefix(name, "agent-") || len(name) != len("agent-")+podLetters {
			t.Errorf("bad or double name %q", name)
		}
		names[name] = true
	}
	if a, b := PodName(ds, "n1", "abc", "u", 2), PodName(ds, "n1", "abc", "u", 2); a != b {
		t.Errorf("the same arguments give %q and %q", a, b)
	}
	// These names are constants: a restart with a new binary must compute the same
	// ones.
	if got := PodName(ds, "n1", "abc", "", 0); got != "agent-kpkzgr6ss5" {
		t.Errorf("the name is %q", got)
	}
	for _, name := range []string{strings.Repeat("a", 52), strings.Repeat("a", 51) + "-b", strings.Repeat("a", 51) + ".b", strings.Repeat("a.", 100) + "a"} {
		ds.Name = name
		if got := PodName(ds, "n1", "abc", "", 0); len(got) > 63 || !valid.MatchString(got) {
			t.Errorf("%q gives %q", name, got)
		}
	}
}

func TestDaemonTolerations(t *testing.T) {
	five := int64(5)
	spec := &corev1.PodSpec{HostNetwork: true, Tolerations: []corev1.Toleration{
		{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &five},
		{Key: "mine"},
	}}
	got := withDaemonTolerations(spec)
	if len(got) != 8 || got[0].TolerationSeconds != nil || got[1].Key != "mine" {
		t.Errorf("tolerations: %+v", got)
	}
	if *spec.Tolerations[0].TolerationSeconds != 5 {
		t.Error("the template was changed")
	}
}

// An unknown value must not become a wildcard.
func TestUnknownTolerations(t *testing.T) {
	ds := daemonSet()
	ds.Spec.Template.Spec.Tolerations = []corev1.Toleration{
		{Operator: "Exists", Effect: "Unheard"}, {Key: "k", Operator: "Near"},
	}
	n := plan.Node{Taints: []plan.Taint{{Key: "k", Effect: plan.NoSchedule}}}
	if got := Spec(ds, "").Placement.Admits(&n); got.Run {
		t.Errorf("tolerated: %+v", got)
	}
}
