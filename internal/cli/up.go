package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
	"everynode/internal/local"
	"everynode/internal/node/podnet"
)

// upCommand is `everynode up`.
type upCommand struct {
	*console.Console
	cluster *target
}

func (cmd upCommand) command() *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use:        "up",
		SuggestFor: []string{"start", "create", "run"},
		Short:      "Start a cluster with real nodes on this machine",
		Long: `Start the control plane and the nodes that are not running yet, each node with a
containerd, kubelet and kube-proxy of its own, in its own network, mount and PID namespaces.
In the foreground, Ctrl-C stops everything in order. On a cluster that runs already it
says so, and puts back what somebody has removed of its network. State is kept in
--data-dir until 'everynode down --purge'.`,
		Example: `  everynode up                      # three nodes; Ctrl-C stops them
  everynode up --nodes 5 --detach   # five, in the background
  everynode up --config examples/cluster.yaml --dry-run
  everynode up --nodes 0 --simulate 100 --simulate-fail 1% --data-dir ~/fleet   # simulated ones, without root
  everynode down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.read(c.Flags(), console.Until(c.Context(), cmd.In))
			if err != nil {
				return err
			}
			if f.dryRun {
				return cmd.wouldDo(c.Context(), o)
			}
			return cmd.run(c.Context(), o)
		},
	}
	cmd.cluster.addFlags(c)
	f.add(c.Flags())
	for _, flag := range []string{localcluster.FlagWith, localcluster.FlagWithout} {
		console.CompleteWords(c, flag, addons.Names(addons.All()))
	}
	console.CompleteWords(c, localcluster.FlagCNI, podnet.Names())
	console.CompleteWords(c, localcluster.FlagHostPaths, controlplane.HostPathPolicies())
	return c
}

// run starts what is missing. In the foreground it then stays until it is told to
// stop or the control plane ends.
func (cmd upCommand) run(ctx context.Context, o upOptions) error {
	p := console.NewProgress(cmd.Out)
	m, started, err := cmd.start(ctx, p, o)
	if err != nil && !localcluster.IsLate(err) {
		return err
	}
	file := ""
	if o.context {
		file = cmd.addContext(ctx, m)
	}
	if err != nil || !started {
		return err
	}
	cmd.whatNext(m, p, o.detach, file)
	if o.detach {
		return nil
	}
	return cmd.stay(ctx, m)
}

// addContext puts the cluster into the user's kubeconfig, and returns the file. The
// cluster works without it, so a failure is only a warning.
func (cmd upCommand) addContext(ctx context.Context, m *localcluster.Cluster) (file string) {
	file, err := addContext(ctx, m.DataDir, cmd.cluster.contextName(m), userFiles())
	if err != nil {
		fmt.Fprintf(cmd.Err, "warning: no context was added for other kubectls: %v\n", err)
		return ""
	}
	return file
}

// start returns once every node is ready. If it fails, it stops again what it
// started, unless only some nodes are late: then it returns m, which keeps running.
func (cmd upCommand) start(ctx context.Context, p *console.Progress, o upOptions) (m *localcluster.Cluster, started bool, err error) {
	if _, err := cmd.preflight(ctx, o); err != nil {
		return nil, false, err
	}
	release, err := cmd.cluster.lock()
	if err != nil {
		return nil, false, err
	}
	defer release()
	if m, err = localcluster.OpenOrCreate(cmd.cluster.dataDir, local.Options{Loopback: o.Nodes == localcluster.None}); err != nil {
		return nil, false, err
	}
	if err := m.Choose(o.Wanted); err != nil {
		return nil, false, err
	}
	if err := m.Add(o.Wanted); err != nil {
		return nil, false, err
	}
	if err := localcluster.Remember(m.Cluster); err != nil {
		fmt.Fprintf(cmd.Err, "warning: `everynode list` will not show this cluster: %v\n", err)
	}
	begin := m.Start(p, cmd.Out, cmd.Err)
	some, all := m.Running()
	if all && !o.simulate.given() {
		if err := begin.MendNetwork(ctx); err != nil {
			return m, false, err
		}
		if err := begin.Dress(ctx, o.File); err != nil {
			return m, false, err
		}
		begin.MendAddons(ctx)
		fmt.Fprintf(cmd.Out, "The cluster in %s is running already: %d nodes, API server at %s.\nSee it with: everynode status\n", m.DataDir, len(m.Nodes), m.ServerURL())
		return m, false, nil
	}
	if err := begin.All(ctx, o.simulate.wanted()); err != nil {
		if some || localcluster.IsLate(err) {
			return m, false, err // it ran before, or runs now: it is not for us to stop
		}
		if ctx.Err() != nil {
			err = errors.New("interrupted before the cluster was up; what had been started is stopped again")
		}
		return nil, false, errors.Join(err, cmd.cluster.stop(context.WithoutCancel(ctx), m, p))
	}
	return m, true, nil
}

// preflight checks that this machine can run the cluster that exists or that was
// asked for. It claims the data directory.
func (cmd upCommand) preflight(ctx context.Context, o upOptions) (*datadir.Dir, error) {
	c, err := local.Open(cmd.cluster.dataDir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, localcluster.Unreadable(cmd.cluster.dataDir, err)
	}
	if pid, runs := datadir.Running(localcluster.ServerLock(cmd.cluster.dataDir)); runs && localcluster.IsServerFolder(cmd.cluster.dataDir) {
		return nil, fmt.Errorf("in %s an `everynode server` runs (pid %d), whose nodes are machines of their own: stop it first, or name another folder with --data-dir", cmd.cluster.dataDir, pid)
	}
	if err == nil && c.Loopback || errors.Is(err, local.ErrNoCluster) && o.Nodes == localcluster.None {
		return local.PreflightLoopback(cmd.cluster.dataDir)
	}
	return local.Preflight(ctx, cmd.cluster.dataDir)
}

// stay waits until the user stops the cluster or the control plane ends.
func (cmd upCommand) stay(ctx context.Context, m *localcluster.Cluster) error {
	ended := make(chan error, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- local.WaitExit(watch, m.ServerLock()) }()
	select {
	case <-ctx.Done():
		<-ended
	case err := <-ended:
		if ctx.Err() == nil {
			return errors.Join(err, cmd.serverEnded(m))
		}
	}
	fmt.Fprintln(cmd.Out)
	stop := context.WithoutCancel(ctx)
	release, err := cmd.cluster.lock()
	if err != nil {
		return err // another command is stopping it
	}
	defer release()
	return cmd.cluster.stop(stop, m, console.NewProgress(cmd.Out))
}

// serverEnded tells a `down` in another terminal from a crash.
func (cmd upCommand) serverEnded(m *localcluster.Cluster) error {
	if release, err := cmd.cluster.lock(); err != nil {
		fmt.Fprintln(cmd.Out, "The cluster is being stopped by another command.")
		return nil
	} else {
		release()
	}
	if some, _ := m.Running(); !some {
		fmt.Fprintln(cmd.Out, "The cluster was stopped.")
		return nil
	}
	return fmt.Errorf("the control plane ended: %s\nThe pods keep running. `everynode up` starts it again, `everynode down` stops the rest; its log is %s", local.LastError(m.ServerLog()), m.ServerLog())
}

// exportDataDir is the line that makes other commands find the cluster; "" if they
// find it anyway.
func (cmd upCommand) exportDataDir() string {
	if cmd.cluster.dataDir == localcluster.DataDirFromEnv() {
		return ""
	}
	return fmt.Sprintf("  export EVERYNODE_DATA_DIR=%s\n", cmd.cluster.dataDir)
}

func (cmd upCommand) whatNext(m *localcluster.Cluster, p *console.Progress, detach bool, file string) {
	fmt.Fprintf(cmd.Out, `
The cluster is up after %.1fs. Next:
%s  everynode kubectl get nodes
  everynode kubectl apply -f examples/node-audit-daemonset.yaml
  everynode status
  everynode ui          # the fleet in a browser
`, p.Elapsed(), cmd.exportDataDir())
	if file != "" {
		fmt.Fprintf(cmd.Out, "  kubectl get nodes     # any kubectl: it is the context %s in %s\n", cmd.cluster.contextName(m), file)
	}
	if hint := localcluster.NetworkHint(m.Cluster); hint != "" {
		fmt.Fprintln(cmd.Out, hint)
	}
	if detach {
		fmt.Fprintln(cmd.Out, "Stop it with: everynode down")
	} else {
		fmt.Fprintln(cmd.Out, "Stop it with Ctrl-C.")
	}
}
