package localcluster

import (
	"errors"
	"os"
	"path/filepath"
)

// errOtherRegistries says that nodes, which read about registries when they start, run.
var errOtherRegistries = errors.New("the nodes run with other registries: stop them with `everynode down` to change that")

// errOtherKubelet says that nodes, which read the kubelet's settings when they start, run.
var errOtherKubelet = errors.New("the nodes run with other settings of the kubelet: stop them with `everynode down` to change that")

// nodeFiles are the copies of files that were given to the cluster and that nodes read when they start, those that
// come later as well. It is the folder that they are in.
type nodeFiles string

// registries is of mirrors, certificates and passwords of registries.
func (f nodeFiles) registries() string { return filepath.Join(string(f), "registries.yaml") }

// kubelet is of settings of the kubelet.
func (f nodeFiles) kubelet() string { return filepath.Join(string(f), "kubelet.yaml") }

// isKept says whether the cluster has such a file.
func isKept(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
