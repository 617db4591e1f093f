package datadir

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile replaces file (mode 0600) by way of a synced temporary file beside it: a crash leaves the old content or
// the new one, never half of it.
func WriteFile(file string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return Sync(filepath.Dir(file))
}
