package sim

import (
	"slices"
	"strconv"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// write is one create, delete or change of a plan.
type write struct {
	owner     *controller
	set       *daemonSet // as decided on
	hash      string
	create    *plan.Create // nil for others
	remove    *plan.Delete // nil for others
	change    *plan.Change // nil for others
	version   uint64       // the version with which the last delete or change was sent; 0: any
	ready     bool         // the pod that is deleted or changed was seen to be ready
	known     []string     // the pods that were known when a create was decided
	names     []string     // those under which a create was sent
	rests     *pod         // the pod that a delete or change is about, as it was when that was decided
	began     plan.Moment  // when it was started
	startedIn uint64       // the version of the API at that time
	read      bool         // the pod of an unanswered delete has been read since
	plain     bool         // it was decided without a policy, or when there was no previous revision
	remade    plan.Remakes // what was known about the node's pods when a create was decided on
	had       bool         // by what the process knew when it decided, the node already had something of hash
	guarded   bool         // it was decided with a guard in force
	release   release      // the one that reaches the node by this write; zero: none
	keeper    uint64       // the UID of the object that kept the state when it was decided
	succeeds  bool         // a pod of another revision was on the node when a create was decided
	begun     begun        // what was true when it was started, for the checker
}

func (w *write) node() string {
	switch {
	case w.create != nil:
		return w.create.Node
	case w.change != nil:
		return w.change.Node
	}
	return w.remove.Node
}

// uid returns the UID of the pod that is deleted or changed; empty for a create.
func (w *write) uid() string {
	switch {
	case w.remove != nil:
		return w.remove.UID
	case w.change != nil:
		return w.change.UID
	}
	return ""
}

// applier carries out writes within a window.
type applier struct {
	c         *controller
	pending   []*write
	started   []*write
	window    int
	resume    time.Duration // the server asked for silence until then
	pause     time.Duration // how long that last was; it grows until a write succeeds
	overQuota map[string]bool
	quotaWait time.Duration
}

func (a *applier) withdraw() { a.pending = nil }

// submit accepts the writes of a new decision. It leaves out a slot that has a write under way.
func (a *applier) submit(writes []*write) {
	a.pending = slices.DeleteFunc(writes, a.conflicts)
	a.pump()
}

func (a *applier) conflicts(w *write) bool {
	return slices.ContainsFunc(a.started, func(s *write) bool {
		// The watch may show that a pod is gone before the answer to its delete comes. Only the answer tells
		// the name of its successor.
		return w.create != nil && w.create.Node == s.node() && (s.create != nil || a.c.w.bug != EagerSuccessor) ||
			w.create == nil && w.uid() == s.uid()
	})
}

// overlay marks the pods that have a write under way, and returns a pod for each create under way that the
// index does not show yet.
func (a *applier) overlay(pods []plan.Pod, now time.Time) (more []plan.Pod) {
	if a.c.w.bug == NoUncertainty {
		return nil
	}
	for _, w := range a.started {
		shown := false
		for i := range pods {
			p := &pods[i]
			switch {
			case w.change != nil && p.UID == w.change.UID:
				p.Uncertain = true
			case w.remove != nil && p.UID == w.remove.UID:
				if p.Uncertain = p.Deleted.IsZero(); p.Uncertain || w.began < p.SeenDeleted {
					p.SeenDeleted = w.began // a watch may be quicker than the answer
				}
			case w.create != nil && p.Node == w.create.Node && slices.Contains(w.names, p.Name) && !slices.Contains(w.known, p.UID):
				p.Uncertain, shown = true, true
				p.SeenCreated = min(p.SeenCreated, w.began)
			}
		}
		if w.create != nil && !shown {
			more = append(more, plan.Pod{Name: w.names[len(w.names)-1], Node: w.create.Node,
				Bound: !w.create.ByScheduler, Hash: w.hash, Generation: w.generation(), Created: now, SeenCreated: w.began, Uncertain: true, Assumed: true})
		}
	}
	return more
}

// pump starts as many writes as the window has room for.
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
		a.c.reaches(w)
		a.c.w.check.starts(w)
		a.drive(w, a.attempt(w))
	}
}

// end takes the outcome of a write. It updates the index first; only then does the write stop counting as
// under way.
func (a *applier) end(w *write, o delivery.Outcome, learn func()) {
	c := a.c
	if w.create != nil && (o.Fate == delivery.OK || o.Fate == delivery.Unknown) {
		c.recall(w, o.Fate == delivery.OK)
	}
	if learn != nil {
		learn()
	}
	c.course.reached.ends(w, &o)
	c.refusals.fared(w, &o, c.w.now)
	c.w.check.reachEnds(w, &o)
	a.started = slices.DeleteFunc(a.started, func(o *write) bool { return o == w })
	switch o.Fate {
	case delivery.OK:
		a.window, a.pause = min(a.window+1, delivery.MaxWindow), 0
		if w.create != nil {
			clear(a.overQuota)
			a.quotaWait = 0
			c.made(w)
		}
		c.worked(w)
	case delivery.Throttled:
		a.window = max(a.window/2, 1)
		a.rests(o.Wait)
		if c.w.bug == SamePause {
			c.putOff(w, o.Wait)
		} else {
			c.failed(w, delivery.ThrottledPace(o.Wait))
		}
	case delivery.Terminating:
		c.putOff(w, delivery.MaxRetry)
	case delivery.Stale:
		c.failed(w, delivery.StalePace())
	default:
		if o.Fate != delivery.Refused {
			a.window = max(a.window/2, 1)
		}
		c.failed(w, delivery.FailedPace())
	}
	if o.Fate == delivery.OverQuota {
		a.countQuota(w)
	}
	a.pump()
	c.touch()
}

// rests starts no writes for as long as the server asks, and longer each time. The answers of writes that
// were under way when the silence began do not increase the pause.
func (a *applier) rests(asked time.Duration) {
	now := a.c.w.now
	if a.resume <= now && a.c.w.bug != SamePause {
		a.pause = min(max(2*a.pause, asked), max(delivery.MaxLanePause, asked))
		asked = a.pause
	}
	a.resume = max(a.resume, now+asked)
}

// countQuota postpones the creates on other nodes that would fail in the same way.
func (a *applier) countQuota(w *write) {
	a.overQuota[w.node()] = true
	if len(a.overQuota) < delivery.ManyOverQuota {
		return
	}
	clear(a.overQuota)
	a.quotaWait = min(max(2*a.quotaWait, time.Second), delivery.MaxRetry)
	a.pending = slices.DeleteFunc(a.pending, func(o *write) bool {
		if o.create != nil {
			a.c.putOff(o, a.quotaWait)
		}
		return o.create != nil
	})
}

// podName returns a name that is a function of what the pod is for.
func (a *applier) podName(w *write, salt int) string {
	name := w.create.Node
	if w.set.spec.Surges() || a.c.course.release != nil {
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
