package main

import (
	"iter"
	"time"
)

// How the kubelets of the fleet play a pod. All times are those of a real node; the time scale shortens them.
const (
	// startTime is from the moment when a pod is bound to its first probe: the image is pulled, the container started.
	startTime = 30 * time.Second
	// restartTime is the same when the image is there.
	restartTime = 10 * time.Second
	// stopTime is how long a container takes to end.
	stopTime = 5 * time.Second
	// backOffFirst, backOffMost and backOffForgotten are the kubelet's, between restarts of a container.
	backOffFirst     = 10 * time.Second
	backOffMost      = 5 * time.Minute
	backOffForgotten = 10 * time.Minute
	// nodeGrace is the node-monitor-grace-period: how long a node may be silent until it counts as unreachable.
	nodeGrace = 50 * time.Second
	// rebootTime is how long a node that has broken takes to come back. What is bound to it starts again, and may break
	// it again.
	rebootTime = 2 * time.Minute
	// floodShare is how many of the nodes must flood the API server until its answers take floodDelay, which is not on the
	// time scale: clients wait as long as they do. With fewer of them they take less long.
	floodShare = 0.05
	floodDelay = 2500 * time.Millisecond
)

// behaviour is what a version does to its pods and nodes. The zero one is well.
type behaviour struct {
	// Waiting is why its container never starts.
	Waiting string `json:"waiting,omitempty"`
	// NeverReady: it runs, and its readiness probe fails.
	NeverReady bool `json:"neverReady,omitempty"`
	// Ends is why its container ends, and EndsAfter how long after it was ready; 0: before it is.
	Ends      string        `json:"ends,omitempty"`
	EndsAfter time.Duration `json:"endsAfter,omitempty"`
	// BreaksNode takes its node down, BreaksAfter after it was ready.
	BreaksNode  bool          `json:"breaksNode,omitempty"`
	BreaksAfter time.Duration `json:"breaksAfter,omitempty"`
	// Floods: as long as it runs, it asks more of the API server than that has to give.
	Floods bool `json:"floods,omitempty"`
}

// step is the next thing that happens to a pod.
type step struct {
	After      time.Duration // since the step before
	Status     status
	BreaksNode bool // the node falls silent, and nothing more is heard of the pod
}

// status is what a kubelet says of a pod.
type status struct {
	Waiting  string // why its container does not run; empty: it runs
	Ready    bool
	Restarts int
	Ended    string // why the container before this one ended; empty: there was none
}

// steps returns the life of a pod of a version, from the moment when it is bound. It may have no end.
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

// endAgainAndAgain is a container that ends and is started again, later each time.
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

// backOff returns how long a kubelet waits before it starts a container for the nth time again: not at all the first
// time, or when it has run for long.
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
