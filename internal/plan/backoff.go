package plan

import "time"

// The back-off of pods that end: the same numbers as upstream's controller.
const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Minute
	quietBackoff = 2 * maxBackoff // after this much quiet it starts afresh
)

// NextBackoff is the back-off after a failed or succeeded pod was deleted at
// now: one second, doubled each time up to 15 minutes, and forgotten after 30
// minutes without one. The caller sets the rest, or uses After.
func NextBackoff(b Backoff, now time.Time) Backoff {
	if b.Expired(now) {
		return Backoff{Last: now, Delay: firstBackoff}
	}
	return Backoff{Last: now, Delay: min(2*b.Delay, maxBackoff)}
}

// After is NextBackoff for the delete d, which also records what must be known
// of the pod when it is gone.
func (b Backoff) After(d Delete, now time.Time) Backoff {
	next := NextBackoff(b, now)
	next.Pod, next.Refused, next.Hash = d.UID, d.Reason == PodRefused, d.Hash
	next.Created, next.First = d.Created, d.Created
	if d.Hash == b.Hash && !b.Expired(now) && b.First.Before(d.Created) {
		next.First = b.First
	}
	return next
}

// Expired says that the back-off starts afresh: it holds nothing back any
// more, and the entry may be dropped.
func (b Backoff) Expired(now time.Time) bool {
	return b.Delay <= 0 || now.Sub(b.Last) > quietBackoff
}

// forgotten is the first instant at which Expired holds.
func (b Backoff) forgotten() time.Time { return b.Last.Add(quietBackoff + 1) }

// ends is when a failed pod may be deleted again.
func (b Backoff) ends() time.Time { return b.Last.Add(b.Delay) }
