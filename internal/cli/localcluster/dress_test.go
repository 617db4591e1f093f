package localcluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestDressedOnce(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"theirs": "x"}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "theirs", Effect: corev1.TaintEffectNoExecute}}}}
	client := fake.NewClientset(node)
	n := NodeSpec{Name: "node-1", Labels: map[string]string{"ssd": "true"}, Taints: []corev1.Taint{{Key: "ours", Value: "v", Effect: corev1.TaintEffectNoSchedule}}}
	for range 2 {
		if err := n.dress(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	now, err := client.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if now.Labels["ssd"] != "true" || now.Labels["theirs"] != "x" || len(now.Spec.Taints) != 2 {
		t.Errorf("labels %v, taints %v", now.Labels, now.Spec.Taints)
	}
	writes := 0
	for _, action := range client.Actions() {
		if action.GetVerb() == "update" {
			writes++
		}
	}
	if writes != 1 {
		t.Errorf("%d writes, want one: the second time there was nothing to do", writes)
	}
}
