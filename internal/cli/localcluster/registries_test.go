package localcluster

import (
	"os"
	"path/filepath"
	"testing"

	"everynode/internal/local"
)

// The copy is replaced in one step: a program that has the old one open can
// read all of it.
func TestRegistriesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	m := &Cluster{Cluster: &local.Cluster{DataDir: dir}}
	file := filepath.Join(dir, "mine.yaml")
	for _, text := range []string{"mirrors: {}\n", "configs: {}\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (choosing{m, Wanted{Registries: file}}).registries(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(nodeFiles(dir).registries()); err != nil || string(got) != text {
			t.Errorf("the copy is %q, %v", got, err)
		}
		if err := os.Link(nodeFiles(dir).registries(), filepath.Join(dir, "first")); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(filepath.Join(dir, "first")); err != nil || string(old) != "mirrors: {}\n" {
		t.Errorf("the first copy was written over: %q, %v", old, err)
	}
}
