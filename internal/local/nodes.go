package local

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// MaxNodes is how many nodes a cluster may have. It keeps node addresses (.101 to .200) inside the /24.
	MaxNodes = 100

	// systemSuffix distinguishes the cgroup of a node's own processes from the one of its pods.
	systemSuffix = "-system"
)

// Node is one node of a cluster.
type Node struct {
	Name string `json:"name"`
	// Index is 1 to 100 and unique among the cluster's nodes.
	Index int `json:"index"`
	// Address is the node's address in the cluster's subnet: .100 + Index.
	Address netip.Addr `json:"address"`
	// Stopped means that the node was stopped by hand, and does not start with the cluster.
	Stopped bool `json:"stopped,omitempty"`
	// Size limits its pods.
	Size Size `json:"size,omitzero"`
}

// AddNode adds a node to the record. The name must be a DNS-1123 label that is not in use. node-7 gets index 7 if
// that is free, any other name the lowest free index.
func (c *Cluster) AddNode(name string, size Size) (Node, error) {
	if err := checkName(name); err != nil {
		return Node{}, err
	}
	if c.Loopback {
		return Node{}, fmt.Errorf("node %q: the API server of this cluster is on loopback, which a node cannot reach, "+
			"because it was made without real nodes: make a cluster with real nodes in another --data-dir", name)
	}
	used := map[int]bool{}
	for _, n := range c.Nodes {
		if n.Name == name {
			return Node{}, fmt.Errorf("node %q exists already", name)
		}
		used[n.Index] = true
	}
	index, err := freeIndex(name, used)
	if err != nil {
		return Node{}, err
	}
	n := Node{Name: name, Index: index, Address: c.nodeAddress(index), Size: size}
	c.Nodes = append(c.Nodes, n)
	slices.SortFunc(c.Nodes, func(a, b Node) int { return a.Index - b.Index })
	return n, nil
}

// ForgetNode removes a node from the record. Remove it from the machine first, with Host.RemoveNode.
func (c *Cluster) ForgetNode(name string) error {
	if _, err := c.Node(name); err != nil {
		return err
	}
	c.Nodes = slices.DeleteFunc(c.Nodes, func(n Node) bool { return n.Name == name })
	return nil
}

// SetStopped records that a node was stopped or started by hand.
func (c *Cluster) SetStopped(name string, stopped bool) error {
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return c.unknownNode(name)
	}
	c.Nodes[i].Stopped = stopped
	return nil
}

// Node looks up a node by its name. The error for an unknown one names those that exist.
func (c *Cluster) Node(name string) (Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, c.unknownNode(name)
}

// NodeDir is the node's directory in the data directory: the agent's data directory.
func (c *Cluster) NodeDir(name string) string { return filepath.Join(c.DataDir, "nodes", name) }

// PinDir is the directory of the pins of the node's namespaces.
func (c *Cluster) PinDir(name string) string { return filepath.Join(c.runDir(), name) }

// PIDNamespace is the file of the node's PID namespace, in which a Process that Enters the node is started.
func (c *Cluster) PIDNamespace(name string) string { return pidPin(c.PinDir(name)).file }

// PodCgroup is the cgroup path below which the node's pods run: the kubelet's cgroupRoot.
func (c *Cluster) PodCgroup(name string) string { return c.cgroup() + "/" + name }

// SystemCgroup is the cgroup path of the node's own processes: the agent, its children and the containers' shims.
func (c *Cluster) SystemCgroup(name string) string { return c.cgroup() + "/" + name + systemSuffix }

// cgroup is the parent of all cgroups of the cluster.
func (c *Cluster) cgroup() string { return "/everynode-" + c.ID }

// runDir is the mount point of the cluster's private tmpfs.
func (c *Cluster) runDir() string { return filepath.Join(hostRunDir, c.ID) }

func (c *Cluster) nodeAddress(index int) netip.Addr { return c.hostAddress(100 + index) }

// BalancerRange are the first and the last address of services of type LoadBalancer, above those of the nodes.
func (c *Cluster) BalancerRange() (first, last netip.Addr) {
	return c.hostAddress(201), c.hostAddress(250)
}

// hostAddress is the address in the subnet whose last byte is last.
func (c *Cluster) hostAddress(last int) netip.Addr {
	a := c.Subnet.Masked().Addr().As4()
	a[3] = byte(last)
	return netip.AddrFrom4(a)
}

// LastPodRange is the last /24 of the pod range. Nodes get theirs from the other end, and one machine never has so
// many that one of them would get this range.
func (c *Cluster) LastPodRange() netip.Prefix {
	a := c.PodCIDR.Masked().Addr().As4()
	for i := range 3 {
		a[i] |= byte(0xff >> max(0, min(8, c.PodCIDR.Bits()-8*i)))
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 24)
}

func (c *Cluster) unknownNode(name string) error {
	names := make([]string, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	if len(names) == 0 {
		return fmt.Errorf("no node %q: the cluster has no nodes; add one with: everynode node add %s", name, name)
	}
	return fmt.Errorf("no node %q: the nodes are %s", name, strings.Join(names, ", "))
}

func checkName(name string) error {
	if bad := validation.IsDNS1123Label(name); len(bad) > 0 {
		return fmt.Errorf("node name %q: give at most %d lower case letters, digits and hyphens, with a letter or digit first and last",
			name, validation.DNS1123LabelMaxLength)
	}
	if strings.HasSuffix(name, systemSuffix) {
		return fmt.Errorf("node name %q: names that end in %s are kept for the nodes' own cgroups; choose another", name, systemSuffix)
	}
	return nil
}

func freeIndex(name string, used map[int]bool) (int, error) {
	if digits, ok := strings.CutPrefix(name, "node-"); ok {
		if i, err := strconv.Atoi(digits); err == nil && i >= 1 && i <= MaxNodes && !used[i] {
			return i, nil
		}
	}
	for i := 1; i <= MaxNodes; i++ {
		if !used[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("node %q: a machine holds at most %d nodes; remove one first with: everynode node rm NAME", name, MaxNodes)
}
