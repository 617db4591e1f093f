package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/verbs"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/local"
)

// fleetClient is the administrator's, for many nodes at once.
func fleetClient(dataDir string) (kubernetes.Interface, error) {
	config, err := adminConfig(dataDir)
	if err != nil {
		return nil, err
	}
	return verbs.ForFleet(config)
}

// startFleet starts the simulator, makes the nodes that are missing, and waits
// until all are Ready. It does nothing in a cluster without simulated nodes.
func (s *starting) startFleet(ctx context.Context, flags *simulateFlags) error {
	_, simulates, err := readRules(s.cluster.DataDir)
	if err != nil {
		return err
	}
	if !simulates && flags.count == 0 {
		if flags.given() {
			return errors.New("the cluster has no simulated nodes that these delays and failures could be for: give --simulate N as well")
		}
		return nil
	}
	done, begin := s.progress.step(), time.Now()
	if _, runs := datadir.Running(s.cluster.simulatorLock()); runs {
		begin = time.Time{} // nodes that were Ready before report nothing new
	}
	if err := s.cluster.runSimulator(ctx, flags.over); err != nil {
		return err
	}
	client, err := fleetClient(s.cluster.DataDir)
	if err != nil {
		return err
	}
	missing, want, err := s.cluster.missingSimulated(ctx, client, flags.count)
	if err != nil {
		return err
	}
	n, err := s.cluster.musterSimulated(ctx, s.progress, client, missing, want, begin)
	if err != nil {
		return err
	}
	done("%s simulated nodes Ready", thousands(n))
	return nil
}

// musterSimulated makes the nodes that are missing, and waits until there are at
// least want and all of them that are not off have been reported Ready since begin
// and take pods. It says how far it is, and returns how many there are.
func (m *machine) musterSimulated(ctx context.Context, p *progress, client kubernetes.Interface, missing []*corev1.Node, want int, begin time.Time) (n int, err error) {
	r := newMuster(begin)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return r.watch(watching, client) })
	making, mctx := errgroup.WithContext(watching)
	making.Go(func() error { return fleet.Add(mctx, client, missing, r.room) })
	making.Go(func() (err error) {
		n, err = r.wait(mctx, want, m.simulates, p.counter())
		return err
	})
	err = making.Wait()
	stop()
	if err = errors.Join(err, g.Wait()); err != nil {
		p.endCount()
	}
	var late *lateError
	if errors.As(err, &late) {
		late.log = m.simulatorLog()
	}
	return n, err
}

// simulates fails when the simulator does not run.
func (m *machine) simulates() error {
	if _, ok := datadir.Running(m.simulatorLock()); !ok {
		return fmt.Errorf("the simulator ended: %s\nIts log is %s", local.LastError(m.simulatorLog()), m.simulatorLog())
	}
	return nil
}

// listSimulated lists the simulated nodes, perhaps as they were a moment ago: from
// the API server's cache, because etcd need not read thousands of them.
func listSimulated(client kubernetes.Interface) func(context.Context) ([]corev1.Node, error) {
	return func(ctx context.Context) ([]corev1.Node, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return nil, fmt.Errorf("list the simulated nodes: %w", err)
		}
		return slices.DeleteFunc(list.Items, func(n corev1.Node) bool { return !fleet.Simulated(&n) }), nil
	}
}

// missingSimulated are the nodes without which there would not be count simulated
// ones, and how many there are with them. It never takes any away.
func (m *machine) missingSimulated(ctx context.Context, client kubernetes.Interface, count int) (missing []*corev1.Node, total int, err error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, 0, fmt.Errorf("list the nodes: %w", err)
	}
	taken, have := map[string]bool{}, 0
	for i := range list.Items {
		taken[list.Items[i].Name] = true
		if fleet.Simulated(&list.Items[i]) {
			have++
		}
	}
	if count != 0 && count < have {
		return nil, have, fmt.Errorf("the cluster has %d simulated nodes already, and --simulate %d does not say which ones should go: remove them with `everynode node rm NAME`", have, count)
	}
	for i := 0; have+len(missing) < count; i++ {
		if name := fmt.Sprintf("sim-%d", i+1); !taken[name] {
			missing = append(missing, fleet.NewNode(name, i, m.LastPodRange()))
		}
	}
	return missing, have + len(missing), nil
}

