package localcluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"everynode/internal/addons"
	"everynode/internal/local"
)

// There is a warning about an add-on that is on by default and has no image, unless
// it can be pulled.
func TestUnbuilt(t *testing.T) {
	m := &Cluster{Cluster: &local.Cluster{}, runtimeDir: t.TempDir()}
	warned := m.addons().unbuilt()
	if len(warned) != 1 || !strings.Contains(warned[0], "the add-on storage will not work: local-path-provisioner has not been built") {
		t.Errorf("%q", warned)
	}
	for _, a := range addons.All() {
		file := filepath.Join(m.runtimeDir, "addons", a.Archive)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if warned := m.addons().unbuilt(); len(warned) != 0 {
		t.Errorf("all is built, and it says %q", warned)
	}
}
