package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

func (a *app) downCommand() *cobra.Command {
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
		RunE: func(c *cobra.Command, _ []string) error { return a.down(c.Context(), purge) },
	}
	a.dataDirFlag(c)
	c.Flags().BoolVar(&purge, "purge", false, "delete what everynode made in the data directory, too: etcd, keys, images, logs")
	return c
}

func (a *app) down(ctx context.Context, purge bool) error {
	_, err := local.Open(a.dataDir)
	lost, broken := errors.Is(err, local.ErrNoCluster), errors.Is(err, local.ErrBroken)
	if lost {
		if pid, runs := datadir.Running(serverLockOf(a.dataDir)); runs {
			return fmt.Errorf("%s is the folder of `everynode server`: stop that process (pid %d), or its service", a.dataDir, pid)
		}
	}
	if lost && (!purge || !a.ofUp()) {
		fmt.Fprintf(a.Out, "No cluster in %s: nothing to stop.\n", a.dataDir)
		return nil
	}
	if broken {
		fmt.Fprintf(a.Err, "warning: %v\n", err)
	}
	open := a.openMachine
	if lost || broken {
		open = a.recoverMachine
	}
	m, release, err := a.changeBy(open)
	if err != nil {
		return err
	}
	defer release()
	p := newProgress(a.Out)
	if err := a.stopAll(ctx, m, p); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before everything was stopped: run `everynode down` again for the rest")
		}
		return fmt.Errorf("not everything could be stopped; run `everynode down` again: %w", err)
	}
	if !purge {
		return nil
	}
	return a.purge(m, p)
}

// ofUp reports whether the data directory has the mark of `up`, though not its
// record: a purge that was killed at its end leaves that.
func (a *app) ofUp() bool {
	dir, err := datadir.Find(a.dataDir)
	return err == nil && dir.Kind() == datadir.Up
}

// stopAll takes the cluster out of the user's kubeconfig, stops the nodes, then the
// control plane, and then takes the network away. Every step is tried.
func (a *app) stopAll(ctx context.Context, m *machine, p *progress) error {
	// First: nobody is to be sent to an address that will soon be a stranger's.
	if err := dropContext(ctx, m.DataDir, m.contextName(a.dataDir), userFiles()); err != nil {
		fmt.Fprintf(a.Err, "warning: the context %s is still in your kubeconfig: %v\n", m.contextName(a.dataDir), err)
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
