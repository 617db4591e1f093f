package engine

import (
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// The clocks of other machines do not show what came first: a kubelet, the node controller and the API server each use
// their own. So the index gives a plan.Moment to everything that it sees and that this process does. Times are used
// only for things from before it watched.

// order assigns the moments of an index. The lock of the index guards it.
type order struct {
	last plan.Moment
	// pods and nodes say that their first list has arrived: anything unknown by then has appeared since.
	pods, nodes bool
	// heard is when the watch of pods last delivered anything. What a new list or a live read shows may have happened
	// at any time since.
	heard plan.Moment
}

// moment returns a moment later than all earlier ones.
func (o *order) moment() plan.Moment {
	o.last++
	return o.last
}

// hear returns the moment of a watched event about a pod.
func (o *order) hear() plan.Moment {
	o.heard = o.moment()
	return o.heard
}

// list returns the moment of something that a list of pods shows for the first time; zero for the first list.
func (o *order) list() plan.Moment {
	if !o.pods {
		return 0
	}
	return o.heard
}

// listed records that a list of pods has arrived.
func (o *order) listed() {
	if !o.pods {
		o.pods = true
		o.hear()
	}
}

// follow sets the pod's moments, given what was known about it before (nil: nothing), as of the moment at.
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

// followTrouble keeps what is known about a container that keeps ending and starting: why it waited says more than that
// it runs again, and the report of a failure should not change each time.
func (e *podEntry) followTrouble(old *podEntry) {
	if !e.Ready && e.trouble != nil && old.trouble != nil && strings.HasPrefix(*e.trouble, view.Restarted) {
		e.trouble = old.trouble
	}
}

// followReady makes ReadySince an instant of our own clock, whose monotonic reading does not jump. The time written by
// the kubelet shows whether the pod is still ready or ready again. For pods that were ready before we watched, it also
// shows since when: with a margin, but not later than now.
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

// followSettled keeps what is known about the pod's last change. Once a doubt about it has ended, it does not come back
// when the pod is not ready for a moment: containers that its kubelet starts later belong to the change.
func (e *podEntry) followSettled(old *podEntry, now time.Time) {
	if old == nil || old.Hash != e.Hash || !old.Changed.Equal(e.Changed) {
		return
	}
	over := old.Ready && old.Changing && old.Settles > 0 && !old.ReadySince.Add(old.Settles).After(now)
	if e.settled = old.settled || over; e.settled {
		e.Changing, e.Settles = false, 0
	}
}

// begins reports whether the pod's containers have become those of its last change since old: readiness counts from
// now, whatever the kubelet's clock has done meanwhile. If a doubt only ended with time, the containers have not been
// replaced.
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
		return e.Settles != old.Settles // other containers are in doubt now, for another reason
	}
	return !e.settled
}

// acknowledged sets the moment at which our write to the pod began, which is before any observed effect of it.
func (e *podEntry) acknowledged(w *write) {
	if w.create != nil {
		e.SeenCreated = min(e.SeenCreated, w.began)
	} else if w.remove != nil && !e.Deleted.IsZero() {
		e.SeenDeleted = min(e.SeenDeleted, w.began)
	}
}

// follow sets the node's moments, given what was known about it before (nil: nothing). A change from one way of not
// being Ready to another does not matter.
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

// leave remembers that a pod has gone from a node that turned not Ready after the pod's deletion: until the successor
// exists nothing else shows this (I5). A new list may show the successor first, and a finalizer may keep the pod longer
// than the successor takes to appear.
func (ix *index) leave(e *podEntry) {
	o, n := ix.owned[e.owner], ix.nodes[e.Node]
	if o == nil || n == nil || n.Ready || n.NeverReady || e.Deleted.IsZero() || n.DownBefore(e.SeenDeleted, e.Deleted) {
		return
	}
	if s := o.newestBeside(e); s != nil {
		heir := *s // others may still be reading s
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

// succeed makes a new pod count from the deletion of its predecessor, if that is remembered.
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
