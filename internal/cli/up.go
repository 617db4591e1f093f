package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/local"
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
says so. State is kept in --data-dir until 'everynode down --purge'.`,
		Example: `  everynode up                      # three nodes; Ctrl-C stops them
  everynode up --nodes 5 --detach   # five, in the background
  everynode up --config examples/cluster.yaml --dry-run
  everynode up --nodes 0 --simulate 100 --simulate-fail 1% --data-dir ~/fleet   # simulated ones, without root
  everynode down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.read(c.Flags(), cmd.In)
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
	return c
}

// up starts what is missing, and in the foreground stays until it is told to
// stop or the control plane ends.
func (cmd upCommand) run(ctx context.Context, o upOptions) error {
	p := newProgress(cmd.Out)
	m, started, err := cmd.start(ctx, p, o)
	if err != nil && !isLate(err) {
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

// addContext puts the cluster into the user's kubeconfig, and returns the file. A
// cluster is up without it, so a failure is only told.
func (cmd upCommand) addContext(ctx context.Context, m *machine) (file string) {
	file, err := addContext(ctx, m.DataDir, m.contextName(cmd.cluster.dataDir), userFiles())
	if err != nil {
		fmt.Fprintf(cmd.Err, "warning: no context was added for other kubectls: %v\n", err)
		return ""
	}
	return file
}

// start is up to the point where every node is ready. What it started it stops
// again when it fails, unless only some nodes are late: then m runs.
func (cmd upCommand) start(ctx context.Context, p *progress, o upOptions) (m *machine, started bool, err error) {
	if err := cmd.preflight(ctx, o); err != nil {
		return nil, false, err
	}
	release, err := cmd.cluster.lock()
	if err != nil {
		return nil, false, err
	}
	defer release()
	if m, err = cmd.openOrCreate(local.Options{Loopback: o.nodes == none}); err != nil {
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
		fmt.Fprintf(cmd.Err, "warning: `everynode list` will not show this cluster: %v\n", err)
	}
	begin := &starting{m, p, cmd.Out, cmd.Err}
	some, all := m.running()
	if all && !o.simulate.given() {
		if err := begin.dress(ctx, o.file); err != nil {
			return m, false, err
		}
		begin.mendAddons(ctx)
		fmt.Fprintf(cmd.Out, "The cluster in %s is running already: %d nodes, API server at %s.\nSee it with: everynode status\n", m.DataDir, len(m.Nodes), m.serverURL())
		return m, false, nil
	}
	if err := begin.all(ctx, o.simulate); err != nil {
		if some || isLate(err) {
			return m, false, err // it ran before, or runs now: it is not ours to stop
		}
		if ctx.Err() != nil {
			err = errors.New("interrupted before the cluster was up; what had been started is stopped again")
		}
		return nil, false, errors.Join(err, stopAll(context.WithoutCancel(ctx), m, m.contextName(cmd.cluster.dataDir), p, cmd.Err))
	}
	return m, true, nil
}

// preflight checks that this machine can hold the cluster that is there or asked for.
func (cmd upCommand) preflight(ctx context.Context, o upOptions) error {
	c, err := local.Open(cmd.cluster.dataDir)
	if errors.Is(err, fs.ErrPermission) {
		return unreadable(cmd.cluster.dataDir, err)
	}
	if pid, runs := datadir.Running(serverLockOf(cmd.cluster.dataDir)); runs && isServerFolder(cmd.cluster.dataDir) {
		return fmt.Errorf("in %s an `everynode server` runs (pid %d), whose nodes are machines of their own: stop it first, or name another folder with --data-dir", cmd.cluster.dataDir, pid)
	}
	if err == nil && c.Loopback || errors.Is(err, local.ErrNoCluster) && o.nodes == none {
		return local.PreflightLoopback(cmd.cluster.dataDir)
	}
	return local.Preflight(ctx, cmd.cluster.dataDir)
}

func (cmd upCommand) openOrCreate(o local.Options) (*machine, error) {
	c, err := local.Open(cmd.cluster.dataDir)
	if errors.Is(err, local.ErrNoCluster) {
		c, err = local.Create(cmd.cluster.dataDir, o)
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

// starting is the start of a cluster, or of some of its nodes: what has to run before what, and who is told.
type starting struct {
	cluster  *machine
	progress *progress
	out, err io.Writer // err is for warnings
}

// all starts the control plane and the nodes. Namespaces are made while the
// API server starts.
func (s *starting) all(ctx context.Context, simulate *simulateFlags) error {
	if err := s.makeNetwork(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.startServer(gctx) })
	g.Go(func() error { return s.makeNodes(gctx) })
	g.Go(func() error { return s.startRegistry(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.join(ctx, s.cluster.wanted()); err != nil {
		return err
	}
	if err := s.dress(ctx, s.cluster.file); err != nil {
		return err
	}
	return s.startFleet(ctx, simulate)
}

// makeNetwork makes what the nodes share on this machine, if there can be any.
func (s *starting) makeNetwork(ctx context.Context) error {
	if s.cluster.Loopback {
		return nil
	}
	done := s.progress.step()
	if err := s.cluster.EnsureHost(ctx); err != nil {
		return err
	}
	done("network %s on bridge %s", s.cluster.Subnet, s.cluster.Bridge())
	warnings, err := s.cluster.Warnings(ctx)
	if err != nil {
		return err
	}
	for _, w := range append(s.cluster.unbuilt(), warnings...) {
		fmt.Fprintf(s.err, "warning: %s\n", w)
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

func (s *starting) startServer(ctx context.Context) error {
	done := s.progress.step()
	_, ran := datadir.Running(s.cluster.serverLock())
	if !ran {
		if _, err := local.Spawn(ctx, s.cluster.server()); err != nil {
			return err
		}
	}
	if err := s.cluster.waitAPI(ctx); err != nil {
		return err
	}
	done("API server ready at %s", s.cluster.serverURL())
	if ran {
		s.mendAddons(ctx)
	} else if addon, has := s.cluster.registryAddon(); has { // the server knows nothing of it
		s.makeAddons(ctx, []addons.Addon{addon})
	}
	return nil
}

func (s *starting) makeNodes(ctx context.Context) error {
	if len(s.cluster.wanted()) == 0 {
		return nil
	}
	done := s.progress.step()
	for _, n := range s.cluster.wanted() {
		if err := s.cluster.EnsureNode(ctx, n.Name); err != nil {
			return err
		}
	}
	done("namespaces of %d nodes", len(s.cluster.wanted()))
	return nil
}

// stay waits until the user or the control plane ends.
func (cmd upCommand) stay(ctx context.Context, m *machine) error {
	ended := make(chan error, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- local.WaitExit(watch, m.serverLock()) }()
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
		return err // somebody else stops it
	}
	defer release()
	return stopAll(stop, m, m.contextName(cmd.cluster.dataDir), newProgress(cmd.Out), cmd.Err)
}

// serverEnded tells apart a `down` in another terminal from a crash.
func (cmd upCommand) serverEnded(m *machine) error {
	if release, err := cmd.cluster.lock(); err != nil {
		fmt.Fprintln(cmd.Out, "The cluster is being stopped by another command.")
		return nil
	} else {
		release()
	}
	if some, _ := m.running(); !some {
		fmt.Fprintln(cmd.Out, "The cluster was stopped.")
		return nil
	}
	return fmt.Errorf("the control plane ended: %s\nThe pods keep running. `everynode up` starts it again, `everynode down` stops the rest; its log is %s", local.LastError(m.serverLog()), m.serverLog())
}

// exportDataDir is the line that lets other commands find the cluster; "" when
// they do already.
func (cmd upCommand) exportDataDir() string {
	if cmd.cluster.dataDir == dataDirFromEnv() {
		return ""
	}
	return fmt.Sprintf("  export EVERYNODE_DATA_DIR=%s\n", cmd.cluster.dataDir)
}

func (cmd upCommand) whatNext(m *machine, p *progress, detach bool, file string) {
	fmt.Fprintf(cmd.Out, `
The cluster is up after %.1fs. Next:
%s  everynode kubectl get nodes
  everynode kubectl apply -f examples/node-audit-daemonset.yaml
  everynode status
  everynode ui          # the fleet in a browser
`, p.elapsed(), cmd.exportDataDir())
	if file != "" {
		fmt.Fprintf(cmd.Out, "  kubectl get nodes     # any kubectl: it is the context %s in %s\n", m.contextName(cmd.cluster.dataDir), file)
	}
	if lacks := lacking(m.NoCNI, m.NoKubeProxy); lacks != "" {
		fmt.Fprintf(cmd.Out, "The nodes have %s: install what you want there (docs/local-cluster.md).\n", lacks)
	}
	if detach {
		fmt.Fprintln(cmd.Out, "Stop it with: everynode down")
	} else {
		fmt.Fprintln(cmd.Out, "Stop it with Ctrl-C.")
	}
}
