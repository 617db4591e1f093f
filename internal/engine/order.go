package engine

import (
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// Clocks of other machines tell nothing of what came first: a kubelet, the node
// controller and the API server each write times by their own. So the index
// gives a plan.Moment to what it sees, and to what this process does, and times
// are only asked where something was there before it watched.

// order is the moments of an index. Its lock guards it.
type order struct {
	last plan.Moment
	// pods and nodes say that the first list of them is in: what is not known
	// by then has come since.
	pods, nodes bool
	// heard is when the watch of pods has last brought anything. What a new
	// list or a live read shows may have happened at any time since.
	heard plan.Moment
}

// moment is one later than all before it.
func (o *order) moment() plan.Moment {
	o.last++
	return o.last
}

// hear is the moment of a watched event about a pod.
func (o *order) hear() plan.Moment {
	o.heard = o.moment()
	return o.heard
}

// list is the moment of what a list of pods shows and nothing has shown before;
// none for the first list.
func (o *order) list() plan.Moment {
	if !o.pods {
		return 0
	}
	return o.heard
}

// listed says that a list of pods is in.
func (o *order) listed() {
	if !o.pods {
		o.pods = true
		o.hear()
	}
}

// follow gives the pod its place after what was known of it (nil: nothing), as
// of the moment at.
func (e *podEntry) follow(old *podEntry, at plan.Moment, now time.Time) {
	e.SeenCreated, e.SeenDeleted = at, at
	if old != nil {
		e.SeenCreated = old.SeenCreated
		e.unfit = old.unfit
		e.followTrouble(old)
	}
	e.Unchangeable = e.Unchangeable || e.unfit
	e.followSettled(old, now)
	switch {
	case e.Deleted.IsZero():
		e.SeenDeleted = 0
	case old != nil && !old.Deleted.IsZero():
		e.SeenDeleted = old.SeenDeleted
	}
	switch {
	case e.Ready:
		e.followReady(old, at, now)
	case e.WasReady && old != nil && old.WasReady && !old.Ready:
		e.ReadySince = old.ReadySince
	case e.WasReady:
		e.ReadySince = now
	}
}

// followTrouble keeps what is known of a container that goes on to end and to start: why it waited says more than that it
// runs again, and what is told of a failure does not change each time.
func (e *podEntry) followTrouble(old *podEntry) {
	if !e.Ready && e.trouble != nil && old.trouble != nil && strings.HasPrefix(*e.trouble, view.Restarted) {
		e.trouble = old.trouble
	}
}

// followReady makes ReadySince an instant of our own clock, which its monotonic
// reading keeps from jumping. The time that the kubelet has written tells whether
// the pod is still ready or ready again, and for pods that were ready before we
// watched, since when: with a margin, but not later than now.
func (e *podEntry) followReady(old *podEntry, at plan.Moment, now time.Time) {
	written := e.ReadySince
	e.readyStamp = written.Unix()
	switch {
	case old != nil && old.Ready && old.readyStamp == e.readyStamp && !e.begins(old):
		e.ReadySince = old.ReadySince
	case old == nil && at == 0 && !written.IsZero():
		e.ReadySince = now.Add(-max(now.Sub(written.Add(plan.ClockMargin)), 0))
	default:
		e.ReadySince = now
	}
}

// followSettled keeps what is known of the pod's last change. A doubt about it that has once ended does not come back each time
// the pod is not ready for a moment: what its kubelet starts later is of the change.
func (e *podEntry) followSettled(old *podEntry, now time.Time) {
	if old == nil || old.Hash != e.Hash || !old.Changed.Equal(e.Changed) {
		return
	}
	over := old.Ready && old.Changing && old.Settles > 0 && !old.ReadySince.Add(old.Settles).After(now)
	if e.settled = old.settled || over; e.settled {
		e.Changing, e.Settles = false, 0
	}
}

// begins says that the pod's containers have become those of its last change since old: how long it has been ready
// counts from now, whatever the kubelet's clock has done meanwhile. A doubt that time has ended is not one that others
// have come in the place of.
func (e *podEntry) begins(old *podEntry) bool {
	switch {
	case !old.Changed.Equal(e.Changed):
		return true
	case !old.Changing:
		return false
	case old.Settles == 0:
		return !e.Changing || e.Settles > 0
	}
	if e.Changing {
		return e.Settles != old.Settles // others are in doubt now, for another reason
	}
	return !e.settled
}

// acknowledged takes the moment at which our write to the pod began, which is
// before any effect of it that was seen.
func (e *podEntry) acknowledged(w *write) {
	if w.create != nil {
		e.SeenCreated = min(e.SeenCreated, w.began)
	} else if w.remove != nil && !e.Deleted.IsZero() {
		e.SeenDeleted = min(e.SeenDeleted, w.began)
	}
}

// follow gives the node its place after what was known of it (nil: nothing).
// Between one way of not being Ready and another nothing changes.
func (n *nodeEntry) follow(old *nodeEntry, o *order) {
	same := old != nil && old.UID == n.UID
	switch {
	case n.Ready:
		n.NeverReady = false
	case same && !old.Ready:
		n.Down, n.ReadyChanged, n.NeverReady = old.Down, old.ReadyChanged, old.NeverReady
	case same:
		n.Down, n.NeverReady = o.moment(), false
	case o.nodes:
		n.Down = o.moment()
	}
}

// leave remembers that a pod has gone from a node that turned not Ready after
// its deletion: until the successor is there nothing else tells (I5). A new list
// shows the successor first, and a finalizer may keep the pod for longer than it
// takes to come.
func (ix *index) leave(e *podEntry) {
	o, n := ix.owned[e.owner], ix.nodes[e.Node]
	if o == nil || n == nil || n.Ready || n.NeverReady || e.Deleted.IsZero() || n.DownBefore(e.SeenDeleted, e.Deleted) {
		return
	}
	if s := o.newestBeside(e); s != nil {
		heir := *s // who looks at s may still do so
		heir.SeenCreated = min(s.SeenCreated, e.SeenDeleted)
		ix.unlinkPod(s)
		ix.linkPod(&heir)
		return
	}
	if o.left == nil {
		o.left = map[string]plan.Moment{}
	}
	o.left[e.Node] = e.SeenDeleted
}

// succeed makes a pod that has just come count from when its predecessor was to
// be deleted, if that is remembered.
func (ix *index) succeed(e *podEntry) {
	if o := ix.owned[e.owner]; o != nil {
		if at, is := o.left[e.Node]; is {
			e.SeenCreated = min(e.SeenCreated, at)
			delete(o.left, e.Node)
		}
	}
}

// recovered forgets which pods have left the node, once it is Ready or gone.
func (ix *index) recovered(node string) {
	for _, o := range ix.owned {
		delete(o.left, node)
	}
}
