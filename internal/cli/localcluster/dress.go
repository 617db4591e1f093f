package localcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Dress puts the labels and taints of a cluster's file on its nodes. A node keeps
// others that it has.
func (s *Starting) Dress(ctx context.Context, nodes []NodeSpec) error {
	if !slices.ContainsFunc(nodes, func(n NodeSpec) bool { return len(n.Labels)+len(n.Taints) > 0 }) {
		return nil
	}
	client, err := AdminClient(s.cluster.DataDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.dress(ctx, client))
	}
	return errors.Join(errs...)
}

func (n NodeSpec) dress(ctx context.Context, client kubernetes.Interface) error {
	if len(n.Labels)+len(n.Taints) == 0 {
		return nil
	}
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		now, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil || n.wears(now) {
			return err
		}
		if now.Labels == nil {
			now.Labels = map[string]string{}
		}
		maps.Copy(now.Labels, n.Labels)
		now.Spec.Taints = slices.DeleteFunc(now.Spec.Taints, func(have corev1.Taint) bool {
			return slices.ContainsFunc(n.Taints, func(t corev1.Taint) bool { return t.Key == have.Key })
		})
		now.Spec.Taints = append(now.Spec.Taints, n.Taints...)
		_, err = client.CoreV1().Nodes().Update(ctx, now, metav1.UpdateOptions{FieldManager: "everynode-up"})
		return err
	})
	if err != nil {
		return fmt.Errorf("set labels and taints of the node %s: %w", n.Name, err)
	}
	return nil
}

// wears reports whether a node has the labels and taints.
func (n NodeSpec) wears(now *corev1.Node) bool {
	for key, value := range n.Labels {
		if have, ok := now.Labels[key]; !ok || have != value {
			return false
		}
	}
	for _, t := range n.Taints {
		if !slices.ContainsFunc(now.Spec.Taints, func(have corev1.Taint) bool { return have.MatchTaint(&t) && have.Value == t.Value }) {
			return false
		}
	}
	return true
}

// AtBirth are the arguments with which an agent registers the node, so that no pod
// runs there before the labels and taints are on it. Labels that a node may not
// set on itself are added when it is Ready.
func (n NodeSpec) AtBirth() []string {
	var labels, taints, args []string
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		if prefix, _, found := strings.Cut(key, "/"); !found || !strings.HasSuffix(prefix, "k8s.io") && !strings.HasSuffix(prefix, "kubernetes.io") {
			labels = append(labels, key+"="+n.Labels[key])
		}
	}
	for _, t := range n.Taints {
		taints = append(taints, fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect))
	}
	if len(labels) > 0 {
		args = append(args, "--node-labels", strings.Join(labels, ","))
	}
	if len(taints) > 0 {
		args = append(args, "--node-taints", strings.Join(taints, ","))
	}
	return args
}
