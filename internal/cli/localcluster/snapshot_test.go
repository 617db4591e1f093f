package localcluster

import (
	"slices"
	"testing"
)

// A cluster of `up` is thrown away with its data: nobody looks for snapshots of it there.
func TestUpSavesNoSnapshots(t *testing.T) {
	m := made(t)
	argv := m.server().Argv
	i := slices.Index(argv, "--snapshot-every")
	if i < 0 || argv[i+1] != "0" {
		t.Errorf("the control plane is started with %q", argv)
	}
}
