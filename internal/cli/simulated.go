package cli

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/fleet"
)

// simulated looks up a simulated node. It returns the error unknown if there is
// no simulated node of that name.
func (cmd nodeCommands) simulated(ctx context.Context, m *localcluster.Cluster, name string, unknown error) (kubernetes.Interface, error) {
	if _, simulates, err := localcluster.ReadRules(m.DataDir); err != nil || !simulates {
		return nil, errors.Join(err, unknown)
	}
	if err := m.NeedServer(); err != nil {
		return nil, err
	}
	client, err := localcluster.FleetClient(cmd.cluster.dataDir)
	if err != nil {
		return nil, err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) || err == nil && !fleet.Simulated(node):
		return nil, fmt.Errorf("no node %q: `everynode node list` shows those that there are", name)
	case err != nil:
		return nil, fmt.Errorf("ask for Node %s: %w", name, err)
	}
	return client, nil
}

// simulateAdd adds a simulated node, and the simulator if it is the first.
func (cmd nodeCommands) simulateAdd(ctx context.Context, m *localcluster.Cluster, name string) error {
	if err := m.NeedServer(); err != nil {
		return err
	}
	client, err := localcluster.FleetClient(cmd.cluster.dataDir)
	if err != nil {
		return err
	}
	nodes, err := localcluster.ListSimulated(client)(ctx)
	if err != nil {
		return err
	}
	p := console.NewProgress(cmd.Out)
	done := p.Step()
	if err := fleet.Add(ctx, client, []*corev1.Node{fleet.NewNode(name, len(nodes), m.LastPodRange())}, context.Context.Err); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("node %q exists already", name)
		}
		return err
	}
	if err := m.Simulator().Run(ctx, func(r fleet.Rules) fleet.Rules { return r }); err != nil {
		return err
	}
	if err := m.Simulator().WaitOne(ctx, client, name); err != nil {
		return err
	}
	done("%s Ready, simulated", name)
	return nil
}

func (cmd nodeCommands) simulateRemove(ctx context.Context, _ *localcluster.Cluster, client kubernetes.Interface, name string) error {
	done := console.NewProgress(cmd.Out).Step()
	if err := client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	done("%s removed", name)
	return nil
}

// simulateStop makes a simulated node fall silent.
func (cmd nodeCommands) simulateStop(ctx context.Context, _ *localcluster.Cluster, client kubernetes.Interface, name string) error {
	done := console.NewProgress(cmd.Out).Step()
	if err := localcluster.SwitchOff(ctx, client, name, true); err != nil {
		return err
	}
	done("%s stopped", name)
	return nil
}

func (cmd nodeCommands) simulateStart(ctx context.Context, m *localcluster.Cluster, client kubernetes.Interface, name string) error {
	done := console.NewProgress(cmd.Out).Step()
	if err := localcluster.SwitchOff(ctx, client, name, false); err != nil {
		return err
	}
	if err := m.Simulator().Run(ctx, func(r fleet.Rules) fleet.Rules { return r }); err != nil {
		return err
	}
	if err := m.Simulator().WaitOne(ctx, client, name); err != nil {
		return err
	}
	done("%s Ready, simulated", name)
	return nil
}
