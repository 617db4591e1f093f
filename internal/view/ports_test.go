package view

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Everybody who may read a namespace can read its events, so an event does not name
// pods of other namespaces.
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
