package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const (
	kept     = "../internal/ui/page"
	packages = "../bin/ui/node_modules"
	// maxPacked is how large the page may be as it would be sent, compressed.
	maxPacked = 150 << 10
)

// needPackages skips a test that needs what npm installs.
func needPackages(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(packages, "preact")); err != nil {
		t.Skip("preact is not installed: make page-packages does it")
	}
}

// The page that is kept beside the server is what the sources give.
func TestKeptPage(t *testing.T) {
	needPackages(t)
	files, err := page(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s/%s is not what the sources give: make page", kept, name)
		}
	}
}

// Packages give the notice of what of others is in the page.
func TestNotice(t *testing.T) {
	needPackages(t)
	license, err := os.ReadFile(filepath.Join(packages, "preact", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	given, err := os.ReadFile("../dist/copyright")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(given, bytes.TrimSpace(license)) {
		t.Errorf("dist/copyright has no notice of Preact, which is in the page:\n%s", license)
	}
}

// The page is small.
func TestPageIsSmall(t *testing.T) {
	var packed bytes.Buffer
	for _, name := range append(copied(), "app.js", "app.css") {
		text, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil {
			t.Fatal(err)
		}
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes, compressed", packed.Len())
	if packed.Len() > maxPacked {
		t.Errorf("%d bytes, compressed; at most %d", packed.Len(), maxPacked)
	}
}

// The types are right.
func TestTypes(t *testing.T) {
	needPackages(t)
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(packages, "typescript", "bin", "tsc"), "--project", ".").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
