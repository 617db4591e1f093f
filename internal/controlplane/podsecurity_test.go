package controlplane

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// checkPodSecurity tries to create a pod in the host's network in three namespaces: one
// without a label, and two of the cluster's own.
func checkPodSecurity(t *testing.T, admin kubernetes.Interface) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "host"}, Spec: corev1.PodSpec{HostNetwork: true,
		Containers: []corev1.Container{{Name: "c", Image: "registry.example.test/c:1"}}}}
	create := func(namespace string) error { return tryPod(t, admin, namespace, pod) }
	wantRefusedBy(t, create("kube-public"), "baseline")
	pod.Spec.AutomountServiceAccountToken = new(bool)
	for _, own := range []string{"kube-system", "local-path-storage"} {
		if err := create(own); err != nil {
			t.Errorf("a pod in %s: %v", own, err)
		}
	}
	pod.Spec.HostNetwork = false
	if err := create("kube-public"); err != nil {
		t.Error("a pod that meets the standard: ", err)
	}
}

// checkPodSecurityRestricted tries to create a pod that baseline allows.
func checkPodSecurityRestricted(t *testing.T, admin kubernetes.Interface) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "registry.example.test/c:1"}}}}
	wantRefusedBy(t, tryPod(t, admin, "default", pod), "restricted")
}

// tryPod creates a pod in a dry run. The service account of its namespace may come a
// moment later.
func tryPod(t *testing.T, admin kubernetes.Interface, namespace string, pod *corev1.Pod) (err error) {
	t.Helper()
	eventually(t, "the pod is judged", func(ctx context.Context) (bool, error) {
		_, err = admin.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil || !strings.Contains(err.Error(), "serviceaccount"), nil
	})
	return err
}

func wantRefusedBy(t *testing.T, err error, standard string) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "`+standard+`:latest"`) {
		t.Errorf("%v, want a refusal by the standard %s", err, standard)
	}
}
