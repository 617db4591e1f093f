package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"everynode/internal/addons"
	"everynode/internal/local"
)

// An add-on that is on by default and has no image is told of, if nobody else has it.
func TestUnbuilt(t *testing.T) {
	m := &machine{Cluster: &local.Cluster{}, runtimeDir: t.TempDir()}
	warned := m.unbuilt()
	if len(warned) != 1 || !strings.Contains(warned[0], "the add-on storage will not work: local-path-provisioner has not been built") {
		t.Errorf("%q", warned)
	}
	for _, a := range addons.All() {
		place(t, m.runtimeDir, filepath.Join("addons", a.Archive))
	}
	if warned := m.unbuilt(); len(warned) != 0 {
		t.Errorf("all is built, and it says %q", warned)
	}
}
