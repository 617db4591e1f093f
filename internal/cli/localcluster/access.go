package localcluster

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/verbs"
	"everynode/internal/controlplane/admission"
)

// AdminKubeconfig is the file that the control plane writes for its owner.
func AdminKubeconfig(dataDir string) string {
	return filepath.Join(dataDir, "admin.kubeconfig")
}

// AdminConfig is the administrator's access to the cluster in the data directory.
// It is an error if the cluster does not run.
func AdminConfig(dataDir string) (*rest.Config, error) {
	config, err := SavedConfig(dataDir)
	if err != nil {
		return nil, err
	}
	return config, Stopped(dataDir)
}

// SavedConfig is the same access, whether the cluster runs or not.
func SavedConfig(dataDir string) (*rest.Config, error) {
	path := AdminKubeconfig(dataDir)
	if _, err := os.Stat(path); err != nil {
		return nil, Unreadable(dataDir, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("%s is not a kubeconfig: %w", path, err)
	}
	return config, nil
}

// AdminClient is the administrator's client for the cluster in the data
// directory.
func AdminClient(dataDir string) (kubernetes.Interface, error) {
	config, err := AdminConfig(dataDir)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

// FleetClient is the administrator's client without a rate limit, for work on many
// nodes at once.
func FleetClient(dataDir string) (kubernetes.Interface, error) {
	config, err := AdminConfig(dataDir)
	if err != nil {
		return nil, err
	}
	return verbs.ForFleet(config)
}

// AuthorityHash is the hash of the cluster's CA, which the administrator's
// kubeconfig trusts.
func AuthorityHash(dataDir string) (string, error) {
	config, err := AdminConfig(dataDir)
	if err != nil {
		return "", err
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return "", fmt.Errorf("read the cluster's CA: %w", err)
	}
	return admission.AuthorityHash(config.CAData)
}
