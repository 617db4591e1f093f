package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane/admission"
)

// revokeCommand takes away a node's rights, for machines that are lost or
// stolen.
func (cmd nodeCommands) revokeCommand() *cobra.Command {
	undo := false
	c := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Refuse the credentials of a node from now on",
		Long: `Refuse whatever comes with the credentials of the node, or of pods on it: reading, writing, and
asking for a new certificate. Its containers run on until its machine is switched off, and connections
that are open end within ten minutes. The Node and its pods go with
'everynode kubectl delete node NAME'.

A machine that joins under the name with a token that was made afterwards ends this, for itself: what
the one before has stays refused. --undo accepts that one again, and whoever else has its key.`,
		Example: `  everynode node revoke rack7-3
  everynode node revoke rack7-3 --undo`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := localcluster.AdminClient(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			if err := admission.RevokeNode(c.Context(), client, args[0], undo); err != nil {
				return err
			}
			if undo {
				fmt.Fprintf(cmd.Out, "node %s is accepted again, and so is whoever else has its key\n", args[0])
				return nil
			}
			fmt.Fprintf(cmd.Out, "node %[1]s is revoked. Its Node and pods go with: everynode kubectl delete node %[1]s\n"+
				"Another machine can then have the name: everynode token create --node %[1]s\n", args[0])
			return nil
		},
	}
	c.Flags().BoolVar(&undo, "undo", false, "accept them again")
	return c
}
