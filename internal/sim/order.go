package sim

import (
	"time"

	"everynode/internal/plan"
)

// order is the moments of a controller, as package engine's index assigns them.
type order struct {
	last, heard plan.Moment
}

func (o *order) moment() plan.Moment {
	o.last++
	return o.last
}

func (o *order) hear() plan.Moment {
	o.heard = o.moment()
	return o.heard
}

// place sorts the pod in after its earlier version (nil: it was not known). It works on a copy: the API has
// no moments, and its times are by other clocks.
func (ix *index) place(p, old *pod, at plan.Moment) *pod {
	q := *p
	q.SeenCreated, q.SeenDeleted = at, 0
	if old != nil {
		q.SeenCreated = old.SeenCreated
	}
	if !q.Deleted.IsZero() {
		q.SeenDeleted = at
		if old != nil && !old.Deleted.IsZero() {
			q.SeenDeleted = old.SeenDeleted
		}
	}
	if q.settles(old, ix.c.clock()); ix.c.old {
		q.Changing, q.Settles, q.Unchangeable, q.Changed = false, 0, false, time.Time{}
	}
	switch now := ix.c.clock(); {
	case !q.Ready || ix.c.w.bug == TrustReadyTimes:
	case old != nil && old.Ready && old.readyStamp.Equal(q.readyStamp) && !begins(old, &q):
		q.ReadySince = old.ReadySince
	case old == nil && at == 0:
		ago := ix.c.w.read("engine").Sub(q.readyStamp.Add(plan.ClockMargin))
		q.ReadySince = now.Add(-max(ago, 0))
	default:
		q.ReadySince = now
	}
	return &q
}

// placeNode does the same for a node.
func (ix *index) placeNode(n, old *node) *node {
	m := *n
	same := old != nil && old.UID == n.UID
	switch {
	case m.Ready:
	case same && !old.Ready && (ix.c.w.bug != FlipIsNew || old.ReadyChanged.Equal(m.ReadyChanged)):
		m.Down, m.ReadyChanged, m.NeverReady = old.Down, old.ReadyChanged, old.NeverReady
	case same:
		m.Down, m.NeverReady = ix.order.moment(), false
	default:
		m.NeverReady = m.ReadyChanged.Sub(m.joined).Abs() <= registrationSlack
		if ix.synced[nodes] {
			m.Down = ix.order.moment()
		}
	}
	return &m
}

// registrationSlack is the constant of package view.
const registrationSlack = 5 * time.Second

// leave records that a pod is gone from a node that turned not Ready after the pod's deletion. succeed passes
// this on to the successor, unless that exists already.
func (ix *index) leave(p *pod) {
	n := ix.node(p.Node)
	if n == nil || n.Ready || n.NeverReady || p.Deleted.IsZero() || n.DownBefore(p.SeenDeleted, p.Deleted) {
		return
	}
	if i := newestBeside(ix.pods, p); i >= 0 {
		heir := *ix.pods[i]
		heir.SeenCreated = min(heir.SeenCreated, p.SeenDeleted)
		ix.pods[i] = &heir
		return
	}
	ix.left[p.Node] = p.SeenDeleted
}

// newestBeside returns the index of the newest of the other pods on the pod's node, or -1.
func newestBeside(pods []*pod, p *pod) int {
	newest := -1
	for i, o := range pods {
		if o.Node == p.Node && o.UID != p.UID && (newest < 0 || o.Created.After(pods[newest].Created)) {
			newest = i
		}
	}
	return newest
}

func (ix *index) succeed(p *pod) {
	if at, is := ix.left[p.Node]; is {
		p.SeenCreated = min(p.SeenCreated, at)
		delete(ix.left, p.Node)
	}
}

// acknowledged records the moment at which a write that has an answer began.
func (ix *index) acknowledged(uid string, w *write) {
	p := ix.pod(uid)
	switch {
	case p == nil:
	case w.create != nil:
		p.SeenCreated = min(p.SeenCreated, w.began)
	case !p.Deleted.IsZero():
		p.SeenDeleted = min(p.SeenDeleted, w.began)
	}
}

// clocks is how far each clock is ahead of the true time: those of the "api", the "nodes" controller, the
// "engine" and each kubelet, by the node's name.
type clocks map[string]time.Duration

// read returns the time by a clock.
func (w *world) read(whose string) time.Time { return w.clock().Add(w.clocks[whose]) }

// stampOf returns that time as the API stores it, in whole seconds.
func (w *world) stampOf(whose string) time.Time { return w.read(whose).Truncate(time.Second) }

// setClock makes a clock jump. The API server's clock only goes forward, because it alone shows to which node
// pods belong when a node has come back.
func (w *world) setClock(whose string, ahead time.Duration) {
	if whose == "api" {
		ahead = max(ahead, w.clocks[whose])
	}
	w.clocks[whose] = ahead
}

// clock returns the time by the process's own clock, which does not jump: time that the process measures
// counts from its start.
func (c *controller) clock() time.Time { return c.w.clock().Add(c.ahead) }
