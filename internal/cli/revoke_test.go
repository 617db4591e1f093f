package cli

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/controlplane/admission"
)

// A thief can join under another name with a token that is still valid, is for any name, and was not used as often as it may be.
func TestOpenTokens(t *testing.T) {
	now := time.Now()
	got := openTokens([]admission.Token{
		{ID: "forever"},
		{ID: "valid", Expires: now.Add(time.Hour), Uses: 2, UsedBy: []string{"k/a"}},
		{ID: "over", Expires: now},
		{ID: "used", Expires: now.Add(time.Hour), Uses: 1, UsedBy: []string{"k/a"}},
		{ID: "named", Nodes: []string{"rack7-3"}},
	}, now)
	if want := []string{"forever", "valid"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The certificate of a revoked node's kubelet is valid for a while.
func TestServesUntil(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, {Type: corev1.NodeHostName, Address: "rack7-3"}}}}
	want := "Until 2026-11-08T00:00:00Z whoever has the machine can serve as the kubelet at 192.0.2.7, if connections to there reach it: " +
		"give the machine that takes its place another address until then\n"
	if got := servesUntil(node, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)); got != want {
		t.Errorf("got %q", got)
	}
	if got := servesUntil(&corev1.Node{}, time.Now()); got != "" {
		t.Errorf("of a node without addresses: %q", got)
	}
}
