package cli

import (
	"errors"
	"os"
	"path/filepath"
)

// kubeletFlag names a file of the kubelet's settings.
const (
	kubeletFlag  = "kubelet-config"
	kubeletUsage = "file of kubelet settings that differ from everynode's: a KubeletConfiguration with some of its fields"
)

// errOtherKubelet says that nodes, which read the kubelet's settings when they start, run.
var errOtherKubelet = errors.New("the nodes run with other settings of the kubelet: stop them with `everynode down` to change that")

// kubeletFile is the cluster's copy of the file: nodes that come later read it.
func (m *machine) kubeletFile() string { return filepath.Join(m.DataDir, "kubelet.yaml") }

// hasKubeletConfig says whether the cluster has settings of the kubelet.
func (m *machine) hasKubeletConfig() bool {
	_, err := os.Stat(m.kubeletFile())
	return err == nil
}

// chooseKubelet keeps a copy of a file of settings, which has been checked.
func (m *machine) chooseKubelet(file string) error {
	if file == "" {
		return nil
	}
	return m.keepForNodes(kubeletFlag, file, m.kubeletFile(), errOtherKubelet)
}
