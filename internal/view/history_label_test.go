package view

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// A hash label that somebody emptied counts as missing: the revision gets its name as
// its label, and so do the new pods.
func TestEmptyHashLabel(t *testing.T) {
	ds := daemonSet()
	r := revisionOf(t, ds, "busybox:1.36", 1)
	r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = ""
	h, err := History(ds, read(r), nil)
	if err != nil || h.Hash != r.Name {
		t.Errorf("the hash is %q, want %q (%v)", h.Hash, r.Name, err)
	}
}
