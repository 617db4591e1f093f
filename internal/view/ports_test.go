package view

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// An event is read by whoever may read its namespace, and names no pod of another.
func TestTakenPortKeepsNamespacesApart(t *testing.T) {
	taken := TakenPort{Port: 9100, Protocol: corev1.ProtocolTCP, Namespace: "tenant", Pod: "secret-project"}
	for namespace, want := range map[string]string{
		"tenant": "host port 9100/TCP, which pod tenant/secret-project has",
		"other":  "host port 9100/TCP, which a pod of another namespace has",
	} {
		if got := taken.For(namespace); got != want {
			t.Errorf("to %s: %q, want %q", namespace, got, want)
		}
	}
}
