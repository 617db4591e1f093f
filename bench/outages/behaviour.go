package main

import (
	"iter"
	"time"
)

// How the simulated kubelets run a pod. All times are those of a real node; the time scale shortens them.
const (
	// startTime is from the binding of a pod to its first probe: the image is pulled, and the container starts.
	startTime = 30 * time.Second
	// restartTime is the same time if the node has the image.
	restartTime = 10 * time.Second
	// stopTime is how long a container takes to end.
	stopTime = 5 * time.Second
	// backOffFirst, backOffMost and backOffForgotten are the kubelet's limits for the pause between restarts of a
	// container.
	backOffFirst     = 10 * time.Second
	backOffMost      = 5 * time.Minute
	backOffForgotten = 10 * time.Minute
	// nodeGrace is the node-monitor-grace-period: how long a node may be silent before it counts as unreachable.
	nodeGrace = 50 * time.Second
	// rebootTime is how long a broken node takes to come back. The pods bound to it start again, and may break it
	// again.
	rebootTime = 2 * time.Minute
	// floodShare is the share of the nodes that must flood the API server to delay its answers by floodDelay. With
	// fewer nodes the delay is shorter. floodDelay is not on the time scale: clients wait for as long as it says.
	floodShare = 0.05
	floodDelay = 2500 * time.Millisecond
)

// behaviour is what a version does to its pods and nodes. The zero value works well.
type behaviour struct {
	// Waiting is why its container never starts.
	Waiting string `json:"waiting,omitempty"`
	// NeverReady is whether its readiness probe fails although it runs.
	NeverReady bool `json:"neverReady,omitempty"`
	// Ends is why its container ends, and EndsAfter how long after it became ready; 0: before that.
	Ends      string        `json:"ends,omitempty"`
	EndsAfter time.Duration `json:"endsAfter,omitempty"`
	// BreaksNode is whether it takes its node down, BreaksAfter after it became ready.
	BreaksNode  bool          `json:"breaksNode,omitempty"`
	BreaksAfter time.Duration `json:"breaksAfter,omitempty"`
	// Floods is whether it sends more requests than the API server can serve, as long as it runs.
	Floods bool `json:"floods,omitempty"`
}

// step is the next thing that happens to a pod.
type step struct {
	After      time.Duration // since the step before
	Status     status
	BreaksNode bool // the node falls silent, and the kubelet reports nothing more about the pod
}

// status is what a kubelet reports about a pod.
type status struct {
	Waiting  string // why its container does not run; "": it runs
	Ready    bool
	Restarts int
	Ended    string // why the previous container ended; "": there was none
}

// steps returns the life of a version's pod, from its binding on. It may be endless.
func (b behaviour) steps() iter.Seq[step] {
	return func(yield func(step) bool) {
		switch {
		case b.Waiting != "":
			yield(step{After: startTime, Status: status{Waiting: b.Waiting}})
		case b.BreaksNode:
			_ = yield(step{After: startTime, Status: status{Ready: true}}) && yield(step{After: b.BreaksAfter, BreaksNode: true})
		case b.Ends != "":
			b.endAgainAndAgain(yield)
		default:
			yield(step{After: startTime, Status: status{Ready: !b.NeverReady}})
		}
	}
}

// endAgainAndAgain yields the steps of a container that ends and is restarted, each time later.
func (b behaviour) endAgainAndAgain(yield func(step) bool) {
	wait := startTime
	for n := 0; ; n++ {
		now := status{Restarts: n}
		if n > 0 {
			now.Ended = b.Ends
			wait = backOff(n, b.EndsAfter)
		}
		if b.EndsAfter > 0 {
			if n > 0 {
				wait += restartTime
			}
			now.Ready = true
			if !yield(step{After: wait, Status: now}) {
				return
			}
			wait = b.EndsAfter
		}
		if !yield(step{After: wait, Status: status{Waiting: "CrashLoopBackOff", Restarts: n, Ended: b.Ends}}) {
			return
		}
	}
}

// backOff returns how long a kubelet waits before the nth restart of a container: not at all before the first one, or
// if the container has run for long.
func backOff(n int, ran time.Duration) time.Duration {
	if n == 1 || ran >= backOffForgotten {
		return 0
	}
	pause := backOffFirst
	for range n - 2 {
		pause = min(2*pause, backOffMost)
	}
	return pause
}
