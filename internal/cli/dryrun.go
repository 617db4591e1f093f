package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/local"
)

// wouldDo prints what `up` would do, and changes nothing.
func (cmd upCommand) wouldDo(ctx context.Context, o upOptions) error {
	dir, err := cmd.preflight(ctx, o)
	if err != nil {
		return err
	}
	if err := dir.Undo(); err != nil {
		return err
	}
	c, err := local.Open(cmd.cluster.dataDir)
	switch {
	case errors.Is(err, local.ErrNoCluster):
		c = &local.Cluster{Loopback: o.Nodes == localcluster.None}
		fmt.Fprintf(cmd.Out, "A new cluster would be made in %s.\n", cmd.cluster.dataDir)
	case err != nil:
		return err
	default:
		fmt.Fprintf(cmd.Out, "The cluster in %s has %s.\n", c.DataDir, console.Counted(len(c.Nodes), "node"))
	}
	missing, err := localcluster.NewNodes(c, o.Wanted)
	if err != nil {
		return err
	}
	for _, n := range missing {
		fmt.Fprintf(cmd.Out, "A node would be added: %s\n", describe(n))
	}
	for _, n := range o.File {
		if _, err := c.Node(n.Name); err == nil && len(n.Labels)+len(n.Taints) > 0 {
			fmt.Fprintf(cmd.Out, "The node %s would get these, unless it has them: %s\n", n.Name, strings.Join(n.AtBirth(), " "))
		}
	}
	if lacks := localcluster.Lacking(o.Network(c)); lacks != "" {
		fmt.Fprintf(cmd.Out, "The nodes would have %s before you install it.\n", lacks)
	}
	if o.simulate.given() && o.simulate.count > 0 {
		fmt.Fprintf(cmd.Out, "There would be %s.\n", console.Counted(o.simulate.count, "simulated node"))
	}
	fmt.Fprintln(cmd.Out, "Nothing was done: --dry-run.")
	return nil
}

// describe returns a node in one line.
func describe(n localcluster.NodeSpec) string {
	parts := append([]string{n.Name}, n.AtBirth()...)
	if n.Size.CPU != 0 {
		parts = append(parts, fmt.Sprintf("%d thousandths of a CPU", n.Size.CPU))
	}
	if n.Size.Memory != 0 {
		parts = append(parts, fmt.Sprintf("%d MiB", n.Size.Memory>>20))
	}
	return strings.Join(parts, " ")
}
