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
// minutes without one. The caller sets Pod and Refused, or uses After.
func NextBackoff(b Backoff, now time.Time) Backoff {
	if b.Expired(now) {
		return Backoff{Last: now, Delay: firstBackoff}
	}
	return Backoff{Last: now, Delay: min(2*b.Delay, maxBackoff)}
}

// After is NextBackoff for the delete d, which also records what the successor
// must know of the pod: its UID, and whether it was refused.
func (b Backoff) After(d Delete, now time.Time) Backoff {
	b = NextBackoff(b, now)
	b.Pod, b.Refused = d.UID, d.Reason == PodRefused
	return b
}

// Expired says that the back-off starts afresh: it holds nothing back any
// more, and the entry may be dropped.
func (b Backoff) Expired(now time.Time) bool {
	return b.Delay <= 0 || now.Sub(b.Last) > quietBackoff
}

// ends is when a failed pod may be deleted again.
func (b Backoff) ends() time.Time { return b.Last.Add(b.Delay) }
