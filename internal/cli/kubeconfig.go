package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/console"
)

func kubeconfigCommand(terminal *console.Console, cluster *target) *cobra.Command {
	path := false
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the administrator's kubeconfig",
		Long: `Print the administrator's kubeconfig. 'everynode up' has put the same into your own
kubeconfig already, as a context beside the others, and 'everynode down' takes it out.`,
		Example: `  everynode kubeconfig > everynode.kubeconfig
  export KUBECONFIG=$(everynode kubeconfig --path)`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			data, err := os.ReadFile(adminKubeconfig(cluster.dataDir))
			if err != nil {
				return unreadable(cluster.dataDir, err)
			}
			if path {
				_, err = fmt.Fprintln(terminal.Out, adminKubeconfig(cluster.dataDir))
				return err
			}
			_, err = terminal.Out.Write(data)
			return err
		},
	}
	cluster.addFlags(c)
	c.Flags().BoolVar(&path, "path", false, "print the file's path in place of its content")
	return c
}

// adminConfig is the administrator's access to the cluster in the data directory,
// if that runs.
func adminConfig(dataDir string) (*rest.Config, error) {
	config, err := savedConfig(dataDir)
	if err != nil {
		return nil, err
	}
	return config, stopped(dataDir)
}

// savedConfig is the same, whether it runs or not.
func savedConfig(dataDir string) (*rest.Config, error) {
	path := adminKubeconfig(dataDir)
	if _, err := os.Stat(path); err != nil {
		return nil, unreadable(dataDir, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("%s is not a kubeconfig: %w", path, err)
	}
	return config, nil
}

// adminClient is the administrator's, for the cluster in the data directory.
func adminClient(dataDir string) (kubernetes.Interface, error) {
	config, err := adminConfig(dataDir)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}
