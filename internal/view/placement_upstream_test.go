//go:build !race

package view

import (
	"slices"
	"testing"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/features"
	"pgregory.net/rapid"
)

// The files *_upstream_test.go ask Kubernetes' own controller, as a library, what it
// would do. They take long to link.

// TestPlacementAgrees compares where pods run and where they may stay, for valid and
// invalid templates and nodes.
func TestPlacementAgrees(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.TaintTolerationComparisonOperators, true)
	outcomes := map[[2]bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		ds := drawTemplate(t)
		for range 10 {
			samePlacement(t, ds, drawNode(t), outcomes)
		}
	})
	if len(outcomes) != 3 {
		t.Errorf("not all answers came up: %v", outcomes)
	}
}

func samePlacement(t *rapid.T, ds *appsv1.DaemonSet, node *corev1.Node, outcomes map[[2]bool]int) {
	run, keep := daemon.NodeShouldRunDaemonPod(logr.Discard(), node, ds)
	n := Node(node)
	got := Spec(ds, "").Placement.Admits(&n)
	if got.Run != run || got.Keep != keep {
		t.Fatalf("upstream says run %v, keep %v; we say %+v", run, keep, got)
	}
	outcomes[[2]bool{run, keep}]++
}

func drawTemplate(t *rapid.T) *appsv1.DaemonSet {
	ds := daemonSet()
	spec := &ds.Spec.Template.Spec
	spec.HostNetwork = rapid.Bool().Draw(t, "hostNetwork")
	if rapid.IntRange(0, 9).Draw(t, "named") == 0 {
		spec.NodeName = rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "nodeName")
	}
	if rapid.IntRange(0, 3).Draw(t, "selector") == 0 {
		spec.NodeSelector = drawLabels(t)
	}
	if rapid.IntRange(0, 1).Draw(t, "affinity") == 0 {
		spec.Affinity = drawAffinity(t)
	}
	for range rapid.IntRange(0, 3).Draw(t, "tolerations") {
		spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
			Key:      drawKey(t),
			Operator: rapid.SampledFrom([]corev1.TolerationOperator{"", "Equal", "Exists", "Gt", "Lt", "Near"}).Draw(t, "operator"),
			Value:    drawValue(t),
			Effect:   drawEffect(t),
		})
	}
	return ds
}

func drawKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "b", "bad key!", corev1.TaintNodeNotReady, corev1.TaintNodeUnschedulable,
		corev1.TaintNodeNetworkUnavailable}).Draw(t, "key")
}

func drawValue(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "x", "1", "2", "3", "-1", "+2", "02", "-0", "99999999999999999999", "bad value!"}).Draw(t, "value")
}

func drawEffect(t *rapid.T) corev1.TaintEffect {
	return rapid.SampledFrom([]corev1.TaintEffect{"", "NoSchedule", "NoExecute", "PreferNoSchedule", "Unheard"}).Draw(t, "effect")
}

func drawLabels(t *rapid.T) map[string]string {
	labels := map[string]string{}
	for range rapid.IntRange(0, 2).Draw(t, "labels") {
		labels[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "label")] = drawValue(t)
	}
	return labels
}

func drawAffinity(t *rapid.T) *corev1.Affinity {
	a := &corev1.Affinity{}
	if rapid.IntRange(0, 9).Draw(t, "node affinity") == 0 {
		return a
	}
	a.NodeAffinity = &corev1.NodeAffinity{}
	if rapid.IntRange(0, 9).Draw(t, "required") == 0 {
		return a
	}
	required := &corev1.NodeSelector{}
	a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required
	for range rapid.IntRange(0, 3).Draw(t, "terms") {
		var term corev1.NodeSelectorTerm
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			term.MatchExpressions = append(term.MatchExpressions, drawRequirement(t, drawKey(t), drawValue))
		}
		for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "fields") {
			key := rapid.SampledFrom([]string{"metadata.name", "metadata.name", "metadata.uid"}).Draw(t, "field")
			name := func(t *rapid.T) string { return rapid.SampledFrom([]string{"n1", "n2", ""}).Draw(t, "name") }
			term.MatchFields = append(term.MatchFields, drawRequirement(t, key, name))
		}
		required.NodeSelectorTerms = append(required.NodeSelectorTerms, term)
	}
	return a
}

func drawRequirement(t *rapid.T, key string, value func(*rapid.T) string) corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{
		Key:      key,
		Operator: rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near"}).Draw(t, "operator"),
	}
	most := 2
	if slices.Contains([]corev1.NodeSelectorOperator{"Exists", "DoesNotExist"}, r.Operator) && rapid.IntRange(0, 4).Draw(t, "odd") > 0 {
		most = 0
	}
	for range rapid.IntRange(0, most).Draw(t, "values") {
		r.Values = append(r.Values, value(t))
	}
	return r
}

func drawNode(t *rapid.T) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"), Labels: drawLabels(t)}}
	for range rapid.IntRange(0, 2).Draw(t, "taints") {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: drawKey(t), Value: drawValue(t), Effect: drawEffect(t)})
	}
	return n
}
