// Package forecast simulates a change of a DaemonSet before it is made. The engine's algorithm decides at
// each step, and a model replaces the cluster: every pod takes as long to start and to stop as the input
// says, and nothing else happens. So it shows what the algorithm does with the change, not what the change
// does to the nodes. It has no clock and no client.
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
	// Set is what the DaemonSet asks for after the change.
	Set plan.Spec
	// Before is what it asks for until then; nil if that is not known. Only a policy makes a difference of it.
	Before *plan.Spec
	Nodes  []plan.Node
	// Assisted means that another controller creates and removes the pods. With a policy, only outdated pods then wait for
	// their wave.
	Assisted bool
	// Pods are the pods that the DaemonSet has now.
	Pods []plan.Pod
	// Start is how long a pod takes from its creation until it is ready, Stop how
	// long from its deletion until it is gone.
	Start, Stop time.Duration

	// release is the wave that is played, if one is.
	release *plan.Release
}

// Change is what happens to a node's pod.
type Change uint8

// The changes.
const (
	Replaces Change = iota // the pod is deleted and another is created
	Gains                  // the node gets a pod and had none
	Loses                  // the pod is deleted and no other is created
)

// String returns the change in one word.
func (c Change) String() string { return [...]string{"replaced", "new", "removed"}[c] }

// MarshalText is String: for JSON and YAML.
func (c Change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Step is what happens on one node.
type Step struct {
	Node   string
	Change Change
	// Reason is why the first thing happens there; Detail is the reason's subject, if it has one.
	Reason plan.Reason
	Detail string
	// Begins and Ends count from the change: when the first pod is created or deleted there, and when the
	// node has what it should.
	Begins, Ends time.Duration
	// Ended means that the node gets what it should.
	Ended bool
}

// Left is a node that does not have what it should when nothing more happens.
type Left struct {
	Node   string
	Reason plan.Reason
	Detail string
}

// Forecast is what happens, and what is left undone.
type Forecast struct {
	// Steps has one step for each node on which something happens, sorted by when that begins and then by
	// node name.
	Steps []Step
	// Left is sorted by node name.
	Left []Left
	// Took is how long it takes until nothing more happens.
	Took time.Duration
	// MostDown is how many of the nodes that have an available pod now, and should have one, have
	// none at the worst moment.
	MostDown int
	// Status is the status at the end, if one play made the forecast.
	Status plan.Status
	// Stopped is the wave that the release does not get past while the policy's guard holds pods there; empty: it gets to
	// its end.
	Stopped string
	// Endless means that Play gave up because the changes did not end.
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

// inOrder sorts the steps as described at Forecast.Steps.
func inOrder(steps []Step) {
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Begins, b.Begins), cmp.Compare(a.Node, b.Node))
	})
}
