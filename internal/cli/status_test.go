package cli

import (
	"testing"
	"time"

	"everynode/internal/why"
)

// The status names the working engine as far as that is known.
func TestEngineStatus(t *testing.T) {
	yes, no := true, false
	held := &why.Lease{Holder: "pod-7", Held: true, Renewed: time.Second}
	for _, c := range []struct {
		engine engineStatus
		want   string
	}{
		{engineStatus{Inside: &yes}, "engine inside the control plane"},
		{engineStatus{Inside: &yes, Lease: &why.Lease{}}, "engine inside the control plane"},
		{engineStatus{Inside: &yes, Lease: held}, "engine inside the control plane; and everynode-controller pod-7 holds the lease kube-system/everynode-controller: two controllers delete each other's pods"},
		{engineStatus{Inside: &no}, "engine off in the control plane"},
		{engineStatus{Inside: &no, Lease: held}, "engine off in the control plane; everynode-controller pod-7 holds the lease kube-system/everynode-controller"},
		{engineStatus{Inside: &no, Lease: &why.Lease{}}, "engine off in the control plane; nobody holds the lease kube-system/everynode-controller"},
		{engineStatus{}, "not known"},
		{engineStatus{Lease: held}, "engine inside the control plane, unless it was started without; everynode-controller pod-7 holds the lease kube-system/everynode-controller"},
	} {
		if got := c.engine.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
