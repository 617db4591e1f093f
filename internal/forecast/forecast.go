// Package forecast simulates a change of a DaemonSet before it is made. The engine's algorithm
// decides at each step, and a model replaces the cluster: every pod takes as long to start and to
// end as the input says, and nothing else happens. So it shows what the algorithm does with the
// change, and not what the change does to the nodes. It has no clock and no client.
package forecast

import (
	"cmp"
	"slices"
	"time"

	"everynode/internal/plan"
)

// Input is what a forecast is made from. Play reads it and never writes to it.
type Input struct {
	// Now is the instant of the change.
	Now time.Time
	// Set is what the DaemonSet asks for after it.
	Set   plan.Spec
	Nodes []plan.Node
	// Pods are those that the DaemonSet has now.
	Pods []plan.Pod
	// Start is how long a pod takes from its creation until it is ready, Stop how
	// long from its deletion until it is gone.
	Start, Stop time.Duration
}

// Change is what happens to a node's pod.
type Change uint8

// The changes.
const (
	Replaces Change = iota // the pod goes and another comes
	Gains                  // the node gets a pod and had none
	Loses                  // the pod goes and none comes
)

// String returns the change in one word.
func (c Change) String() string { return [...]string{"replaced", "new", "removed"}[c] }

// MarshalText is String: for JSON and YAML.
func (c Change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Step is what happens on one node.
type Step struct {
	Node   string
	Change Change
	// Reason is why the first thing happens there; Detail its subject, if it has one.
	Reason plan.Reason
	Detail string
	// Begins and Ends are since the change: when the first pod is created or deleted
	// there, and when the node has what it should.
	Begins, Ends time.Duration
	// Ended says that the node gets there.
	Ended bool
}

// Left is a node that does not have what it should when nothing more happens.
type Left struct {
	Node   string
	Reason plan.Reason
	Detail string
}

// Forecast is what happens, and what does not.
type Forecast struct {
	// Steps has one for each node on which something happens, in the order in which
	// that begins, and by node name.
	Steps []Step
	// Left is by node name.
	Left []Left
	// Took is how long it takes until nothing more happens.
	Took time.Duration
	// MostDown is how many of the nodes that have an available pod now, and should have one, have
	// none at the worst moment.
	MostDown int
	// Status is as it is at the end.
	Status plan.Status
	// Endless says that Play gave up because the changes did not end.
	Endless bool
}

// Count returns how many nodes have the change.
func (f *Forecast) Count(c Change) (n int) {
	for i := range f.Steps {
		if f.Steps[i].Change == c {
			n++
		}
	}
	return n
}

// inOrder sorts the steps as Forecast has them.
func inOrder(steps []Step) {
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Begins, b.Begins), cmp.Compare(a.Node, b.Node))
	})
}
