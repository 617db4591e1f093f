package command

import (
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// fromKubeconfig returns the connection that a kubeconfig describes. Its errors are
// about the file: client-go's own end in advice about environment variables that do not
// matter here.
func fromKubeconfig(file string) (*rest.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w: name a kubeconfig that this process may read", err)
	}
	content, err := clientcmd.Load(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--kubeconfig %s is not a kubeconfig: %w: copy it from the cluster again", file, err)
	case len(content.Clusters) == 0:
		return nil, fmt.Errorf("--kubeconfig %s names no cluster, and so no API server: copy it from the cluster again", file)
	case content.CurrentContext == "":
		return nil, fmt.Errorf("--kubeconfig %s has no current context: choose one with `kubectl --kubeconfig %s config use-context NAME`", file, file)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s cannot be used: %w: `kubectl --kubeconfig %s config view` shows what is in it", file, err, file)
	}
	return config, nil
}
