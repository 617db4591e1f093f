package node

import (
	"fmt"
	"os"
	"path/filepath"

	"everynode/internal/atomicfile"
)

// writeFile replaces a file in one step, and makes its directory if necessary.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", name, err)
	}
	if err := atomicfile.Write(name, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
