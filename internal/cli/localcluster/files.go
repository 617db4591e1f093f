package localcluster

import (
	"errors"
	"os"
	"path/filepath"
)

// errOtherRegistries is the error for other registries while nodes run: nodes read them only when they start.
var errOtherRegistries = errors.New("the nodes run with other registries: stop them with `everynode down` to change that")

// errOtherKubelet is the error for other kubelet settings while nodes run: nodes read them only when they start.
var errOtherKubelet = errors.New("the nodes run with other settings of the kubelet: stop them with `everynode down` to change that")

// errOtherContainerd is the error for other settings of containerd while nodes run: nodes read them only when they start.
var errOtherContainerd = errors.New("the nodes run with other settings of containerd: stop them with `everynode down` to change that")

// nodeFiles is the folder with copies of files that were given to the cluster. Nodes read them when they start, also
// nodes that are added later.
type nodeFiles string

// registries is the file of mirrors, certificates and passwords of registries.
func (f nodeFiles) registries() string { return filepath.Join(string(f), "registries.yaml") }

// kubelet is the file of kubelet settings.
func (f nodeFiles) kubelet() string { return filepath.Join(string(f), "kubelet.yaml") }

// containerd is the file of containerd's settings.
func (f nodeFiles) containerd() string { return filepath.Join(string(f), "containerd.toml") }

// isKept reports whether the cluster has such a file.
func isKept(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
