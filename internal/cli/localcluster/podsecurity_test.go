package localcluster

import (
	"slices"
	"testing"

	"everynode/internal/local"
)

// made is a cluster with a record.
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

// A cluster of `up` lets pods at its nodes, which are all on one machine, as it always has.
func TestUpLetsPodsAtNodes(t *testing.T) {
	m := made(t)
	argv := m.server().Argv
	i := slices.Index(argv, "--pod-security")
	if i < 0 || argv[i+1] != "privileged" {
		t.Errorf("the control plane is started with %q", argv)
	}
}
