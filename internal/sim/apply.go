package sim

import (
	"slices"
	"strconv"
	"time"

	"everynode/internal/plan"
)

// The bounds of the window, and how many names are tried for one pod.
const (
	firstWindow = 8
	maxWindow   = 32
	maxSalt     = 8
	// manyOverQuota is how many nodes must have met the quota before creates
	// for others are put off untried.
	manyOverQuota = 3
)

// write is one create or delete of a plan.
type write struct {
	owner     *controller
	set       *daemonSet // as decided on
	hash      string
	create    *plan.Create // nil for a delete
	remove    *plan.Delete // nil for a create
	version   uint64       // the only one that may be deleted; 0: any
	ready     bool         // the pod that is deleted was seen to be ready
	known     []string     // the pods that a create was decided beside
	names     []string     // those that a create has sent
	rests     *pod         // the pod that a delete is of, as it was decided on
	began     plan.Moment  // when it was started
	startedIn uint64       // what the API was at then
	missed    int          // versions of the pod that it has missed
	read      bool         // the pod of a delete without an answer was read since
}

func (w *write) node() string {
	if w.create != nil {
		return w.create.Node
	}
	return w.remove.Node
}

// applier carries out writes within a window.
type applier struct {
	c         *controller
	pending   []*write
	started   []*write
	window    int
	resume    time.Duration // the server asked for silence until then
	overQuota map[string]bool
	quotaWait time.Duration
}

func (a *applier) withdraw() { a.pending = nil }

// submit takes the writes of a new decision. A slot that has a write under way
// is left out.
func (a *applier) submit(writes []*write) {
	a.pending = slices.DeleteFunc(writes, a.conflicts)
	a.pump()
}

func (a *applier) conflicts(w *write) bool {
	return slices.ContainsFunc(a.started, func(s *write) bool {
		// A pod may be seen to be gone before the answer to its delete comes:
		// only that tells what its successor is to be called.
		return w.create != nil && w.create.Node == s.node() && (s.create != nil || a.c.w.bug != EagerSuccessor) ||
			w.remove != nil && s.remove != nil && w.remove.UID == s.remove.UID
	})
}

// overlay marks the pods that have a write under way, and returns a pod for
// each create under way that the index does not show.
func (a *applier) overlay(pods []plan.Pod, now time.Time) (more []plan.Pod) {
	if a.c.w.bug == NoUncertainty {
		return nil
	}
	for _, w := range a.started {
		shown := false
		for i := range pods {
			p := &pods[i]
			switch {
			case w.remove != nil && p.UID == w.remove.UID:
				p.Uncertain = p.Deleted.IsZero()
				if p.Uncertain {
					p.SeenDeleted = w.began
				}
			case w.create != nil && p.Node == w.create.Node && slices.Contains(w.names, p.Name) && !slices.Contains(w.known, p.UID):
				p.Uncertain, shown = true, true
				p.SeenCreated = min(p.SeenCreated, w.began)
			}
		}
		if w.create != nil && !shown {
			more = append(more, plan.Pod{Name: w.names[len(w.names)-1], Node: w.create.Node,
				Bound: !w.create.ByScheduler, Hash: w.hash, Generation: w.set.spec.Generation, Created: now, SeenCreated: w.began, Uncertain: true})
		}
	}
	return more
}

// pump starts what the window has room for.
func (a *applier) pump() {
	if wait := a.resume - a.c.w.now; wait > 0 {
		a.c.later(wait, a.pump)
		return
	}
	for len(a.pending) > 0 && len(a.started) < a.window && !a.c.dead {
		w := a.pending[0]
		a.pending = a.pending[1:]
		a.started = append(a.started, w)
		w.began, w.startedIn = a.c.index.order.moment(), a.c.w.api.version
		if w.create != nil {
			a.create(w, 0)
		} else {
			a.delete(w)
		}
	}
}

// end takes what became of a write: into the index first, and only then is it
// no longer under way.
func (a *applier) end(w *write, result code, learn func()) {
	c := a.c
	if learn != nil {
		learn()
	}
	a.started = slices.DeleteFunc(a.started, func(o *write) bool { return o == w })
	switch result {
	case ok:
		a.window = min(a.window+1, maxWindow)
		if w.create != nil {
			clear(a.overQuota)
			a.quotaWait = 0
			c.made(w)
		}
		c.worked(w.node())
	case throttled:
		a.window = max(a.window/2, 1)
		a.resume = max(a.resume, c.w.now+time.Second)
		c.putOff(w.node(), time.Second)
	case terminating:
		c.putOff(w.node(), maxRetry)
	case conflict, notFound:
		c.failed(w.node(), shortPause)
	default:
		if result != refused {
			a.window = max(a.window/2, 1)
		}
		c.failed(w.node(), firstRetry)
	}
	if result == overQuota {
		a.countQuota(w)
	}
	a.pump()
	c.touch()
}

// countQuota puts off the creates of other nodes that would fare the same.
func (a *applier) countQuota(w *write) {
	a.overQuota[w.node()] = true
	if len(a.overQuota) < manyOverQuota {
		return
	}
	clear(a.overQuota)
	a.quotaWait = min(max(2*a.quotaWait, time.Second), maxRetry)
	a.pending = slices.DeleteFunc(a.pending, func(o *write) bool {
		if o.create != nil {
			a.c.putOff(o.create.Node, a.quotaWait)
		}
		return o.create != nil
	})
}

// podName is a function of what the pod is for.
func (a *applier) podName(w *write, salt int) string {
	name := w.create.Node
	if w.set.spec.Surges() {
		name += "-" + w.hash
	}
	if w.create.Predecessor != "" && a.c.w.bug != NoPredecessor {
		name += "-after-" + w.create.Predecessor
	}
	if a.c.w.bug == RandomNames {
		name += "-" + strconv.Itoa(a.c.w.rng.IntN(1000000))
	}
	if salt > 0 {
		name += "-" + strconv.Itoa(salt)
	}
	return name
}

