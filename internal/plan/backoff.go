package plan

import "time"

// The back-off of pods that end: the same numbers as upstream's controller.
const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Minute
	quietBackoff = 2 * maxBackoff // after this long without a failure it starts over
)

// The back-off of pods that do not last. A person who deletes a pod a few times sees it come back at once. A loop of
// creates and deletes slows down until its cost is negligible.
const (
	freeRemakes  = 3
	firstPause   = time.Second
	maxPause     = 5 * time.Minute
	changedPause = 10 * time.Second // at most, once the node has changed
	lasting      = time.Minute      // a pod that lives this long may well have lasted
)

// Next returns the memory of a node where a pod was just created.
func (r Remakes) Next(now time.Time) Remakes {
	if r.Expired(now) {
		return Remakes{Last: now}
	}
	return Remakes{Last: now, Again: min(r.Again, 254) + 1, By: r.By}
}

// pause returns how long after Last the next pod may be created.
func (r Remakes) pause() time.Duration {
	if r.Again < freeRemakes {
		return 0
	}
	const doublings = 9 // more than maxPause
	return min(firstPause<<min(r.Again-freeRemakes, doublings), maxPause)
}

// Expired reports whether the last pod has lasted, or was so long ago that it tells nothing: the entry may then be
// dropped. The time between the end of a pod and the next create, for example while an API server answers late, does
// not count as its life.
func (r Remakes) Expired(now time.Time) bool {
	if r.Last.IsZero() || !r.Gone.IsZero() && now.Sub(r.Gone) > 2*maxPause {
		return true
	}
	if !r.Gone.IsZero() {
		now = r.Gone
	}
	return now.Sub(r.Last) > max(2*r.pause(), lasting)
}

// Noticed returns the memory of a node on which these pods are seen.
func (r Remakes) Noticed(pods []*Pod, now time.Time) Remakes {
	alive := false
	for _, p := range pods {
		alive = alive || p.live()
		if p.Disruptor != Unannounced {
			r.By = p.Disruptor
		}
	}
	switch {
	case alive:
		r.Gone = time.Time{}
	case r.Gone.IsZero():
		r.Gone = now
	}
	return r
}

// Recalled returns r if it has expired while a create was under way, because that time does not count as the life of a
// pod. made means that the pod was created; otherwise its successor has waited long enough.
func (r Remakes) Recalled(made bool, now time.Time) Remakes {
	if r.Last, r.Gone = now, (time.Time{}); !made {
		r.Last = now.Add(-r.pause())
	}
	return r
}

// ends returns when the next pod may be created on the node. A change of the node may have ended the trouble, so it
// allows a try, but only one per changedPause, since the change itself may be part of a loop.
func (r Remakes) ends(n *Node) time.Time {
	pause := r.pause()
	if n.Changed.After(r.Last) {
		pause = min(pause, changedPause)
	}
	return r.Last.Add(pause)
}

// NextBackoff returns the back-off after a failed or succeeded pod was deleted at now: one second, doubled each time up
// to 15 minutes, and forgotten after 30 minutes without a failure. The caller sets the other fields, or uses After.
func NextBackoff(b Backoff, now time.Time) Backoff {
	if b.calm(now) {
		return Backoff{Last: now, Delay: firstBackoff, Remakes: b.Remakes}
	}
	return Backoff{Last: now, Delay: min(2*b.Delay, maxBackoff), Remakes: b.Remakes}
}

// After is NextBackoff for the delete d. It also records what must be known about the newest pod when all are gone:
// an update with surge may lose the old pod of a node just after the new one.
func (b Backoff) After(d Delete, now time.Time) Backoff {
	next := NextBackoff(b, now)
	switch {
	case b.Expired(now):
		b = Backoff{}
	case b.calm(now):
		b = Backoff{Waited: b.Waited, Heard: b.Heard}
	}
	next.Pod, next.Hash, next.Created, next.Refused = d.UID, d.Hash, d.Created, d.Reason == PodRefused
	if b.Created.After(d.Created) {
		next.Pod, next.Hash, next.Created, next.Refused = b.Pod, b.Hash, b.Created, b.Refused
	}
	if b.Waited.After(next.Created) {
		next.Waited, next.Heard = b.Waited, b.Heard
	}
	next.First, next.FirstSeen = d.Created, d.SeenCreated
	if d.Hash != next.Hash || b.Pod != "" && d.Hash == b.Hash && b.earlier(&d) {
		next.First, next.FirstSeen = b.First, b.FirstSeen
	}
	return next
}

// Waits returns the back-off after a pod created at that time is gone without having been bound: its successor also
// goes to the scheduler. The pauses for failed pods do not change.
func (b Backoff) Waits(created, now time.Time) Backoff {
	if b.Expired(now) {
		b = Backoff{Last: now, Delay: firstBackoff, Remakes: b.Remakes}
	}
	if created.After(b.Waited) {
		b.Waited = created
	}
	b.Heard = now
	return b
}

// handed reports whether the last known fact about the node is that a pod was refused or never bound there. newest
// is the newest pod that the node still has, or nil.
func (b Backoff) handed(newest *Pod) bool {
	last, is := b.Waited, !b.Waited.IsZero()
	if b.Refused && !b.Created.Before(last) {
		last, is = b.Created, true
	}
	if newest == nil || is && !newest.Created.After(last) {
		return is
	}
	return newest.Refused || !newest.Bound
}

// earlier reports whether the first pod of the back-off came before that of the delete.
func (b *Backoff) earlier(d *Delete) bool {
	if b.FirstSeen == 0 && d.SeenCreated == 0 {
		return b.First.Before(d.Created)
	}
	return b.FirstSeen < d.SeenCreated
}

// Expired reports whether the back-off starts over: apart from Remakes it no longer holds anything back, and the entry
// may be dropped.
func (b Backoff) Expired(now time.Time) bool {
	return b.calm(now) && (b.Heard.IsZero() || now.Sub(b.Heard) > quietBackoff)
}

// calm reports whether no pod has failed for so long that the pauses start over.
func (b Backoff) calm(now time.Time) bool {
	return b.Delay <= 0 || now.Sub(b.Last) > quietBackoff
}

// forgotten returns the first instant at which Expired holds.
func (b Backoff) forgotten() time.Time {
	last := b.Last
	if b.Heard.After(last) {
		last = b.Heard
	}
	return last.Add(quietBackoff + 1)
}

// ends returns when a failed pod may be deleted again.
func (b Backoff) ends() time.Time { return b.Last.Add(b.Delay) }
