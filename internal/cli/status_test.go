package cli

import (
	"testing"
	"time"

	"everynode/internal/why"
)

// Which engine works is said as far as it is known.
func TestEngineStatus(t *testing.T) {
	held := &why.Lease{Holder: "pod-7", Held: true, Renewed: time.Second}
	for _, c := range []struct {
		engine engineStatus
		want   string
	}{
		{engineStatus{Inside: true}, "engine inside the control plane"},
		{engineStatus{Inside: true, Lease: &why.Lease{}}, "engine inside the control plane"},
		{engineStatus{Inside: true, Lease: held}, "engine inside the control plane; and everynode-controller pod-7 holds the lease kube-system/everynode-controller: two controllers delete each other's pods"},
		{engineStatus{}, "engine off in the control plane"},
		{engineStatus{Lease: held}, "engine off in the control plane; everynode-controller pod-7 holds the lease kube-system/everynode-controller"},
		{engineStatus{Lease: &why.Lease{}}, "engine off in the control plane; nobody holds the lease kube-system/everynode-controller"},
	} {
		if got := c.engine.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
