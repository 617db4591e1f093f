package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
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
			data, err := os.ReadFile(localcluster.AdminKubeconfig(cluster.dataDir))
			if err != nil {
				return localcluster.Unreadable(cluster.dataDir, err)
			}
			if path {
				_, err = fmt.Fprintln(terminal.Out, localcluster.AdminKubeconfig(cluster.dataDir))
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
