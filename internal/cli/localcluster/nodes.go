package localcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// NodeSpec is a real node. Each `up` puts the labels and taints on it, whether it
// is new or not; the size is only for a new node.
type NodeSpec struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Taints []corev1.Taint    `json:"taints,omitempty"`
	CPU    string            `json:"cpu,omitempty"`
	Memory string            `json:"memory,omitempty"`

	Size local.Size `json:"-"` // CPU and Memory, parsed
}

// defaultNodes is how many nodes a new cluster has.
const defaultNodes = 3

// Add adds the nodes that were asked for and that the cluster does not have.
func (c *Cluster) Add(asked Wanted) error {
	missing, err := NewNodes(c.Cluster, asked)
	if err != nil {
		return err
	}
	c.specs = asked.File
	for _, n := range missing {
		if _, err := c.AddNode(n.Name, n.Size); err != nil {
			return err
		}
	}
	return c.Save()
}

// NewNodes returns the nodes that were asked for, by name or by number, and that
// the cluster does not have. It is an error if the cluster has more than was asked
// for: the user does not say which ones to remove.
func NewNodes(c *local.Cluster, o Wanted) (missing []NodeSpec, err error) {
	for _, n := range o.File {
		if _, err := c.Node(n.Name); err != nil {
			missing = append(missing, n)
		}
	}
	if len(o.File) > 0 {
		for _, n := range c.Nodes {
			if !slices.ContainsFunc(o.File, func(f NodeSpec) bool { return f.Name == n.Name }) {
				return nil, fmt.Errorf("the cluster has the node %s, which the file does not name: add it there, or remove it with `everynode node rm %s`", n.Name, n.Name)
			}
		}
		return missing, nil
	}
	count := o.Nodes
	if count == 0 && len(c.Nodes) == 0 && !c.Loopback {
		count = defaultNodes
	}
	if count != 0 && max(count, 0) < len(c.Nodes) {
		return nil, fmt.Errorf("the cluster has %d nodes already, and --nodes %d does not say which ones should go: remove them with `everynode node rm NAME`", len(c.Nodes), max(count, 0))
	}
	for i := 1; len(c.Nodes)+len(missing) < count; i++ {
		name := fmt.Sprintf("node-%d", i)
		if _, err := c.Node(name); err != nil {
			missing = append(missing, NodeSpec{Name: name, Size: o.Size})
		}
	}
	return missing, nil
}

// NeedServer fails when the control plane does not run.
func (c *Cluster) NeedServer() error {
	if _, ok := datadir.Running(c.ServerLock()); !ok {
		return errors.New("the control plane does not run: start it with `everynode up`")
	}
	return nil
}

// DropNode removes a node from the machine and from the record.
func (c *Cluster) DropNode(ctx context.Context, n local.Node) error {
	if err := errors.Join(c.StopNode(ctx, n), c.Host().RemoveNode(ctx, n.Name, true)); err != nil {
		return err
	}
	if err := c.ForgetNode(n.Name); err != nil {
		return err
	}
	return c.Save()
}

// reserved is what a node's kubelet is to leave to others: what the machine has
// beyond the node's size. "": nothing.
func reserved(size, machine local.Size) string {
	text := ""
	if size.CPU != 0 {
		text = fmt.Sprintf("cpu=%dm", machine.CPU-size.CPU)
	}
	if size.Memory != 0 {
		if text != "" {
			text += ","
		}
		text += fmt.Sprintf("memory=%d", machine.Memory-size.Memory)
	}
	return text
}