func (a *applier) create(w *write, salt int) {
	c := a.c
	if salt == maxSalt {
		a.end(w, refused, nil)
		return
	}
	name := a.podName(w, salt)
	w.names = append(w.names, name)
	c.send(true, func() answer { c.w.check.arrived("create", w); return c.w.api.create(w, name) }, func(r answer) {
		switch r.code {
		case ok:
			a.end(w, ok, func() { c.index.acknowledge(r.pod, w) })
		case exists:
			a.claim(w, name, salt)
		case unknown:
			if c.w.bug == TrustNoAnswer {
				a.end(w, unknown, nil)
				return
			}
			a.settleCreate(w, name, 50*time.Millisecond)
		default:
			a.end(w, r.code, nil)
		}
	})
}

// claim looks at the pod that has a create's name.
func (a *applier) claim(w *write, name string, salt int) {
	c := a.c
	c.send(false, func() answer { return c.w.api.get(name) }, func(r answer) {
		switch {
		case r.code == notFound:
			a.end(w, conflict, nil)
		case r.code != ok:
			a.end(w, r.code, nil)
		case r.pod.Node != w.create.Node || slices.Contains(w.known, r.pod.UID):
			a.create(w, salt+1)
		default:
			a.end(w, ok, func() { c.index.acknowledge(r.pod, w) })
		}
	})
}

// settleCreate finds out what became of a create whose answer was lost.
func (a *applier) settleCreate(w *write, name string, pause time.Duration) {
	c := a.c
	c.send(false, func() answer { return c.w.api.get(name) }, func(r answer) {
		switch {
		case r.code == ok && r.pod.Node == w.create.Node && !slices.Contains(w.known, r.pod.UID):
			a.end(w, ok, func() { c.index.acknowledge(r.pod, w) })
		case r.code == ok, r.code == notFound:
			a.end(w, unknown, nil)
		default:
			c.later(pause, func() { a.settleCreate(w, name, min(2*pause, 2*time.Second)) })
		}
	})
}

func (a *applier) delete(w *write) {
	c := a.c
	c.w.check.sent(c, w.remove.UID)
	c.send(true, func() answer { c.w.check.arrived("delete", w); return c.w.api.delete(w) }, func(r answer) {
		switch r.code {
		case ok:
			a.removed(w, func() {
				if r.gone {
					c.index.bury(w.remove.UID)
				} else {
					c.index.acknowledge(r.pod, w)
				}
			})
		case conflict:
			a.deleteAgain(w)
		case notFound:
			a.settleDelete(w, r.code, 50*time.Millisecond)
		case unknown:
			if c.w.bug == TrustNoAnswer {
				a.end(w, unknown, nil)
				return
			}
			a.settleDelete(w, r.code, 50*time.Millisecond)
		default:
			c.w.check.settled(c, w.remove.UID)
			a.end(w, r.code, nil)
		}
	})
}

// deleteAgain sends a delete again that has missed the pod's version, if the pod
// has changed in nothing that matters.
func (a *applier) deleteAgain(w *write) {
	c := a.c
	c.send(false, func() answer { return c.w.api.get(w.remove.Pod) }, func(r answer) {
		w.missed++
		if r.code != ok || w.version == 0 || !alike(r.pod, w.rests) || w.missed > maxConflicts && !w.rests.Ready {
			a.settleDelete(w, conflict, 50*time.Millisecond)
			return
		}
		w.version = r.pod.version
		if w.missed > maxConflicts {
			w.version = 0
		}
		a.delete(w)
	})
}

// maxConflicts is package engine's.
const maxConflicts = 3

// alike says that two versions of a pod are the same to a rollout.
func alike(a, b *pod) bool {
	return a.UID == b.UID && a.Hash == b.Hash && a.Phase == b.Phase && a.Bound == b.Bound && a.Ready == b.Ready &&
		a.Deleted.IsZero() && b.Deleted.IsZero()
}

// removed is the end of a delete that happened.
func (a *applier) removed(w *write, learn func()) {
	d := *w.remove
	if d.Reason == plan.PodFailed || d.Reason == plan.PodSucceeded || d.Reason == plan.PodRefused {
		a.c.backoff[d.Node] = a.c.backoff[d.Node].After(d, a.c.clock())
	}
	if d.Waited && a.c.w.bug != ForgetsWaiting {
		a.c.backoff[d.Node] = a.c.backoff[d.Node].Waits(d.Created, a.c.w.clock())
	}
	a.c.w.check.settled(a.c, d.UID)
	a.end(w, ok, learn)
}

// settleDelete finds out by a live read how a pod fares whose delete had no
// certain answer, or was refused because the pod had changed.
func (a *applier) settleDelete(w *write, cause code, pause time.Duration) {
	c, d := a.c, w.remove
	read := func() answer {
		w.read = true
		return c.w.api.get(d.Pod)
	}
	c.send(false, read, func(r answer) {
		switch {
		case r.code == notFound, r.code == ok && r.pod.UID != d.UID:
			a.removed(w, func() { c.index.bury(d.UID) })
		case r.code == ok && !r.pod.Deleted.IsZero():
			a.removed(w, func() { c.index.acknowledge(r.pod, w) })
		case r.code == ok:
			c.w.check.settled(c, d.UID)
			a.end(w, cause, func() { c.index.assume(r.pod) })
		default:
			c.later(pause, func() { a.settleDelete(w, cause, min(2*pause, 2*time.Second)) })
		}
	})
}
