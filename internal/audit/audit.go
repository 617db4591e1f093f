// Package audit judges DaemonSets: which of them one edit, one label or one
// release can take down on every node, and why. It is a function of its input.
package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// Input is everything that Audit judges. Audit reads it and never writes to it. DaemonSets,
// Nodes and Pods may come in any order.
type Input struct {
	// Now is the time at which statuses and pods were read. If it is zero, nothing is found
	// about what takes too long.
	Now        time.Time
	DaemonSets []appsv1.DaemonSet
	// Nodes are the nodes of the cluster; nil if they are not known.
	Nodes []corev1.Node
	// Pods are the pods of DaemonSets; nil if they are not known.
	Pods []Pod
	// Immutable is whether each ConfigMap and Secret is immutable. Nothing is known about those
	// that it does not have.
	Immutable map[Ref]bool
	// Policies are the RolloutPolicies; nil if they are not known, or the cluster does not have
	// the kind.
	Policies []view.RolloutPolicy
}

// Pod is what Audit needs of a pod.
type Pod struct {
	// Namespace is that of the pod. A DaemonSet has pods only in its own.
	Namespace string
	// Owner is the UID of the DaemonSet that controls it.
	Owner types.UID
	// Hash is the label controller-revision-hash.
	Hash    string
	Created time.Time
}

// Ref names a ConfigMap or a Secret.
type Ref struct {
	Kind            Kind
	Namespace, Name string
}

// Kind is what a Ref refers to.
type Kind string

// The kinds of Ref.
const (
	ConfigMap Kind = "ConfigMap"
	Secret    Kind = "Secret"
)

// Finding is one thing that is wrong with one DaemonSet.
type Finding struct {
	Severity  Severity `json:"severity"`
	Namespace string   `json:"namespace"`
	DaemonSet string   `json:"daemonSet"`
	Reason    Reason   `json:"reason"`
	// Cost is how many nodes it affects; nil if the nodes are not known.
	Cost *Cost `json:"cost,omitempty"`
	// Text is what was found, in one sentence without a full stop.
	Text string `json:"text"`
	// Why is what can happen because of it, and Change what would end it, in words.
	Why    string `json:"why"`
	Change string `json:"change"`
	// Commands show more about it. They change nothing.
	Commands []string `json:"commands,omitempty"`
}

// Cost is how many nodes something affects, out of how many.
type Cost struct {
	Nodes int `json:"nodes"`
	Of    int `json:"of"`
}

// String is the cost in two or three words; "?" if it is not known.
func (c *Cost) String() string {
	switch {
	case c == nil:
		return "?"
	case c.Of == 0:
		return "none"
	case c.Nodes == c.Of:
		return fmt.Sprintf("all %d", c.Of)
	default:
		return fmt.Sprintf("%d of %d", c.Nodes, c.Of)
	}
}

// Audit returns what is wrong with the DaemonSets: the worst first, then by the number of
// nodes, the most first, then by name. It leaves out DaemonSets that are being deleted.
func Audit(in *Input) []Finding {
	nodes := in.nodes()
	type owner struct {
		namespace string
		uid       types.UID
	}
	pods := map[owner][]*Pod{}
	for i := range in.Pods {
		p := &in.Pods[i]
		pods[owner{p.Namespace, p.Owner}] = append(pods[owner{p.Namespace, p.Owner}], p)
	}
	findings := []Finding{}
	for i := range in.DaemonSets {
		ds := &in.DaemonSets[i]
		if ds.DeletionTimestamp != nil {
			continue
		}
		j := judgement{subject: newSubject(ds, in, nodes, pods[owner{ds.Namespace, ds.UID}])}
		j.judge()
		findings = append(findings, j.findings...)
	}
	slices.SortStableFunc(findings, worstFirst)
	return findings
}

func (in *Input) nodes() []node {
	nodes := make([]node, 0, len(in.Nodes))
	for i := range in.Nodes {
		nodes = append(nodes, newNode(&in.Nodes[i]))
	}
	return nodes
}

func worstFirst(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.felt(), a.felt()),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.DaemonSet, b.DaemonSet), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Text, b.Text))
}

// felt is how many nodes it affects, only for the order of findings.
func (f *Finding) felt() int {
	if f.Cost == nil {
		return 0
	}
	return f.Cost.Nodes
}
