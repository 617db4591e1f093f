package localcluster

import (
	"slices"
	"testing"

	"everynode/internal/local"
)

// made returns a new cluster with a record.
func made(t *testing.T) *Cluster {
	t.Helper()
	c, err := local.Create(t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A cluster of `up` does not restrict its pods by default: its nodes are all on one
// machine.
func TestUpLetsPodsAtNodes(t *testing.T) {
	m := made(t)
	argv := m.server().Argv
	i := slices.Index(argv, "--pod-security")
	if i < 0 || argv[i+1] != "privileged" {
		t.Errorf("the control plane is started with %q", argv)
	}
}
