package node

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"everynode/internal/datadir"
)

// A user's settings of containerd, such as more runtime handlers. containerd itself merges them over the agent's.

// containerdVersion is the version of containerd's configuration that the agent writes.
const containerdVersion = 3

// Plugins of containerd whose settings the agent writes, and the one that had them in version 2.
const (
	criImages  = "io.containerd.cri.v1.images"
	criRuntime = "io.containerd.cri.v1.runtime"
	criFormer  = "io.containerd.grpc.v1.cri"
)

// containerdSections are the parts of a configuration that users may set.
func containerdSections() []string {
	return []string{"version", "debug", "disabled_plugins", "metrics", "oom_score", "plugins", "proxy_plugins", "required_plugins", "stream_processors", "timeouts"}
}

// ownedSetting is a setting of the agent's.
type ownedSetting struct {
	path   []string // of keys
	reason string
}

// containerdOwned are the settings without which containerd does not work for this node.
func containerdOwned() []ownedSetting {
	const version2 = "containerd ignores this place in version 3: use plugins.'" + criRuntime + "' or '" + criImages + "'"
	return []ownedSetting{
		{[]string{"plugins", criImages, "snapshotter"}, "it follows from the node's file system; a runtime may have a snapshotter of its own"},
		{[]string{"plugins", criImages, "use_local_image_pull"}, "the settings of registries need it"},
		{[]string{"plugins", criImages, "pinned_images"}, "the node has this image without a registry"},
		{[]string{"plugins", criImages, "registry"}, "give --registry-config, or use /etc/containerd/certs.d"},
		{[]string{"plugins", criRuntime, "restrict_oom_score_adj"}, "it follows from the rights of the agent"},
		{[]string{"plugins", criRuntime, "cni"}, "give --cni none for a network of yours"},
		{[]string{"plugins", criRuntime, "containerd", "runtimes", "runc"}, "give another runtime another name, which default_runtime_name may name"},
		{[]string{"plugins", criFormer, "containerd"}, version2},
		{[]string{"plugins", criFormer, "cni"}, version2},
		{[]string{"plugins", criFormer, "registry"}, version2},
	}
}

// CheckContainerdConfig returns what is wrong with a file of containerd's settings, or nil. "" is not a file.
func CheckContainerdConfig(file string) error {
	_, err := readContainerdConfig(file)
	return err
}

// readContainerdConfig returns the settings in a file; nil if file is "".
func readContainerdConfig(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read containerd's settings: %w", err)
	}
	if err := datadir.CheckTrusted(file); err != nil { // containerd starts what its settings name, as root
		return nil, fmt.Errorf("containerd's settings: %w", err)
	}
	if err := checkContainerdSettings(text); err != nil {
		return nil, fmt.Errorf("containerd's settings in %s: %w", file, err)
	}
	return text, nil
}

// checkContainerdSettings returns an error if containerd could not read the settings, or if the agent owns one of them.
func checkContainerdSettings(text []byte) error {
	var settings map[string]any
	if err := toml.Unmarshal(text, &settings); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, column := at.Position()
			return fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return err
	}
	if version, ok := settings["version"].(int64); !ok || version != containerdVersion {
		return fmt.Errorf("version is %v: give version = %d; `containerd config migrate` rewrites an older file", settings["version"], containerdVersion)
	}
	var errs []error
	for _, section := range slices.Sorted(maps.Keys(settings)) {
		if !slices.Contains(containerdSections(), section) {
			errs = append(errs, fmt.Errorf("only the agent may set %s: known are %s", section, strings.Join(containerdSections(), ", ")))
		}
	}
	for _, owned := range containerdOwned() {
		if has(settings, owned.path) {
			errs = append(errs, fmt.Errorf("only the agent may set %s: %s", keyPath(owned.path), owned.reason))
		}
	}
	plugins, _ := settings["plugins"].(map[string]any)
	for _, plugin := range slices.Sorted(maps.Keys(plugins)) {
		if strings.HasPrefix(plugin, "io.containerd.server.") {
			errs = append(errs, fmt.Errorf("only the agent may set plugins.'%s': the kubelet expects containerd at one address", plugin))
		}
	}
	return errors.Join(append(errs, checkRuntimes(settings))...)
}

// checkRuntimes returns an error if a runtime would put its containers where the kubelet does not look for them, or if
// the default one does not exist.
func checkRuntimes(settings map[string]any) error {
	containerd := tableAt(settings, "plugins", criRuntime, "containerd")
	runtimes := tableAt(containerd, "runtimes")
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		if systemd, _ := tableAt(runtimes, name, "options")["SystemdCgroup"].(bool); systemd {
			errs = append(errs, fmt.Errorf("runtime %s has SystemdCgroup = true, but the kubelet uses cgroupfs: leave it out", name))
		}
	}
	if name, ok := containerd["default_runtime_name"]; ok {
		text, _ := name.(string)
		if _, ok := runtimes[text]; !ok && text != "runc" {
			errs = append(errs, fmt.Errorf("default_runtime_name is %v, which is none of the runtimes: add it to them", name))
		}
	}
	return errors.Join(errs...)
}

// tableAt returns the table at a path of keys; nil if there is none.
func tableAt(table map[string]any, path ...string) map[string]any {
	for _, key := range path {
		table, _ = table[key].(map[string]any)
	}
	return table
}

// has reports whether there is a value at a path of keys.
func has(table map[string]any, path []string) bool {
	_, ok := tableAt(table, path[:len(path)-1]...)[path[len(path)-1]]
	return ok
}

// keyPath is a path of keys as TOML writes it.
func keyPath(path []string) string {
	quoted := slices.Clone(path)
	for i, key := range quoted {
		if strings.Contains(key, ".") {
			quoted[i] = "'" + key + "'"
		}
	}
	return strings.Join(quoted, ".")
}

// writeContainerdImport writes the user's settings where containerd's configuration imports them: a copy, because
// containerd reads them again when it restarts. It removes those of an earlier start.
func (cfg Config) writeContainerdImport() error {
	file := cfg.files().containerdImport()
	if len(cfg.containerdFragment) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove containerd's earlier settings: %w", err)
		}
		return nil
	}
	return writeFile(file, cfg.containerdFragment)
}
