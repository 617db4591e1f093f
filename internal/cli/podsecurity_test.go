package cli

import (
	"slices"
	"testing"
)

// A cluster of `up` lets pods at its nodes, which are all on one machine, as it always has.
func TestUpLetsPodsAtNodes(t *testing.T) {
	_, m, _ := testMachine(t)
	argv := m.server().Argv
	i := slices.Index(argv, "--pod-security")
	if i < 0 || argv[i+1] != "privileged" {
		t.Errorf("the control plane is started with %q", argv)
	}
}
