package rollout

import (
	"maps"
	"time"

	"everynode/internal/plan"
)

// Hold is the guard of a DaemonSet as one process runs it: which pods the ledger must hold, and which were released.
type Hold struct {
	Kept  Guard       // what is kept of it
	guard *plan.Guard // nil: nothing is held
	epoch int
	// since is when each of the nodes that guard releases was allowed to lose its pod.
	since map[string]time.Time
	// pending is how many nodes were held at the last look, and grew is when that number last grew.
	pending int
	grew    time.Time
	// ran is how many nodes had a pod before anything was pending, or taken in the last hour.
	ran int
}

// Guard returns the guard for the ledger; nil: nothing is held.
func (h *Hold) Guard() *plan.Guard { return h.guard }

// Epoch changes when the ledger must look at all nodes again, because the guard holds what it has released. It is zero
// without a guard.
func (h *Hold) Epoch() int {
	if h.guard == nil {
		return 0
	}
	return h.epoch
}

// Watch sets whether there is a guard.
func (h *Hold) Watch(is bool) {
	switch {
	case !is:
		h.guard, h.since = nil, nil
	case h.guard == nil:
		h.guard, h.epoch = &plan.Guard{}, h.epoch+1
	}
}

// Allow lets nodes lose their pods in this term, in addition to those already allowed. The next leader counts the pods
// that have not gone by then again.
func (h *Hold) Allow(nodes []string, now time.Time) {
	since := map[string]time.Time{}
	maps.Copy(since, h.since)
	for _, name := range nodes {
		since[name] = now
	}
	h.release(since, h.guard != nil && h.guard.Waits)
}

// release sets what the guard releases. The ledger may still have the last guard, so that is left as it is.
func (h *Hold) release(since map[string]time.Time, waits bool) {
	h.since, h.guard = since, &plan.Guard{Allowed: map[string]bool{}, Waits: waits}
	for name := range since {
		h.guard.Allowed[name] = true
	}
}

// Judge applies Policy.Guard to the nodes that the ledger holds now, and returns those that may lose their pods. Without a
// policy nothing goes except what a person allows.
func (h *Hold) Judge(p *Policy, l *plan.Ledger, allowed Allowance, now time.Time) (next Guard, lets []string, wake time.Time) {
	expires := h.tidy(l, now)
	if h.guard == nil {
		return h.Kept, nil, time.Time{}
	}
	t, due := l.Totals(), l.Removable()
	if t.Guarded > h.pending {
		h.grew = now
	}
	h.pending = t.Guarded
	if p == nil {
		p = &Policy{}
	}
	in := Removals{Running: h.running(&t, now), Pending: t.Guarded, Due: len(due), Grew: h.grew, Allowed: allowed}
	next, is, wake := p.Guard(h.Kept, &in, now)
	if waits := next.Held == 0 && wake.IsZero() && in.Due < in.Pending; waits != h.guard.Waits {
		h.release(h.since, waits)
		h.epoch, expires = h.epoch+1, now
	}
	if !expires.IsZero() && (wake.IsZero() || expires.Before(wake)) {
		wake = expires
	}
	if !is {
		due = nil
	}
	return next, due, wake
}

// running returns how many nodes have a pod, or had one before the first of the last hour was taken, and before a release
// replaced it. It does not count more of the nodes that had one than may have one now.
func (h *Hold) running(t *plan.Totals, now time.Time) int {
	s, kept := &t.Status, h.Kept.since(now)
	n, taken := s.Current+s.Misscheduled, kept.taken()
	if n > h.ran || taken == 0 && t.Guarded == 0 {
		h.ran = n
	}
	return max(n, min(max(h.ran, kept.Of), s.Desired+s.Misscheduled+taken))
}

// tidy withdraws what a node was allowed once its pod has gone, may stay after all, or has not gone for a long time. It
// returns when to look again.
func (h *Hold) tidy(l *plan.Ledger, now time.Time) (wake time.Time) {
	left, withdrawn := map[string]time.Time{}, false
	for name, since := range h.since {
		ends := since.Add(LetsFor + time.Second)
		switch v := l.Verdict(name); {
		case v == nil || !v.Spared():
		case !ends.After(now):
			withdrawn = true
		default:
			left[name] = since
			if wake.IsZero() || ends.Before(wake) {
				wake = ends
			}
		}
	}
	if len(left) < len(h.since) {
		h.release(left, h.guard.Waits)
	}
	if withdrawn {
		h.epoch++
		return now
	}
	return wake
}
