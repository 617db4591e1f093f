package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The agent warns about volumes that an older add-on has left open, with the
// command that closes them.
func TestOpenVolumes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	tell := func(when, want string) {
		t.Helper()
		if got := openVolumes(dir); (got == "") != (want == "") || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	tell("there are none", "")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	tell("the folder is empty", "")
	if err := os.Mkdir(filepath.Join(dir, "pvc-1"), 0o777); err != nil {
		t.Fatal(err)
	}
	tell("the folder is open", "chmod 0700 "+dir)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	tell("the folder is shut", "")
}
