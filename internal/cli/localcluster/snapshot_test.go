package localcluster

import (
	"slices"
	"testing"
)

// A cluster of `up` is deleted with its data, so snapshots in there would be useless.
func TestUpSavesNoSnapshots(t *testing.T) {
	m := made(t)
	argv := m.server().Argv
	i := slices.Index(argv, "--snapshot-every")
	if i < 0 || argv[i+1] != "0" {
		t.Errorf("the control plane is started with %q", argv)
	}
}
