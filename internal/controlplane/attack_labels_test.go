package controlplane

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// checkMachineLabels registers as the node evil with another machine's name in a label, and changes such labels later.
func checkMachineLabels(t *testing.T, admin, evil kubernetes.Interface, refused func(what string, err error, because string)) {
	dry := []string{metav1.DryRunAll}
	create := func(label, value string) error {
		_, err := evil.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "evil", Labels: map[string]string{label: value}}},
			metav1.CreateOptions{DryRun: dry})
		return err
	}
	for _, label := range []string{corev1.LabelHostname, "disk.csi.everynode.io/node"} {
		refused("to register as the machine db-1, by "+label, create(label, "db-1"), "may not have another name than its own, evil, in the label "+label)
		if err := create(label, "evil"); err != nil {
			t.Errorf("a node cannot register with its own name in %s: %v", label, err)
		}
	}
	if err := create("example.com/node", "db-1"); err != nil {
		t.Error("a node cannot register with a label of its own:", err)
	}
	// What somebody else gave the node stays.
	_, err := admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "evil", Labels: map[string]string{corev1.LabelHostname: "rack-7"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := func(labels string) error {
		_, err := evil.CoreV1().Nodes().Patch(t.Context(), "evil", "application/merge-patch+json", []byte(`{"metadata":{"labels":`+labels+`}}`), metav1.PatchOptions{DryRun: dry})
		return err
	}
	for _, allowed := range []string{`{"disk":"ssd"}`, `{"kubernetes.io/hostname":"evil"}`, `{"kubernetes.io/hostname":null}`} {
		if err := patch(allowed); err != nil {
			t.Errorf("a node cannot change its labels to %s: %v", allowed, err)
		}
	}
	refused("to become the machine db-1", patch(`{"kubernetes.io/hostname":"db-1"}`), "kubernetes.io/hostname")
	if err := admin.CoreV1().Nodes().Delete(t.Context(), "evil", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
