package verbs

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/why"
)

// handoverFlags are the flags of `handover`.
type handoverFlags struct {
	check, mutation   bool
	namespace, output string
}

// handoverCommand is `handover`.
type handoverCommand struct {
	*console.Console
	cluster access
}

func (cmd handoverCommand) command() *cobra.Command {
	f := handoverFlags{}
	c := &cobra.Command{
		Use:   "handover --check",
		Short: "Say what Kubernetes' own controller would do if it took over now",
		Long: `Say what Kubernetes' own controller would do if it took over now, and at which API server that
was found out.

It knows neither waves nor guards. If a release is under way, stopped or taken back, it would give
the template to all nodes, as many at a time as maxUnavailable says, and pods that the guard holds
would go at once. The same is true of a template that was changed while no engine ran; and nodes
that missed a release would get it at once, although it is paused or no window is open. DaemonSets
of which nothing of that kind is true stay as they are, and are not listed.

Beside Kubernetes' own controller (--mode=assist) there is nothing to take over. Then this lists the
DaemonSets that nobody would update any more. With --on-delete it counts what the next apply of
their manifests may update, once the admission policy everynode-on-delete is removed as well.

It exits with 0 if no pod would move, with 1 if any would, or if it could not find out, and with 2
if the call is wrong. It changes nothing.`,
		Example: `  everynode handover --check --kubeconfig ~/.kube/config
  everynode handover --check -n monitoring -o json`,
		Args: func(c *cobra.Command, args []string) error {
			err := cobra.NoArgs(c, args)
			if err == nil && !f.check {
				err = errors.New("give --check: to hand over, remove the controller and switch the other one on (docs/install.md)")
			}
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, _ []string) error { return cmd.run(c.Context(), &f) },
	}
	cmd.cluster.AddFlags(c)
	flags := c.Flags()
	flags.BoolVar(&f.check, "check", false, "only say what would happen")
	flags.BoolVar(&f.mutation, "on-delete", false, "assume that the admission policy everynode-on-delete is removed as well")
	cmd.cluster.namespaceFlag(c, flags, &f.namespace, "the DaemonSets", "all")
	console.OutputFlag(c, &f.output)
	return c
}

func (cmd handoverCommand) run(ctx context.Context, f *handoverFlags) error {
	config, err := cmd.cluster.Config()
	if err != nil {
		return err
	}
	client, err := ForFleet(config)
	if err != nil {
		return err
	}
	all, err := why.Handovers(ctx, client, f.namespace, f.mutation, time.Now())
	if err != nil {
		return err
	}
	err = cmd.Print(f.output, all, func() error {
		// An answer about another cluster than the one that is meant looks the same.
		if err := cmd.Say("API server: %s\n", config.Host); err != nil {
			return err
		}
		return why.PrintHandovers(cmd.Out, all)
	})
	if err != nil {
		return err
	}
	return why.NotYet(all)
}
