package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

func (cmd imageCommands) listCommand() *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images in the nodes",
		Example: "  everynode image list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := cmd.cluster.open()
			if err != nil {
				return err
			}
			nodes, err := m.Runtimes("")
			if err != nil {
				return err
			}
			rows, err := nodes.Images(c.Context())
			if err != nil {
				return err
			}
			return cmd.Print(output, rows, func() error { return cmd.table(rows, len(nodes)) })
		},
	}
	cmd.cluster.addFlags(c)
	console.OutputFlag(c, &output)
	return c
}

func (cmd imageCommands) table(rows []localcluster.Image, total int) error {
	t := console.NewTable(cmd.Out, "IMAGE", "PINNED", "NODES")
	for _, r := range rows {
		where, pinned := strings.Join(r.Nodes, ", "), "no"
		if len(r.Nodes) == total {
			where = "all"
		}
		if r.Pinned {
			pinned = "yes"
		}
		t.Row(r.Name, pinned, where)
	}
	return t.Flush()
}
