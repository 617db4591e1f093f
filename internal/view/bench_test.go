package view

import (
	"bytes"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

func BenchmarkNode(b *testing.B) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "uid", Labels: map[string]string{}}}
	for i := range 20 {
		n.Labels[fmt.Sprintf("example.com/label-%d", i)] = "value"
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	b.ReportAllocs()
	for b.Loop() {
		Node(n)
	}
}

func BenchmarkPod(b *testing.B) {
	p := NewPod(daemonSet(), "5d8f7c9b6d", plan.Create{Node: "node-1"}, "agent-x")
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	b.ReportAllocs()
	for b.Loop() {
		Pod(p)
	}
}

// BenchmarkNewPod measures what each created pod costs before it is encoded.
func BenchmarkNewPod(b *testing.B) {
	ds := daemonSet()
	b.ReportAllocs()
	for b.Loop() {
		NewPod(ds, "5d8f7c9b6d", plan.Create{Node: "node-1"}, PodName(ds, "node-1", "5d8f7c9b6d", "", 0))
	}
}

// BenchmarkMold measures the same including the encoding, as the engine does it.
func BenchmarkMold(b *testing.B) {
	ds := daemonSet()
	mold, err := NewMold(ds, "5d8f7c9b6d")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		mold.Pod(PodName(ds, "node-1", "5d8f7c9b6d", "", 0), "node-1")
	}
}

func BenchmarkSpec(b *testing.B) {
	ds := daemonSet()
	b.ReportAllocs()
	for b.Loop() {
		Spec(ds, "5d8f7c9b6d")
	}
}

func BenchmarkTemplateDigest(b *testing.B) {
	data, err := RevisionData(daemonSet())
	if err != nil {
		b.Fatal(err)
	}
	// As older API servers wrote it: the bytes differ, the meaning does not.
	other := bytes.Replace(data, []byte(`"metadata":{`), []byte(`"metadata":{"creationTimestamp":null,`), 1)
	if bytes.Equal(data, other) {
		b.Fatalf("nothing to compare in %s", data)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !sameDigest(data, other) {
			b.Fatal("a template differs from itself")
		}
	}
}
