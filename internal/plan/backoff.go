package plan

import "time"

// The back-off of pods that end: the same numbers as upstream's controller.
const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Minute
	quietBackoff = 2 * maxBackoff // after this much quiet it starts afresh
)

// The back-off of pods that do not last. A person who deletes a pod a few times
// sees it come back at once. A loop of creates and deletes slows down until what
// it costs is nothing.
const (
	freeRemakes  = 3
	firstPause   = time.Second
	maxPause     = 5 * time.Minute
	changedPause = 10 * time.Second // at most, once the node has changed
	lasting      = time.Minute      // a pod that lives so long may well have lasted
)

// Next is the memory of a node where a pod was just created.
func (r Remakes) Next(now time.Time) Remakes {
	if r.Expired(now) {
		return Remakes{Last: now}
	}
	return Remakes{Last: now, Again: min(r.Again, 254) + 1, By: r.By}
}

// pause is how long after Last the next pod may be created.
func (r Remakes) pause() time.Duration {
	if r.Again < freeRemakes {
		return 0
	}
	const doublings = 9 // more than maxPause
	return min(firstPause<<min(r.Again-freeRemakes, doublings), maxPause)
}

// Expired says that the last pod has lasted, or was so long ago that nothing is
// to be learned from it: the entry may be dropped. What comes between the end of
// a pod and the next create, such as an API server that answers late, is not its life.
func (r Remakes) Expired(now time.Time) bool {
	if r.Last.IsZero() || !r.Gone.IsZero() && now.Sub(r.Gone) > 2*maxPause {
		return true
	}
	if !r.Gone.IsZero() {
		now = r.Gone
	}
	return now.Sub(r.Last) > max(2*r.pause(), lasting)
}

// Noticed is the memory of a node on which these pods are seen.
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

// Recalled is r when it has expired while a create was under way, which is not the life of a pod. made says that the pod
// was created; else its successor has waited for long enough.
func (r Remakes) Recalled(made bool, now time.Time) Remakes {
	if r.Last, r.Gone = now, (time.Time{}); !made {
		r.Last = now.Add(-r.pause())
	}
	return r
}

// ends is when the next pod may be created on the node. A change of the node may
// have ended the trouble: then a try is due, but never more than one in a while,
// since the change may as well be part of a loop.
func (r Remakes) ends(n *Node) time.Time {
	pause := r.pause()
	if n.Changed.After(r.Last) {
		pause = min(pause, changedPause)
	}
	return r.Last.Add(pause)
}

// NextBackoff is the back-off after a failed or succeeded pod was deleted at
// now: one second, doubled each time up to 15 minutes, and forgotten after 30
// minutes without one. The caller sets the rest, or uses After.
func NextBackoff(b Backoff, now time.Time) Backoff {
	if b.calm(now) {
		return Backoff{Last: now, Delay: firstBackoff, Remakes: b.Remakes}
	}
	return Backoff{Last: now, Delay: min(2*b.Delay, maxBackoff), Remakes: b.Remakes}
}

// After is NextBackoff for the delete d, which also records what must be known
// of the newest of the pods when they are gone. An update with surge may lose the
// old pod of a node just after the new one.
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

// Waits is the back-off after a pod that was created at that time has gone
// without being bound: its successor is for the scheduler as well. The pauses of
// pods that fail do not change.
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

// handed says that the last that is known of the node is that a pod was refused
// or never bound there. newest is the newest pod that the node still has, or nil.
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

// earlier says that the first pod of the back-off came before that of the delete.
func (b *Backoff) earlier(d *Delete) bool {
	if b.FirstSeen == 0 && d.SeenCreated == 0 {
		return b.First.Before(d.Created)
	}
	return b.FirstSeen < d.SeenCreated
}

// Expired says that the back-off starts afresh: but for Remakes, it holds nothing
// back any more, and the entry may be dropped.
func (b Backoff) Expired(now time.Time) bool {
	return b.calm(now) && (b.Heard.IsZero() || now.Sub(b.Heard) > quietBackoff)
}

// calm says that no pod has failed for so long that the pauses start afresh.
func (b Backoff) calm(now time.Time) bool {
	return b.Delay <= 0 || now.Sub(b.Last) > quietBackoff
}

// forgotten is the first instant at which Expired holds.
func (b Backoff) forgotten() time.Time {
	last := b.Last
	if b.Heard.After(last) {
		last = b.Heard
	}
	return last.Add(quietBackoff + 1)
}

// ends is when a failed pod may be deleted again.
func (b Backoff) ends() time.Time { return b.Last.Add(b.Delay) }
