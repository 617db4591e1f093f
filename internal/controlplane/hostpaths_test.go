package controlplane

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// checkHostPathPolicy checks that there are want policies for host paths, and
// that each has its binding.
func checkHostPathPolicy(t *testing.T, admin kubernetes.Interface, want int) {
	admission := admin.AdmissionregistrationV1()
	named := metav1.ListOptions{FieldSelector: "metadata.name=" + hostPathsName}
	policies, err := admission.ValidatingAdmissionPolicies().List(t.Context(), named)
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := admission.ValidatingAdmissionPolicyBindings().List(t.Context(), named)
	if err != nil {
		t.Fatal(err)
	}
	if len(policies.Items) != want || len(bindings.Items) != want {
		t.Errorf("%d policies for host paths and %d bindings, want %d", len(policies.Items), len(bindings.Items), want)
	}
}

func TestHostPathPolicyIsKnown(t *testing.T) {
	_, err := Config{DataDir: t.TempDir(), HostPathPolicy: "strict"}.resolve()
	if err == nil || !strings.Contains(err.Error(), "give one of warn, readonly, off") {
		t.Errorf("a policy that there is none of: %v", err)
	}
}
