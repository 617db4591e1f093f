package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/controlplane"
)

func (cmd rotateCommands) authorityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Replace the cluster's CA, in steps that can be undone",
		Long: `Replace the certificate authority of a cluster, on any one server, while all run and pods
run through. First everybody learns to trust a new CA beside the old one; then the new one
signs, and certificates are renewed. Then the old one is no longer trusted, and its key
is deleted. Between the steps there is as much time as you want. No step is begun before
every server that runs, and every node that is Ready, has done the one before; the command
says who has not. Each may be interrupted, and typed again.

Until the last step 'undo' goes back. What else trusts the CA or has a certificate of it
(kubeconfigs, external clients) is to be replaced before the last step: docs/security.md.`,
		Example: `  everynode server rotate ca prepare
  everynode server rotate status
  everynode server rotate ca switch
  everynode server rotate ca finish`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		cmd.authorityStep(controlplane.CARotation{Do: controlplane.CAPrepare}, "Make a new CA, which everybody trusts beside the old one",
			`Make a new CA, which everybody trusts beside the old one. The old one signs until 'switch'.`,
			"A new CA is trusted beside the old one. Next: everynode server rotate ca switch"),
		cmd.authorityStep(controlplane.CARotation{Do: controlplane.CASwitch}, "Have the new CA sign, and all certificates renewed",
			`Have the new CA sign, and all certificates of servers and nodes renewed. It is refused until
every server, and every node that is Ready, trusts both, and waits until five minutes after
'prepare', when API servers know kubelets by both. Kubelets start again; pods do not.`,
			"The new CA signs. Replace kubeconfigs that were copied elsewhere; then: everynode server rotate ca finish"),
		cmd.authorityStep(controlplane.CARotation{Do: controlplane.CAFinish}, "Trust the new CA only, and delete the key of the old one",
			`Have the new CA trusted only, and delete the key of the old one. It is refused until every
server, and every node, has a certificate of the new CA. From then on certificates of the
old CA are refused, and there is no way back.`,
			"The cluster has one CA, and certificates of any other are refused."),
		cmd.authorityStep(controlplane.CARotation{Do: controlplane.CAUndo}, "Go back to the old CA, before the last step",
			`Go back to the old CA, before 'finish': it signs again, and when every server and every node
has a certificate of it, the new one is no longer trusted.`,
			"The cluster has its old CA only."))
	return c
}

// authorityStep is the command for one step. After the step it prints done.
func (cmd rotateCommands) authorityStep(step controlplane.CARotation, short, long, done string) *cobra.Command {
	config, output := controlplane.Config{}, ""
	c := &cobra.Command{
		Use:   step.Do,
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  everynode server rotate ca %[1]s
  everynode server rotate ca %[1]s --data-dir /var/lib/everynode -o json
  everynode server rotate ca %[1]s --etcd-servers https://192.0.2.20:2379 --etcd-cafile ca.crt --etcd-certfile c.crt --etcd-keyfile c.key`, step.Do),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config.DataDir, config.Progress = cmd.cluster.dataDir, stepsTo(cmd.Err)
			state, err := controlplane.RotateCA(c.Context(), config, step)
			if err != nil {
				return err
			}
			return cmd.Print(output, state, func() error {
				fmt.Fprintln(cmd.Out, done)
				return cmd.lateNodesText(state)
			})
		},
	}
	etcdFlags(c.Flags(), &config)
	console.OutputFlag(c, &output)
	if step.Do == controlplane.CAFinish || step.Do == controlplane.CAUndo {
		c.Flags().BoolVar(&step.LeaveLate, "leave-late", false, "go on although nodes that are not Ready have not followed: they have to join once more, with --rejoin")
	}
	return c
}

// authoritiesText prints which CAs are trusted, and which servers and nodes have
// done the current step.
func (cmd rotateCommands) authoritiesText(s *controlplane.Authorities) error {
	t := console.NewTable(cmd.Out, "CA", "FROM", "UNTIL", "SIGNS")
	for _, ca := range s.Authorities {
		t.Row(ca.ID, ca.From.Local().Format("2006-01-02"), ca.Until.Local().Format("2006-01-02"), yesNo(ca.Signs))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.Step == controlplane.CASteady {
		return nil
	}
	fmt.Fprintln(cmd.Out)
	t = console.NewTable(cmd.Out, "SERVER", "ADDRESS", "CURRENT")
	for _, server := range s.Servers {
		t.Row(server.Name, server.Address, yesNo(server.Current))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	next := "The new CA is trusted beside the old one. Go on with: everynode server rotate ca switch"
	if s.Step == controlplane.CASwitched {
		next = "The new CA signs, and the old one is trusted still. Go on with: everynode server rotate ca finish"
	}
	fmt.Fprintf(cmd.Out, "\n%d of %d nodes have followed.\n%s\nGo back with: everynode server rotate ca undo\n", s.Nodes-len(s.Late), s.Nodes, next)
	return cmd.lateNodesText(s)
}

// lateNodesText prints the nodes that have not done the current step, and what to do
// about them.
func (cmd rotateCommands) lateNodesText(s *controlplane.Authorities) error {
	advice := map[string]string{
		controlplane.NodeLate:    "are Ready, and have not followed yet; if that stays so, look at the logs of their agents",
		controlplane.NodeAway:    "are not Ready: they follow if they come back before the last step; after it they join once more (a token of `everynode token create --node NAME`, and --rejoin)",
		controlplane.NodeRevoked: "are revoked, and do not follow",
	}
	for _, state := range []string{controlplane.NodeLate, controlplane.NodeAway, controlplane.NodeRevoked} {
		var names []string
		for _, n := range s.Late {
			if n.State == state {
				names = append(names, n.Name)
			}
		}
		if len(names) == 0 || s.Step == controlplane.CASteady && state == controlplane.NodeLate {
			continue
		}
		if _, err := fmt.Fprintf(cmd.Out, "These nodes %s: %s\n", advice[state], strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	return nil
}
