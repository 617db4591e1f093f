package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"everynode/internal/addons"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

func (a *app) upCommand() *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use:        "up",
		SuggestFor: []string{"start", "create", "run"},
		Short:      "Start a cluster with real nodes on this machine",
		Long: `Start the control plane and the nodes that are not running yet, each node with a
containerd, kubelet and kube-proxy of its own, in its own network, mount and PID namespaces.
In the foreground, Ctrl-C stops everything in order. On a cluster that runs already it
says so. State is kept in --data-dir until 'everynode down --purge'.`,
		Example: `  everynode up                      # three nodes; Ctrl-C stops them
  everynode up --nodes 5 --detach   # five, in the background
  everynode up --config examples/cluster.yaml --dry-run
  everynode up --nodes 0 --simulate 100 --simulate-fail 1% --data-dir ~/fleet   # simulated ones, without root
  everynode down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.read(c.Flags(), a.In)
			if err != nil {
				return err
			}
			if f.dryRun {
				return a.wouldDo(c.Context(), o)
			}
			return a.up(c.Context(), o)
		},
	}
	a.dataDirFlag(c)
	f.add(c.Flags())
	return c
}

// up starts what is missing, and in the foreground stays until it is told to
// stop or the control plane ends.
func (a *app) up(ctx context.Context, o upOptions) error {
	p := newProgress(a.Out)
	m, started, err := a.start(ctx, p, o)
	if err != nil && !isLate(err) {
		return err
	}
	file := ""
	if o.context {
		file = a.addContext(ctx, m)
	}
	if err != nil || !started {
		return err
	}
	a.whatNext(m, p, o.detach, file)
	if o.detach {
		return nil
	}
	return a.stay(ctx, m)
}

// addContext puts the cluster into the user's kubeconfig, and returns the file. A
// cluster is up without it, so a failure is only told.
func (a *app) addContext(ctx context.Context, m *machine) (file string) {
	file, err := addContext(ctx, m.DataDir, m.contextName(a.dataDir), userFiles())
	if err != nil {
		fmt.Fprintf(a.Err, "warning: no context was added for other kubectls: %v\n", err)
		return ""
	}
	return file
}

// start is up to the point where every node is ready. What it started it stops
// again when it fails, unless only some nodes are late: then m runs.
func (a *app) start(ctx context.Context, p *progress, o upOptions) (m *machine, started bool, err error) {
	if err := a.preflight(ctx, o); err != nil {
		return nil, false, err
	}
	release, err := a.lock()
	if err != nil {
		return nil, false, err
	}
	defer release()
	if m, err = a.openOrCreate(local.Options{Loopback: o.nodes == none}); err != nil {
		return nil, false, err
	}
	if err := m.choose(o); err != nil {
		return nil, false, err
	}
	m.file = o.file
	if err := m.addWanted(o); err != nil {
		return nil, false, err
	}
	if err := m.remember(); err != nil {
		fmt.Fprintf(a.Err, "warning: `everynode list` will not show this cluster: %v\n", err)
	}
	some, all := m.running()
	if all && !o.simulate.given() {
		if err := a.dress(ctx, o.file); err != nil {
			return m, false, err
		}
		a.mendAddons(ctx, m)
		fmt.Fprintf(a.Out, "The cluster in %s is running already: %d nodes, API server at %s.\nSee it with: everynode status\n", m.DataDir, len(m.Nodes), m.serverURL())
		return m, false, nil
	}
	if err := a.startAll(ctx, m, p, o.simulate); err != nil {
		if some || isLate(err) {
			return m, false, err // it ran before, or runs now: it is not ours to stop
		}
		if ctx.Err() != nil {
			err = errors.New("interrupted before the cluster was up; what had been started is stopped again")
		}
		return nil, false, errors.Join(err, a.stopAll(context.WithoutCancel(ctx), m, p))
	}
	return m, true, nil
}

// preflight checks that this machine can hold the cluster that is there or asked for.
func (a *app) preflight(ctx context.Context, o upOptions) error {
	c, err := local.Open(a.dataDir)
	if errors.Is(err, fs.ErrPermission) {
		return unreadable(a.dataDir, err)
	}
	if pid, runs := datadir.Running(serverLockOf(a.dataDir)); runs && isServerFolder(a.dataDir) {
		return fmt.Errorf("in %s an `everynode server` runs (pid %d), whose nodes are machines of their own: stop it first, or name another folder with --data-dir", a.dataDir, pid)
	}
	if err == nil && c.Loopback || errors.Is(err, local.ErrNoCluster) && o.nodes == none {
		return local.PreflightLoopback(a.dataDir)
	}
	return local.Preflight(ctx, a.dataDir)
}

func (a *app) openOrCreate(o local.Options) (*machine, error) {
	c, err := local.Open(a.dataDir)
	if errors.Is(err, local.ErrNoCluster) {
		c, err = local.Create(a.dataDir, o)
	}
	if err != nil {
		return nil, err
	}
	return newMachine(c)
}

// defaultNodes is how many nodes a new cluster has.
const defaultNodes = 3

// addWanted adds the nodes that were asked for and are not there.
func (m *machine) addWanted(o upOptions) error {
	missing, err := newNodes(m.Cluster, o)
	if err != nil {
		return err
	}
	for _, n := range missing {
		if _, err := m.AddNode(n.Name, n.size); err != nil {
			return err
		}
	}
	return m.Save()
}

// newNodes are the nodes that were asked for, by name or by number, and that a
// cluster does not have. It is an error if the cluster has others: none is ever
// taken away, for which one would that be?
func newNodes(c *local.Cluster, o upOptions) (missing []fileNode, err error) {
	for _, n := range o.file {
		if _, err := c.Node(n.Name); err != nil {
			missing = append(missing, n)
		}
	}
	if len(o.file) > 0 {
		for _, n := range c.Nodes {
			if !slices.ContainsFunc(o.file, func(f fileNode) bool { return f.Name == n.Name }) {
				return nil, fmt.Errorf("the cluster has the node %s, which the file does not name: add it there, or remove it with `everynode node rm %s`", n.Name, n.Name)
			}
		}
		return missing, nil
	}
	count := o.nodes
	if count == 0 && len(c.Nodes) == 0 && !c.Loopback {
		count = defaultNodes
	}
	if count != 0 && max(count, 0) < len(c.Nodes) {
		return nil, fmt.Errorf("the cluster has %d nodes already, and --nodes %d does not say which ones should go: remove them with `everynode node rm NAME`", len(c.Nodes), max(count, 0))
	}
	for i := 1; len(c.Nodes)+len(missing) < count; i++ {
		name := fmt.Sprintf("node-%d", i)
		if _, err := c.Node(name); err != nil {
			missing = append(missing, fileNode{Name: name, size: o.size})
		}
	}
	return missing, nil
}

// startAll starts the control plane and the nodes. Namespaces are made while the
// API server starts.
func (a *app) startAll(ctx context.Context, m *machine, p *progress, simulate *simulateFlags) error {
	if err := a.makeNetwork(ctx, m, p); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.startServer(gctx, m, p) })
	g.Go(func() error { return a.makeNodes(gctx, m, p) })
	g.Go(func() error { return a.startRegistry(gctx, m, p) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := a.joinNodes(ctx, m, m.wanted(), p); err != nil {
		return err
	}
	if err := a.dress(ctx, m.file); err != nil {
		return err
	}
	return a.startFleet(ctx, m, p, simulate)
}

// makeNetwork makes what the nodes share on this machine, if there can be any.
func (a *app) makeNetwork(ctx context.Context, m *machine, p *progress) error {
	if m.Loopback {
		return nil
	}
	done := p.step()
	if err := m.EnsureHost(ctx); err != nil {
		return err
	}
	done("network %s on bridge %s", m.Subnet, m.Bridge())
	warnings, err := m.Warnings(ctx)
	if err != nil {
		return err
	}
	for _, w := range append(m.unbuilt(), warnings...) {
		fmt.Fprintf(a.Err, "warning: %s\n", w)
	}
	return nil
}

// wanted are the nodes that were not stopped by hand.
func (m *machine) wanted() []local.Node {
	var nodes []local.Node
	for _, n := range m.Nodes {
		if !n.Stopped {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (a *app) startServer(ctx context.Context, m *machine, p *progress) error {
	done := p.step()
	_, ran := datadir.Running(m.serverLock())
	if !ran {
		if _, err := local.Spawn(ctx, m.server()); err != nil {
			return err
		}
	}
	if err := m.waitAPI(ctx); err != nil {
		return err
	}
	done("API server ready at %s", m.serverURL())
	if ran {
		a.mendAddons(ctx, m)
	} else if addon, has := m.registryAddon(); has { // the server knows nothing of it
		a.makeAddons(ctx, m, []addons.Addon{addon})
	}
	return nil
}

func (a *app) makeNodes(ctx context.Context, m *machine, p *progress) error {
	if len(m.wanted()) == 0 {
		return nil
	}
	done := p.step()
	for _, n := range m.wanted() {
		if err := m.EnsureNode(ctx, n.Name); err != nil {
			return err
		}
	}
	done("namespaces of %d nodes", len(m.wanted()))
	return nil
}

// stay waits until the user or the control plane ends.
func (a *app) stay(ctx context.Context, m *machine) error {
	ended := make(chan error, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- local.WaitExit(watch, m.serverLock()) }()
	select {
	case <-ctx.Done():
		<-ended
	case err := <-ended:
		if ctx.Err() == nil {
			return errors.Join(err, a.serverEnded(m))
		}
	}
	fmt.Fprintln(a.Out)
	stop := context.WithoutCancel(ctx)
	release, err := a.lock()
	if err != nil {
		return err // somebody else stops it
	}
	defer release()
	return a.stopAll(stop, m, newProgress(a.Out))
}

// serverEnded tells apart a `down` in another terminal from a crash.
func (a *app) serverEnded(m *machine) error {
	if release, err := a.lock(); err != nil {
		fmt.Fprintln(a.Out, "The cluster is being stopped by another command.")
		return nil
	} else {
		release()
	}
	if some, _ := m.running(); !some {
		fmt.Fprintln(a.Out, "The cluster was stopped.")
		return nil
	}
	return fmt.Errorf("the control plane ended: %s\nThe pods keep running. `everynode up` starts it again, `everynode down` stops the rest; its log is %s", local.LastError(m.serverLog()), m.serverLog())
}

// exportDataDir is the line that lets other commands find the cluster; "" when
// they do already.
func (a *app) exportDataDir() string {
	if a.dataDir == dataDirFromEnv() {
		return ""
	}
	return fmt.Sprintf("  export EVERYNODE_DATA_DIR=%s\n", a.dataDir)
}

func (a *app) whatNext(m *machine, p *progress, detach bool, file string) {
	fmt.Fprintf(a.Out, `
The cluster is up after %.1fs. Next:
%s  everynode kubectl get nodes
  everynode kubectl apply -f examples/node-audit-daemonset.yaml
  everynode status
  everynode ui          # the fleet in a browser
`, p.elapsed(), a.exportDataDir())
	if file != "" {
		fmt.Fprintf(a.Out, "  kubectl get nodes     # any kubectl: it is the context %s in %s\n", m.contextName(a.dataDir), file)
	}
	if lacks := lacking(m.NoCNI, m.NoKubeProxy); lacks != "" {
		fmt.Fprintf(a.Out, "The nodes have %s: install what you want there (docs/local-cluster.md).\n", lacks)
	}
	if detach {
		fmt.Fprintln(a.Out, "Stop it with: everynode down")
	} else {
		fmt.Fprintln(a.Out, "Stop it with Ctrl-C.")
	}
}
