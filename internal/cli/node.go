package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// nodeCommands are the commands of `everynode node`.
type nodeCommands struct {
	*console.Console
	cluster *target
}

func (cmd nodeCommands) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "node",
		Short: "Add, remove, stop and start nodes of this machine; revoke any node",
		Example: `  everynode node add node-4     # every DaemonSet gets a pod there
  everynode node stop node-4    # as if it lost power
  everynode node start node-4
  everynode node rm node-4`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.cluster.addFlags(c)
	simulate, size := false, local.Size{}
	add := cmd.action("add", "Add nodes and wait until they are Ready", func(ctx context.Context, m *localcluster.Cluster, name string) error {
		if simulate {
			return cmd.simulateAdd(ctx, m, name)
		}
		return cmd.add(ctx, m, name, size)
	})
	sizes := newSizeFlags(add.Flags())
	add.Flags().BoolVar(&simulate, "simulate", false, "add a simulated node")
	add.PreRunE = func(*cobra.Command, []string) (err error) {
		if simulate {
			return sizes.checkSimulated()
		}
		size, err = sizes.size()
		return err
	}
	c.AddCommand(add,
		cmd.action("rm", "Stop nodes, delete them from the cluster, and delete their data", cmd.orSimulated(cmd.remove, cmd.simulateRemove)),
		cmd.action("stop", "Stop nodes' machines, as if they lost power", cmd.orSimulated(cmd.stop, cmd.simulateStop)),
		cmd.action("start", "Start nodes' machines again, or register them again", cmd.orSimulated(cmd.start, cmd.simulateStart)),
		cmd.listCommand(), cmd.revokeCommand())
	return c
}

// orSimulated calls act for nodes of this machine, and simulated for simulated
// ones.
func (cmd nodeCommands) orSimulated(act func(context.Context, *localcluster.Cluster, string) error,
	simulated func(context.Context, *localcluster.Cluster, kubernetes.Interface, string) error) func(context.Context, *localcluster.Cluster, string) error {
	return func(ctx context.Context, m *localcluster.Cluster, name string) error {
		_, err := m.Node(name)
		if err == nil {
			return act(ctx, m, name)
		}
		client, err := cmd.simulated(ctx, m, name, err)
		if err != nil {
			return err
		}
		return simulated(ctx, m, client, name)
	}
}

// action is a command that changes nodes, one after another. If one fails, the
// others still get their turn.
func (cmd nodeCommands) action(verb, short string, act func(context.Context, *localcluster.Cluster, string) error) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " NAME...",
		Short:   short,
		Example: fmt.Sprintf("  everynode node %s node-4\n  everynode node %s node-4 node-5", verb, verb),
		Args:    console.AtLeastOne("node"),
		RunE: func(c *cobra.Command, names []string) error {
			m, release, err := cmd.cluster.change()
			if err != nil {
				return err
			}
			defer release()
			var errs []error
			for _, name := range names {
				if errs = append(errs, act(c.Context(), m, name)); c.Context().Err() != nil {
					break
				}
			}
			return errors.Join(errs...)
		},
	}
	if verb == "rm" {
		c.Aliases, c.SuggestFor = []string{"remove"}, []string{"delete"}
	}
	c.ValidArgsFunction = cmd.cluster.completeLocalAndSimulated
	if verb == "add" {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	return c
}

func (cmd nodeCommands) add(ctx context.Context, m *localcluster.Cluster, name string, size local.Size) error {
	if err := m.NeedServer(); err != nil {
		return err
	}
	n, err := m.AddNode(name, size)
	if err != nil {
		return err
	}
	if err := m.Save(); err != nil {
		return err
	}
	if err := cmd.starting(m).Join(ctx, []local.Node{n}); err != nil {
		return errors.Join(err, m.DropNode(context.WithoutCancel(ctx), n))
	}
	return nil
}

// starting prepares to start nodes of a running cluster.
func (cmd nodeCommands) starting(m *localcluster.Cluster) *localcluster.Starting {
	return m.Start(console.NewProgress(cmd.Out), cmd.Out, cmd.Err)
}

func (cmd nodeCommands) remove(ctx context.Context, m *localcluster.Cluster, name string) error {
	n, err := m.Node(name)
	if err != nil {
		return err
	}
	if err := m.NeedServer(); err != nil {
		return err
	}
	p := console.NewProgress(cmd.Out)
	done := p.Step()
	if err := m.DropNode(ctx, n); err != nil {
		return err
	}
	client, err := localcluster.AdminClient(cmd.cluster.dataDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("the machine is gone, but its Node could not be deleted; run `everynode kubectl delete node %s`: %w", name, err)
	}
	done("%s removed", name)
	return nil
}

func (cmd nodeCommands) stop(ctx context.Context, m *localcluster.Cluster, name string) error {
	n, err := m.Node(name)
	if err != nil {
		return err
	}
	if _, ok := datadir.Running(m.AgentLock(name)); !ok && n.Stopped {
		fmt.Fprintf(cmd.Out, "%s is stopped already.\n", name)
		return nil
	}
	p := console.NewProgress(cmd.Out)
	done := p.Step()
	if err := m.SetStopped(name, true); err != nil {
		return err
	}
	if err := errors.Join(m.Save(), m.StopNode(ctx, n)); err != nil {
		return err
	}
	done("%s stopped", name)
	return nil
}

func (cmd nodeCommands) start(ctx context.Context, m *localcluster.Cluster, name string) error {
	n, err := m.Node(name)
	if err != nil {
		return err
	}
	if err := m.NeedServer(); err != nil {
		return err
	}
	if _, ok := datadir.Running(m.AgentLock(name)); ok {
		registered, err := cmd.registered(ctx, name)
		if err != nil {
			return err
		}
		if registered {
			fmt.Fprintf(cmd.Out, "%s runs already.\n", name)
			return nil
		}
		// A kubelet registers its Node only when it starts, so it must be
		// restarted.
		if err := m.StopNode(ctx, n); err != nil {
			return err
		}
	}
	if err := m.SetStopped(name, false); err != nil {
		return err
	}
	if err := m.Save(); err != nil {
		return err
	}
	return cmd.starting(m).Join(ctx, []local.Node{n})
}

func (cmd nodeCommands) registered(ctx context.Context, name string) (bool, error) {
	client, err := localcluster.AdminClient(cmd.cluster.dataDir)
	if err != nil {
		return false, err
	}
	_, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for Node %s: %w", name, err)
	}
	return true, nil
}

func (cmd nodeCommands) listCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the nodes of this machine",
		Example: "  everynode node list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := cmd.cluster.open()
			if err != nil {
				return err
			}
			s := statusOf(c.Context(), m)
			nodes := slices.Concat(s.Nodes, s.simulated)
			return cmd.Print(output, nodes, func() error { return nodeTable(cmd.Out, nodes) })
		},
	}
	console.OutputFlag(c, &output)
	return c
}
