package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"everynode/internal/sysctl"
)

// recordName is the file in the data directory that says what Leave has to undo.
const recordName = "machine.json"

// machineRecord is what an agent changes on its machine, written before it does. The nodes of
// `everynode up` have none: their namespaces are thrown away as a whole.
type machineRecord struct {
	Name       string `json:"name"`
	RuntimeDir string `json:"runtimeDir"`
	Socket     string `json:"socket"`                             // of the agent's containerd, as in the arguments of its shims
	Endpoint   string `json:"containerRuntimeEndpoint,omitempty"` // of a runtime that the agent did not start
	CgroupRoot string `json:"cgroupRoot,omitempty"`

	// Made are paths that did not exist before the first start: what is in them now came with the node.
	Made []string `json:"made"`
	// BootID is the boot in which Sysctls were read. After another boot the machine's own values apply.
	BootID  string           `json:"bootID"`
	Sysctls []sysctl.Setting `json:"sysctls"`
}

// machinePaths are where kubelet, containerd and CNI plugins keep what is not
// below the data directory.
func machinePaths() []string {
	return []string{kubeletRoot, "/run/containerd", "/run/netns", "/var/lib/cni", "/var/log/containers", "/var/log/pods", "/etc/cni/net.d"}
}

// nodeSettings are the kernel settings that a node changes. On a whole machine kube-proxy sets the last
// two as well. They do not exist before the first rule that tracks connections, and then begin with the
// values in untouched.
func nodeSettings() (all, untouched []sysctl.Setting) {
	untouched = []sysctl.Setting{
		{Name: "net/netfilter/nf_conntrack_tcp_timeout_established", Was: "432000", Ours: "86400"},
		{Name: "net/netfilter/nf_conntrack_tcp_timeout_close_wait", Was: "60", Ours: "3600"},
	}
	return append(sysctl.OfNode(), untouched...), untouched
}

// noteMachine writes the record of an agent that is about to start.
func noteMachine(cfg Config) error {
	if cfg.Local {
		return nil
	}
	r, err := readRecord(cfg.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.Name, r.RuntimeDir, r.Socket = cfg.Name, cfg.RuntimeDir, cfg.files().socket()
	r.Endpoint, r.CgroupRoot = cfg.ContainerRuntimeEndpoint, cfg.CgroupRoot
	for _, path := range machinePaths() {
		if missing := firstMissing(path); missing != "" && !slices.Contains(r.Made, missing) {
			r.Made = append(r.Made, missing)
		}
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if r.BootID != boot {
		if r.Sysctls, err = saveSettings(); err != nil {
			return err
		}
		r.BootID = boot
	}
	return r.write(cfg.DataDir)
}

func (r machineRecord) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of this machine: %w", err)
	}
	return writeFile(filepath.Join(dir, recordName), append(data, '\n'))
}

func saveSettings() ([]sysctl.Setting, error) {
	all, untouched := nodeSettings()
	saved, err := sysctl.Save(all)
	for _, s := range untouched {
		if !slices.ContainsFunc(saved, func(have sysctl.Setting) bool { return have.Name == s.Name }) {
			saved = append(saved, s)
		}
	}
	return saved, err
}

// readRecord reads the record in a data directory; fs.ErrNotExist when there is none.
func readRecord(dir string) (machineRecord, error) {
	r := machineRecord{}
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return r, fmt.Errorf("read what the agent has changed on this machine: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s is broken: %w; delete it (kernel settings then keep their current values until the next boot, "+
			"and folders that the agent made stay)", filepath.Join(dir, recordName), err)
	}
	return r, nil
}

// firstMissing returns the uppermost part of path that does not exist; "" if all of it does.
func firstMissing(path string) string {
	missing := ""
	for p := path; p != "/"; p = filepath.Dir(p) {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			missing = p
		}
	}
	return missing
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
