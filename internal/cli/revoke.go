package cli

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cmd.cluster.completeAllNodes,
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
			node, err := client.CoreV1().Nodes().Get(c.Context(), args[0], metav1.GetOptions{})
			if err == nil {
				fmt.Fprint(cmd.Out, servesUntil(node, time.Now()))
			}
			tokens, err := admission.ListTokens(c.Context(), client)
			if err != nil {
				return fmt.Errorf("%s is revoked, but the join tokens that it may have cannot be listed: %w", args[0], err)
			}
			if open := openTokens(tokens, time.Now()); len(open) > 0 {
				fmt.Fprintf(cmd.Out, "With a join token that it has, whoever has the machine can join under another name. These are valid for any:\n"+
					"everynode token delete %s\n", strings.Join(open, " "))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&undo, "undo", false, "accept them again")
	return c
}

// servesUntil says until when the machine of a node can pose as the kubelet at the node's addresses, if it has any.
func servesUntil(node *corev1.Node, now time.Time) string {
	var addresses []string
	for _, a := range node.Status.Addresses {
		if _, err := netip.ParseAddr(a.Address); err == nil {
			addresses = append(addresses, a.Address)
		}
	}
	if len(addresses) == 0 {
		return ""
	}
	return fmt.Sprintf("Until %s whoever has the machine can serve as the kubelet at %s, if connections to there reach it: give the machine that takes its place another address until then\n",
		now.Add(admission.ServingFor).UTC().Format(time.RFC3339), strings.Join(addresses, ", "))
}

// openTokens returns the IDs of the tokens with which a machine can still join under any name.
func openTokens(tokens []admission.Token, now time.Time) (ids []string) {
	for _, t := range tokens {
		over := !t.Expires.IsZero() && !t.Expires.After(now) || t.Uses > 0 && len(t.UsedBy) >= t.Uses
		if len(t.Nodes) == 0 && !over {
			ids = append(ids, t.ID)
		}
	}
	return ids
}
