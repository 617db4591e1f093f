package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/node"
)

// leaveCommand takes a machine out of its cluster.
func leaveCommand(terminal *console.Console) *cobra.Command {
	o := node.LeaveOptions{}
	c := &cobra.Command{
		Use:        "leave",
		SuggestFor: []string{"reset", "uninstall", "remove", "down"},
		Short:      "Take this machine out of its cluster, and everything of the agent off it",
		Long: `Move the pods of this machine to other nodes, stop the agent and what is left of its pods,
delete the Node, and take away what the agent has made on this machine: rules, routes,
links, mounts, cgroups, keys, images and logs. Kernel settings get back the values that
they had. What everynode did not make stays.

It works while the agent runs, and after it was stopped. Disruption budgets hold. After an
error, or when it was interrupted, the same command goes on with the rest.

No key of an administrator is needed: a node may evict its own pods and delete its own
Node, unless that has taints or labels that only an administrator may set.`,
		Example: `  everynode agent leave
  everynode agent leave --drain-timeout 30m
  everynode agent leave --force    # no server answers, or pods may not be evicted`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p := console.NewProgress(terminal.Out)
			o.Step = p.Step
			o.Warn = func(format string, args ...any) { fmt.Fprintf(terminal.Err, "warning: "+format+"\n", args...) }
			err := node.Leave(c.Context(), o)
			switch {
			case errors.Is(err, node.ErrNoAgent):
				fmt.Fprintf(terminal.Out, "No agent's data in %s: nothing to leave.\n", o.DataDir)
				return nil
			case err != nil && c.Context().Err() != nil:
				return errors.New("interrupted before everything was done: run `everynode agent leave` again for the rest")
			case err != nil:
				return err
			}
			fmt.Fprintln(terminal.Out, "This machine has left the cluster.")
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.DataDir, "data-dir", defaultAgentDir, "where the node's state is kept")
	f.StringSliceVar(&o.Servers, "server", nil, "URL of an API server, if those that the agent knows are gone")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 5*time.Minute, "how long the eviction of pods may take")
	f.BoolVar(&o.Force, "force", false, "go on when no API server answers, and end pods that nobody makes again elsewhere, or that may not be evicted")
	return c
}
