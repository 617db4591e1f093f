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
	return m.keepForNodes(registryFlag, file, m.registriesFile(), errOtherRegistries)
}

// keepForNodes keeps a copy of a file that was given by a flag, which nodes read when they start. Nodes that run have
// read the one that was there: then another one is the error.
func (m *machine) keepForNodes(flag, file, kept string, other error) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read --%s: %w", flag, err)
	}
	now, err := os.ReadFile(kept)
	if err == nil && bytes.Equal(now, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what the cluster has of --%s: %w", flag, err)
	}
	if m.nodeRuns() {
		return other
	}
	if err := atomicfile.Write(kept, text); err != nil {
		return fmt.Errorf("keep what --%s says: %w", flag, err)
	}
	return nil
}
