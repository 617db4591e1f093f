package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
	"everynode/internal/sysctl"
)

// hostRecord is what the clusters of this machine changed on it: /run/everynode/host.json. There is one record for
// the machine and not one for each cluster, because a second cluster would take the first one's changes for the
// original values, and because neither the record nor the changes survive a reboot.
type hostRecord struct {
	// BootID identifies a record of an earlier boot, in case /run is not a tmpfs.
	BootID  string           `json:"bootID"`
	Sysctls []sysctl.Setting `json:"sysctls"`
	Limits  []raisedLimit    `json:"limits,omitempty"`
	Created []string         `json:"createdPaths"`

	dir string
}

// withHostRecord calls fn with the machine's record, while no other everynode process works on it.
func withHostRecord(ctx context.Context, fn func(*hostRecord) error) error {
	if err := os.MkdirAll(hostRunDir, 0o700); err != nil {
		return err
	}
	lock := filepath.Join(hostRunDir, "lock")
	var release func() error
	err := waitFor(ctx, func() (bool, error) {
		var err error
		release, err = datadir.Lock(lock)
		if errors.As(err, new(*datadir.LockedError)) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for another everynode process that holds %s: %w", lock, err)
	}
	r, err := readHostRecord(hostRunDir)
	if err == nil {
		err = fn(r)
	}
	// The directory is deleted when nothing is in it. A process that waits for the lock finds its file gone, and
	// makes a new one.
	if entries, derr := os.ReadDir(hostRunDir); derr == nil && len(entries) == 1 {
		err = errors.Join(err, removeIfThere(lock), release())
		_ = os.Remove(hostRunDir) // not empty: another process has started to use it
		return err
	}
	return errors.Join(err, release())
}

func readHostRecord(dir string) (*hostRecord, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	fresh := &hostRecord{BootID: strings.TrimSpace(string(raw)), dir: dir}
	raw, err = os.ReadFile(fresh.file())
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the machine's record: %w", err)
	}
	r := hostRecord{dir: dir}
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s is broken: %w; delete it (kernel settings that everynode changed then keep their "+
			"present values until the next boot)", fresh.file(), err)
	}
	if r.BootID != fresh.BootID {
		fresh.Created = r.Created
		return fresh, nil
	}
	return &r, nil
}

func (r *hostRecord) file() string { return filepath.Join(r.dir, "host.json") }

func (r *hostRecord) write() error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the machine's record: %w", err)
	}
	if err := atomicfile.Write(r.file(), append(raw, '\n')); err != nil {
		return fmt.Errorf("write the machine's record: %w", err)
	}
	return nil
}

func (r *hostRecord) delete() error { return removeIfThere(r.file()) }

// saveSysctls notes the current values of what a cluster changes, once for each boot. The settings are the host's,
// even if a kubelet runs in a network namespace; those of kube-proxy are the namespace's own.
func (r *hostRecord) saveSysctls() (err error) {
	if len(r.Sysctls) == 0 {
		r.Sysctls, err = sysctl.Save(sysctl.OfNode())
	}
	return err
}
