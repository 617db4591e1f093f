package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"everynode/internal/atomicfile"
)

// errOtherRegistries says that nodes, which read about registries when they start, run.
var errOtherRegistries = errors.New("the nodes run with other registries: stop them with `everynode down` to change that")

// registryFlag names a file of registries for the nodes.
const registryFlag = "registry-config"

// registriesFile is the cluster's copy of the file: nodes that come later read it.
func (m *machine) registriesFile() string { return filepath.Join(m.DataDir, "registries.yaml") }

// hasRegistries says whether the cluster has a file of registries.
func (m *machine) hasRegistries() bool {
	_, err := os.Stat(m.registriesFile())
	return err == nil
}

// chooseRegistries keeps a copy of a file, which has been checked. Nodes that run
// have read the one that was there.
func (m *machine) chooseRegistries(file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read --%s: %w", registryFlag, err)
	}
	now, err := os.ReadFile(m.registriesFile())
	if err == nil && bytes.Equal(now, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the registries of the cluster: %w", err)
	}
	if m.nodeRuns() {
		return errOtherRegistries
	}
	if err := atomicfile.Write(m.registriesFile(), text); err != nil {
		return fmt.Errorf("keep the registries: %w", err)
	}
	return nil
}
