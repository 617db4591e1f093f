package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/local"
)

// ownCluster is the cluster of this machine or of a kubeconfig, for commands that need only an API server.
type ownCluster struct {
	cluster    *target
	kubeconfig string
	flags      []*pflag.Flag // those that choose it, of each command
}

// AddFlags adds the flags that choose the cluster.
func (o *ownCluster) AddFlags(c *cobra.Command) {
	o.cluster.addFlags(c)
	c.PersistentFlags().StringVar(&o.kubeconfig, "kubeconfig", "", "cluster to ask (default: the one of this machine)")
	for _, name := range []string{"kubeconfig", "name", "data-dir"} {
		o.flags = append(o.flags, c.PersistentFlags().Lookup(name))
	}
	console.ChoosesCluster(c.PersistentFlags(), "kubeconfig")
}

// Config is the client configuration for its API server.
func (o *ownCluster) Config() (*rest.Config, error) {
	if o.kubeconfig == "" {
		return o.own()
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, notKubeconfig(o.kubeconfig, err)
	}
	return config, nil
}

// own is the client configuration for the cluster of this machine.
func (o *ownCluster) own() (*rest.Config, error) {
	if _, err := localcluster.SavedConfig(o.cluster.dataDir); err != nil {
		return nil, fmt.Errorf("%w; to ask another cluster than that of this machine, give --kubeconfig", err)
	}
	return localcluster.AdminConfig(o.cluster.dataDir)
}

// Namespace is the namespace of DaemonSets that are named without one: with --kubeconfig that of its context.
func (o *ownCluster) Namespace() (string, error) {
	if o.kubeconfig == "" {
		return metav1.NamespaceDefault, nil
	}
	given, err := clientcmd.LoadFromFile(o.kubeconfig)
	if err != nil {
		return "", notKubeconfig(o.kubeconfig, err)
	}
	// This loader reads only the file. The one of kubectl asks the pod that it runs in, if the context says nothing.
	namespace, _, err := clientcmd.NewDefaultClientConfig(*given, nil).Namespace()
	if err != nil {
		return "", notKubeconfig(o.kubeconfig, err)
	}
	return namespace, nil
}

func notKubeconfig(file string, err error) error {
	return fmt.Errorf("%s is not a kubeconfig: %w", file, err)
}

// Kubectl is the command line that runs the kubectl in this program against this cluster.
func (o *ownCluster) Kubectl() ([]string, error) {
	kubeconfig := o.kubeconfig
	if kubeconfig == "" {
		if _, err := o.own(); err != nil {
			return nil, err
		}
		kubeconfig = localcluster.AdminKubeconfig(o.cluster.dataDir)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{exe, "kubectl", "--kubeconfig", kubeconfig}, nil
}

// Flags are the flags that it was chosen by. kubectl does not know clusters of this machine by their names.
func (o *ownCluster) Flags() (ours, kubectls []string) {
	for _, flag := range o.flags {
		if flag.Changed {
			ours = append(ours, "--"+flag.Name+"="+flag.Value.String())
		}
	}
	switch {
	case o.kubeconfig != "":
		kubectls = []string{"--kubeconfig=" + o.kubeconfig}
	case len(ours) > 0:
		kubectls = []string{"--kubeconfig=" + localcluster.AdminKubeconfig(o.cluster.dataDir)}
	}
	return ours, kubectls
}

// EngineOff reports whether the cluster is known to run without the engine.
func (o *ownCluster) EngineOff() bool {
	m, err := local.Open(o.cluster.dataDir)
	return err == nil && o.kubeconfig == "" && m.NoDaemonSets
}
