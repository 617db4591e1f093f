package view

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"everynode/internal/plan"
)

// decodePod reads a pod the way the API server does.
func decodePod(t *testing.T, data []byte) *corev1.Pod {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	obj, kind, err := protobuf.NewSerializer(scheme, scheme).Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := corev1.SchemeGroupVersion.WithKind("Pod"); *kind != want {
		t.Errorf("the encoding says %v, want %v", *kind, want)
	}
	pod := obj.(*corev1.Pod)
	pod.APIVersion, pod.Kind = "", ""
	return pod
}

// A pod from the mold is the pod that NewPod makes.
func TestMold(t *testing.T) {
	ds := daemonSet()
	ds.Spec.Template.Annotations = map[string]string{"example.com/a": "b"}
	ds.Spec.Template.Spec.NodeName = "of-the-template"
	mold, err := NewMold(ds, "5d8f7c9b6d")
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"node-1", "n", "a-node-with-a-name-that-is-longer-than-all-the-others.example.com"} {
		name := PodName(ds, node, "5d8f7c9b6d", "", 0)
		want := NewPod(ds, "5d8f7c9b6d", plan.Create{Node: node}, name)
		if diff := cmp.Diff(want, decodePod(t, mold.Pod(name, node))); diff != "" {
			t.Errorf("node %s (-NewPod +mold):\n%s", node, diff)
		}
	}
}

// Memory for a pod is neither too small nor too large.
func TestFieldSize(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 16383, 16384, 1 << 21} {
		if got, want := fieldSize(size), len(appendField(nil, 1, make([]byte, size))); got != want {
			t.Errorf("a field of %d bytes takes %d, not %d", size, want, got)
		}
	}
}

// Pods of one mold share nothing that is written to.
func TestMoldIsNotWrittenTo(t *testing.T) {
	ds := daemonSet()
	mold, err := NewMold(ds, "")
	if err != nil {
		t.Fatal(err)
	}
	first := mold.Pod("agent-a", "node-a")
	mold.Pod("agent-b", "node-b")
	if p := decodePod(t, first); p.Name != "agent-a" || p.Spec.NodeName != "node-a" {
		t.Errorf("the first pod became %s on %s", p.Name, p.Spec.NodeName)
	}
}
