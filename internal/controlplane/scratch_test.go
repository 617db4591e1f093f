package controlplane

import (
	"os"
	"path/filepath"
	"testing"
)

// TestScratchIsReplaced: somebody who may write to a folder of snapshots puts their own folder where the unfinished
// snapshot is.
func TestScratchIsReplaced(t *testing.T) {
	parent, theirs := t.TempDir(), t.TempDir()
	s, err := newScratch(parent, ".snapshot.*")
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(parent, "moved")
	if err := os.Rename(s.path, moved); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(theirs, "kept"), "")
	if err := os.Symlink(theirs, s.path); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, s.file("secret"), "of the cluster")
	if got := entriesOf(t, theirs); len(got) != 1 {
		t.Errorf("their folder has %q", got)
	}
	if got := entriesOf(t, moved); len(got) != 1 || got[0] != "secret" {
		t.Errorf("ours has %q", got)
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
	if theirs, ours := entriesOf(t, theirs), entriesOf(t, moved); len(theirs) != 1 || len(ours) != 0 {
		t.Errorf("after it was removed, theirs has %q, and ours %q", theirs, ours)
	}
}
