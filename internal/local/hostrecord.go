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

	"everynode/internal/datadir"
)

const ipForward = "net/ipv4/ip_forward"

// hostRecord is what the clusters of this machine changed on it: /run/everynode/host.json. It is the machine's and
// not one cluster's, because the second cluster would take the first one's changes for the original values, and
// because both are gone after a reboot.
type hostRecord struct {
	// BootID tells a record of an earlier boot, where /run is not a tmpfs.
	BootID  string        `json:"bootID"`
	Sysctls []savedSysctl `json:"sysctls"`
	Limits  []raisedLimit `json:"limits,omitempty"`
	Created []string      `json:"createdPaths"`

	dir string
}

// savedSysctl is a kernel setting as it was before the first cluster came up. Names are paths below /proc/sys.
type savedSysctl struct {
	Name string `json:"name"`
	Was  string `json:"was"`
	// Ours is the value that everynode, or a kubelet that it runs, sets. Empty for settings that the kernel changes
	// along with ip_forward: those are restored with it.
	Ours string `json:"ours,omitempty"`
}

// changedSysctls are the host-wide settings that a cluster changes: the kubelet writes all but ip_forward, whether it
// runs in a network namespace or not. kube-proxy's are the namespace's own.
func changedSysctls() []savedSysctl {
	return []savedSysctl{
		{Name: "vm/overcommit_memory", Ours: "1"},
		{Name: "vm/panic_on_oom", Ours: "0"},
		{Name: "kernel/panic", Ours: "10"},
		{Name: "kernel/panic_on_oops", Ours: "1"},
		{Name: "kernel/keys/root_maxkeys", Ours: "1000000"},
		{Name: "kernel/keys/root_maxbytes", Ours: "25000000"},
		{Name: ipForward, Ours: "1"},
	}
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
	// The directory goes when nothing is in it. Who waits for the lock finds its file gone, and makes a new one.
	if entries, derr := os.ReadDir(hostRunDir); derr == nil && len(entries) == 1 {
		err = errors.Join(err, removeIfThere(lock), release())
		_ = os.Remove(hostRunDir) // not empty: another process has come
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
	if err := writeFileAtomic(r.file(), append(raw, '\n')); err != nil {
		return fmt.Errorf("write the machine's record: %w", err)
	}
	return nil
}

func (r *hostRecord) delete() error { return removeIfThere(r.file()) }

// saveSysctls notes the present values, once per boot.
func (r *hostRecord) saveSysctls() error {
	if len(r.Sysctls) > 0 {
		return nil
	}
	var saved []savedSysctl
	for _, s := range changedSysctls() {
		was, err := readSysctl(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // this kernel lacks it, and so it is not changed
		}
		if err != nil {
			return err
		}
		s.Was = was
		saved = append(saved, s)
	}
	forwarding, err := savedForwarding()
	if err != nil {
		return err
	}
	r.Sysctls = append(saved, forwarding...)
	return nil
}

// savedForwarding lists the settings that the kernel overwrites when ip_forward changes.
func savedForwarding() ([]savedSysctl, error) {
	files, err := filepath.Glob(filepath.Join(procSys, "net/ipv4/conf/*/forwarding"))
	if err != nil {
		return nil, err
	}
	names := []string{"net/ipv4/conf/all/accept_redirects"}
	for _, f := range files {
		if filepath.Base(filepath.Dir(f)) != "all" { // that one is ip_forward itself
			names = append(names, strings.TrimPrefix(f, procSys+"/"))
		}
	}
	var saved []savedSysctl
	for _, name := range names {
		was, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its link has just gone
		}
		if err != nil {
			return nil, err
		}
		saved = append(saved, savedSysctl{Name: name, Was: was})
	}
	return saved, nil
}

// restoreSysctls gives settings their old values, except those that someone else has changed since.
func (r *hostRecord) restoreSysctls() error {
	var errs []error
	forwardRestored := false
	for _, s := range r.Sysctls {
		now, err := readSysctl(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if now == s.Was || s.Ours != "" && now != s.Ours || s.Ours == "" && !forwardRestored {
			continue
		}
		errs = append(errs, writeSysctl(s.Name, s.Was))
		forwardRestored = forwardRestored || s.Name == ipForward
	}
	return errors.Join(errs...)
}