// takesPods says whether a node has been reported Ready since begin, and whether
// the taint that a new or silent node has is gone.
func takesPods(node *corev1.Node, begin time.Time) bool {
	ready, _ := readySince(node, begin)
	return ready && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	})
}

// waitOne waits until the simulated node of this name takes pods.
func (m *machine) waitOne(ctx context.Context, client kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline)
	defer cancel()
	last := "it has not been reported Ready"
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := m.simulates(); err != nil {
			return false, err
		}
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			last = err.Error()
			return false, nil
		}
		return takesPods(node, time.Time{}), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the simulated node %s is not Ready after %s: %s; the simulator's log is %s", name, nodeDeadline, last, m.simulatorLog())
	}
	return err
}

// simulated looks a simulated node up. It fails with unknown when there is none
// of that name.
func (cmd nodeCommands) simulated(ctx context.Context, m *machine, name string, unknown error) (kubernetes.Interface, error) {
	if _, simulates, err := readRules(m.DataDir); err != nil || !simulates {
		return nil, errors.Join(err, unknown)
	}
	if err := m.needServer(); err != nil {
		return nil, err
	}
	client, err := fleetClient(cmd.cluster.dataDir)
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
func (cmd nodeCommands) simulateAdd(ctx context.Context, m *machine, name string) error {
	if err := m.needServer(); err != nil {
		return err
	}
	client, err := fleetClient(cmd.cluster.dataDir)
	if err != nil {
		return err
	}
	nodes, err := listSimulated(client)(ctx)
	if err != nil {
		return err
	}
	p := newProgress(cmd.Out)
	done := p.step()
	if err := fleet.Add(ctx, client, []*corev1.Node{fleet.NewNode(name, len(nodes), m.LastPodRange())}, context.Context.Err); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("node %q exists already", name)
		}
		return err
	}
	if err := m.runSimulator(ctx, func(r fleet.Rules) fleet.Rules { return r }); err != nil {
		return err
	}
	if err := m.waitOne(ctx, client, name); err != nil {
		return err
	}
	done("%s Ready, simulated", name)
	return nil
}

func (cmd nodeCommands) simulateRemove(ctx context.Context, _ *machine, client kubernetes.Interface, name string) error {
	done := newProgress(cmd.Out).step()
	if err := client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	done("%s removed", name)
	return nil
}

// simulateStop makes a simulated node silent.
func (cmd nodeCommands) simulateStop(ctx context.Context, _ *machine, client kubernetes.Interface, name string) error {
	done := newProgress(cmd.Out).step()
	if err := switchOff(ctx, client, name, true); err != nil {
		return err
	}
	done("%s stopped", name)
	return nil
}

func (cmd nodeCommands) simulateStart(ctx context.Context, m *machine, client kubernetes.Interface, name string) error {
	done := newProgress(cmd.Out).step()
	if err := switchOff(ctx, client, name, false); err != nil {
		return err
	}
	if err := m.runSimulator(ctx, func(r fleet.Rules) fleet.Rules { return r }); err != nil {
		return err
	}
	if err := m.waitOne(ctx, client, name); err != nil {
		return err
	}
	done("%s Ready, simulated", name)
	return nil
}

// switchOff makes a simulated node silent, or wakes it up.
func switchOff(ctx context.Context, client kubernetes.Interface, name string, off bool) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": fleet.SetOff(off)}})
	if err != nil {
		return fmt.Errorf("encode the change of Node %s: %w", name, err)
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("change Node %s: %w", name, err)
	}
	return nil
}
