package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
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
		if pid, runs := datadir.Running(serverLockOf(cmd.cluster.dataDir)); runs {
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
	open := cmd.cluster.open
	if lost || broken {
		open = cmd.cluster.recover
	}
	m, release, err := cmd.cluster.changeBy(open)
	if err != nil {
		return err
	}
	defer release()
	p := newProgress(cmd.Out)
	if err := stopAll(ctx, m, m.contextName(cmd.cluster.dataDir), p, cmd.Err); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before everything was stopped: run `everynode down` again for the rest")
		}
		return fmt.Errorf("not everything could be stopped; run `everynode down` again: %w", err)
	}
	if !purge {
		return nil
	}
	return cmd.purge(m, p)
}

// ofUp reports whether the data directory has the mark of `up`, though not its
// record: a purge that was killed at its end leaves that.
func (cmd downCommand) ofUp() bool {
	dir, err := datadir.Find(cmd.cluster.dataDir)
	return err == nil && dir.Kind() == datadir.Up
}

// stopAll takes the cluster out of the user's kubeconfig, stops the nodes, then the
// control plane, and then takes the network away. Every step is tried.
func stopAll(ctx context.Context, m *machine, kubeContext string, p *progress, warnings io.Writer) error {
	// First: nobody is to be sent to an address that will soon be a stranger's.
	if err := dropContext(ctx, m.DataDir, kubeContext, userFiles()); err != nil {
		fmt.Fprintf(warnings, "warning: the context %s is still in your kubeconfig: %v\n", kubeContext, err)
	}
	errs, simulator := make([]error, len(m.Nodes)), error(nil)
	var nodes sync.WaitGroup
	for i, n := range m.Nodes {
		nodes.Go(func() {
			done := p.step()
			_, ran := datadir.Running(m.agentLock(n.Name))
			errs[i] = errors.Join(m.stopNode(ctx, n), m.RemoveNode(ctx, n.Name, false))
			if ran && errs[i] == nil {
				done("%s stopped", n.Name)
			}
		})
	}
	nodes.Go(func() {
		done := p.step()
		_, ran := datadir.Running(m.simulatorLock())
		if simulator = m.stopSimulator(ctx); ran && simulator == nil {
			done("simulated nodes stopped")
		}
	})
	nodes.Wait()
	done := p.step()
	err := errors.Join(errors.Join(errs...), simulator, m.stopRegistry(ctx), m.stopServer(ctx), m.RemoveHost(ctx))
	switch {
	case err == nil && m.Loopback:
		done("control plane stopped")
	case err == nil:
		done("control plane stopped, network removed")
	}
	return err
}
