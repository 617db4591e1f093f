package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

func listCommand(terminal *console.Console) *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the clusters of this machine and user",
		Long: `List the cluster without a name, those that were given one with --name, and those that
were started with --data-dir or EVERYNODE_DATA_DIR, until they are purged.`,
		Example: "  everynode list -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			others, err := localcluster.Remembered(localcluster.Elsewhere())
			if err != nil {
				return err
			}
			rows, err := localcluster.Rows(localcluster.Dirs(append(others, localcluster.DataDirFromEnv())))
			if err != nil {
				return err
			}
			return terminal.Print(output, rows, func() error { return clusterTable(terminal.Out, rows) })
		},
	}
	console.OutputFlag(c, &output)
	return c
}

func clusterTable(out io.Writer, rows []localcluster.Row) error {
	if len(rows) == 0 {
		fmt.Fprintln(out, "No clusters. Start one with: everynode up")
		return nil
	}
	t := console.NewTable(out, "NAME", "STATE", "NODES", "API", "CONTEXT", "DATA")
	for _, r := range rows {
		t.Row(console.OrNone(r.Name), r.State, fmt.Sprint(r.Nodes), console.OrNone(r.API), console.OrNone(r.Context), r.DataDir)
	}
	return t.Flush()
}
