package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// downCommand is `everynode down`, which stops a cluster and deletes it.
type downCommand struct {
	*console.Console
	cluster *target
}

func (cmd downCommand) command() *cobra.Command {
	purge := false
	c := &cobra.Command{
		Use:        "down",
		SuggestFor: []string{"stop", "delete", "destroy", "rm"},
		Short:      "Stop the cluster of this machine",
		Long: `Stop pods, nodes and control plane, in this order, and take away every namespace, link,
mount and cgroup. The data directory stays, and 'everynode up' brings the same cluster
back, unless --purge is given.`,
		Example: `  everynode down
  everynode down --purge    # and delete the cluster's data`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return cmd.run(c.Context(), purge) },
	}
	cmd.cluster.addFlags(c)
	c.Flags().BoolVar(&purge, "purge", false, "delete what everynode made in the data directory, too: etcd, keys, images, logs")
	return c
}

func (cmd downCommand) run(ctx context.Context, purge bool) error {
	_, err := local.Open(cmd.cluster.dataDir)
	lost, broken := errors.Is(err, local.ErrNoCluster), errors.Is(err, local.ErrBroken)
	if lost {
		if pid, runs := datadir.Running(localcluster.ServerLock(cmd.cluster.dataDir)); runs {
			return fmt.Errorf("%s is the folder of `everynode server`: stop that process (pid %d), or its service", cmd.cluster.dataDir, pid)
		}
	}
	if lost && (!purge || !cmd.ofUp()) {
		fmt.Fprintf(cmd.Out, "No cluster in %s: nothing to stop.\n", cmd.cluster.dataDir)
		return nil
	}
	if broken {
		fmt.Fprintf(cmd.Err, "warning: %v\n", err)
	}
	open := localcluster.Open
	if lost || broken {
		open = localcluster.Recover
	}
	m, release, err := cmd.cluster.changeBy(open)
	if err != nil {
		return err
	}
	defer release()
	p := console.NewProgress(cmd.Out)
	if err := cmd.cluster.stop(ctx, m, p); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before everything was stopped: run `everynode down` again for the rest")
		}
		return fmt.Errorf("not everything could be stopped; run `everynode down` again: %w", err)
	}
	if !purge {
		return nil
	}
	return m.Purge(p, cmd.Err)
}

// ofUp reports whether the data directory has the mark of `up`. A purge that was
// killed near its end leaves the mark without the record.
func (cmd downCommand) ofUp() bool {
	dir, err := datadir.Find(cmd.cluster.dataDir)
	return err == nil && dir.Kind() == datadir.Up
}
