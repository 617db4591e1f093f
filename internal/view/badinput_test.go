package view

import (
	"math"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

// Affinity that cannot be parsed matches no node, and the other terms still count.
func TestUnreadableAffinity(t *testing.T) {
	node := plan.Node{Name: "n", Labels: map[string]string{"color": "blue", "cpus": "4"}}
	expr := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	field := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: expr(key, op, values...).MatchExpressions}
	}
	good := expr("color", corev1.NodeSelectorOpIn, "blue")
	for name, bad := range map[string]corev1.NodeSelectorTerm{
		"no operator":         expr("color", "", "blue"),
		"an operator of old":  expr("color", "Near", "blue"),
		"a key of no label":   expr("not a key!", corev1.NodeSelectorOpNotIn, "blue"),
		"a value of none":     expr("color", corev1.NodeSelectorOpNotIn, "not a value!"),
		"In nothing":          expr("color", corev1.NodeSelectorOpIn),
		"Exists of a value":   expr("color", corev1.NodeSelectorOpExists, "blue"),
		"Gt of no number":     expr("cpus", corev1.NodeSelectorOpGt, "few"),
		"Lt of two numbers":   expr("cpus", corev1.NodeSelectorOpLt, "8", "9"),
		"a field that exists": field("metadata.name", corev1.NodeSelectorOpExists),
		"a field of two":      field("metadata.name", corev1.NodeSelectorOpNotIn, "a", "b"),
		"another field":       field("spec.providerID", corev1.NodeSelectorOpIn, "n"),
		"nothing at all":      {},
	} {
		ds := daemonSet()
		terms := &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{bad}}
		ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
		if got := Spec(ds, "").Placement.Admits(&node); got.Keep || got.Reason != plan.AffinityNotMatched {
			t.Errorf("%s: %+v", name, got)
		}
		terms.NodeSelectorTerms = append(terms.NodeSelectorTerms, good)
		if got := Spec(ds, ""); got.Halt != plan.NoReason || !got.Placement.Admits(&node).Run {
			t.Errorf("%s, beside a good term: %v", name, got.Halt)
		}
	}
}

// If the template names a node, pods are wanted on that node only, and are bound there
// even where the scheduler would otherwise bind them.
func TestTemplateNodeName(t *testing.T) {
	ds := daemonSet()
	ds.Spec.Template.Spec.NodeName = "n1"
	set := Spec(ds, "abc")
	if got := set.Placement.Admits(&plan.Node{Name: "n2"}); got.Keep || got.Reason != plan.NotNamed || got.Detail != "n1" {
		t.Errorf("another node: %+v", got)
	}
	if got := set.Placement.Admits(&plan.Node{Name: "n1"}); !got.Run {
		t.Errorf("that node: %+v", got)
	}
	for _, byScheduler := range []bool{false, true} {
		if pod := NewPod(ds, "abc", plan.Create{Node: "n1", ByScheduler: byScheduler}, "p"); pod.Spec.NodeName != "n1" || TargetNode(pod) != "n1" {
			t.Errorf("by the scheduler %v: the pod is for %q", byScheduler, TargetNode(pod))
		}
	}
}

// An owner is identified by its UID. The rest of the reference may be wrong.
func TestLyingOwnerReferences(t *testing.T) {
	ds := daemonSet()
	honest := *metav1.NewControllerRef(ds, controllerKind())
	edit := func(f func(*metav1.OwnerReference)) metav1.OwnerReference {
		o := honest
		f(&o)
		return o
	}
	for name, c := range map[string]struct {
		owners []metav1.OwnerReference
		want   Claim
	}{
		"our name, the UID of a set that was": {[]metav1.OwnerReference{edit(func(o *metav1.OwnerReference) { o.UID = "before" })}, NotOurs},
		"our UID under another name":          {[]metav1.OwnerReference{edit(func(o *metav1.OwnerReference) { o.Name = "other" })}, Owned},
		"we own it, another controls it": {[]metav1.OwnerReference{edit(func(o *metav1.OwnerReference) { o.Controller = nil }),
			edit(func(o *metav1.OwnerReference) { o.UID = "other" })}, NotOurs},
		"says in so many words that we do not control it": {[]metav1.OwnerReference{edit(func(o *metav1.OwnerReference) { o.Controller = ptr(false) })}, Adopt},
		"empty":               {[]metav1.OwnerReference{{}}, Adopt},
		"empty, and controls": {[]metav1.OwnerReference{{Controller: ptr(true)}}, NotOurs},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{"app": "agent"}, OwnerReferences: c.owners}}
		if got := Claims(ds, pod); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A revision whose data someone broke is one more old revision: it is kept unchanged,
// counted, and never taken for the current one.
func TestBrokenRevisions(t *testing.T) {
	for _, data := range []string{"", "null", "{", "[]", "7", `"x"`, "{}", `{"spec":null}`, `{"spec":{"template":[]}}`,
		`{"spec":{"template":{"$patch":"delete"}}}`, `{"spec":{"template":{"$patch":"replace","spec":7}}}`, "\xff\x00"} {
		ds := daemonSet()
		broken := revisionOf(t, ds, "busybox:1.36", 3)
		broken.Name, broken.Data.Raw = "broken", []byte(data)
		broken.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "broken"
		h, err := History(ds, read(broken), map[string]bool{"broken": true})
		if err != nil || summary(h) != "create #4" {
			t.Errorf("%q alone: %s, %v", data, summary(h), err)
			continue
		}
		h, err = History(ds, read(broken, h.Create), map[string]bool{"broken": true})
		if err != nil || !h.Empty() || h.Hash == "broken" {
			t.Errorf("%q beside the present one: %s, %v", data, summary(h), err)
		}
		broken.Data.Raw = nil
		if h, err := History(ds, read(broken), nil); err != nil || summary(h) != "create #4" {
			t.Errorf("no data: %s, %v", summary(h), err)
		}
	}
}

// Numbers that someone wrote by hand: the next one is a number that the API server
// accepts, and the history settles.
func TestAbsurdRevisionNumbers(t *testing.T) {
	for _, number := range []int64{math.MinInt64, -1, 0, math.MaxInt64 - 1, math.MaxInt64} {
		ds := daemonSet()
		odd := revisionOf(t, ds, "old", number)
		h, err := History(ds, read(odd), nil)
		if err != nil || h.Create == nil || h.Create.Revision < 1 {
			t.Errorf("%d: %s, %v", number, summary(h), err)
			continue
		}
		if h, err = History(ds, read(odd, h.Create), nil); err != nil || !h.Empty() {
			t.Errorf("%d, and the present one: %s, %v", number, summary(h), err)
		}
	}
}
