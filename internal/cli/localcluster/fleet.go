package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
)

// Simulated is what the user asked of the simulated nodes.
type Simulated struct {
	Count int  // 0: as many as the cluster has
	Given bool // the user asked for anything
	// Over returns the cluster's rules with the user's rules applied over them.
	Over func(fleet.Rules) fleet.Rules
}

// startFleet starts the simulator, makes the nodes that are missing, and waits
// until all are Ready. It does nothing in a cluster without simulated nodes.
func (s *Starting) startFleet(ctx context.Context, asked Simulated) error {
	_, simulates, err := ReadRules(s.cluster.DataDir)
	if err != nil {
		return err
	}
	if !simulates && asked.Count == 0 {
		if asked.Given {
			return errors.New("the cluster has no simulated nodes that these delays and failures could be for: give --simulate N as well")
		}
		return nil
	}
	simulator := s.cluster.Simulator()
	done, begin := s.progress.Step(), time.Now()
	if _, runs := datadir.Running(simulator.Lock()); runs {
		begin = time.Time{} // nodes that were Ready before do not report it again
	}
	if err := simulator.Run(ctx, asked.Over); err != nil {
		return err
	}
	client, err := FleetClient(s.cluster.DataDir)
	if err != nil {
		return err
	}
	missing, want, err := missingSimulated(ctx, client, asked.Count, s.cluster.LastPodRange())
	if err != nil {
		return err
	}
	n, err := simulator.muster(ctx, s.progress, client, missing, want, begin)
	if err != nil {
		return err
	}
	done("%s simulated nodes Ready", console.Thousands(n))
	return nil
}

// ListSimulated lists the simulated nodes from the API server's cache, perhaps as
// they were a moment ago: etcd should not have to read thousands of them.
func ListSimulated(client kubernetes.Interface) func(context.Context) ([]corev1.Node, error) {
	return func(ctx context.Context) ([]corev1.Node, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return nil, fmt.Errorf("list the simulated nodes: %w", err)
		}
		return slices.DeleteFunc(list.Items, func(n corev1.Node) bool { return !fleet.Simulated(&n) }), nil
	}
}

// missingSimulated returns the nodes to create so that there are count simulated
// nodes, and how many there are then. It never removes any.
func missingSimulated(ctx context.Context, client kubernetes.Interface, count int, pods netip.Prefix) (missing []*corev1.Node, total int, err error) {
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
			missing = append(missing, fleet.NewNode(name, i, pods))
		}
	}
	return missing, have + len(missing), nil
}

// takesPods reports whether a node has been reported Ready since begin and has
// lost the taint of a new or silent node.
func takesPods(node *corev1.Node, begin time.Time) bool {
	ready, _ := readySince(node, begin)
	return ready && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	})
}

// SwitchOff makes a simulated node silent, or wakes it up.
func SwitchOff(ctx context.Context, client kubernetes.Interface, name string, off bool) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": fleet.SetOff(off)}})
	if err != nil {
		return fmt.Errorf("encode the change of Node %s: %w", name, err)
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("change Node %s: %w", name, err)
	}
	return nil
}
