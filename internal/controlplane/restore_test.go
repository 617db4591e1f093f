package controlplane

import (
	"path/filepath"
	"testing"
	"time"

	"everynode/internal/controlplane/pki"
)

// The CA of the front proxy may have been replaced since a snapshot was saved. A restore beside it keeps the newer one.
func TestRestoreKeepsFrontProxy(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	file, _ := saveOf(t, old.DataDir)
	data := filepath.Join(t.TempDir(), "data")
	copyShared(t, old.DataDir, data)
	dir := filepath.Join(data, "pki")
	if err := pki.RenewFrontProxy(dir, time.Now().AddDate(9, 1, 0)); err != nil {
		t.Fatal(err)
	}
	is := readCert(t, dir, pki.FrontProxyCA)
	if _, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: data}); err != nil {
		t.Fatal(err)
	}
	if !readCert(t, dir, pki.FrontProxyCA).Equal(is) {
		t.Error("the one of the snapshot is there")
	}
	startStored(t, data)
}
