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
	since time.Time   // when the first of the nodes that guard releases were allowed
	// pending is how many nodes were held at the last look, and grew is when that number last grew.
	pending int
	grew    time.Time
}

// Guard returns the guard for the ledger; nil: nothing is held.
func (h *Hold) Guard() *plan.Guard { return h.guard }

// Watch sets whether there is a guard.
func (h *Hold) Watch(is bool) {
	switch {
	case !is:
		h.guard = nil
	case h.guard == nil:
		h.guard = &plan.Guard{}
	}
}

// Allow lets nodes lose their pods in this term, in addition to those already allowed. The next leader counts the pods
// that have not gone by then again.
func (h *Hold) Allow(nodes []string, now time.Time) {
	allowed := map[string]bool{}
	if h.guard != nil {
		maps.Copy(allowed, h.guard.Allowed)
	}
	if len(allowed) == 0 {
		h.since = now
	}
	for _, name := range nodes {
		allowed[name] = true
	}
	h.guard = &plan.Guard{Allowed: allowed}
}

// Judge applies Policy.Guard to the nodes that the ledger holds now. Without a policy nothing goes except what a person
// allows.
func (h *Hold) Judge(p *Policy, l *plan.Ledger, allowed Allowance, now time.Time) (next Guard, lets bool, wake time.Time) {
	h.tidy(l, now)
	if h.guard == nil {
		return h.Kept, false, time.Time{}
	}
	t := l.Totals()
	if t.Guarded > h.pending {
		h.grew = now
	}
	h.pending = t.Guarded
	if p == nil {
		p = &Policy{}
	}
	return p.Guard(h.Kept, &Removals{Running: t.Status.Current + t.Status.Misscheduled, Pending: t.Guarded, Grew: h.grew, Allowed: allowed}, now)
}

// tidy withdraws what a node was allowed once its pod has gone, may stay after all, or has not gone for a long time.
func (h *Hold) tidy(l *plan.Ledger, now time.Time) {
	if h.guard == nil || len(h.guard.Allowed) == 0 {
		return
	}
	if now.Sub(h.since) > LetsFor {
		h.guard = &plan.Guard{}
		return
	}
	left := map[string]bool{}
	for name := range h.guard.Allowed {
		if v := l.Verdict(name); v != nil && v.Spared() {
			left[name] = true
		}
	}
	if len(left) < len(h.guard.Allowed) {
		h.guard = &plan.Guard{Allowed: left}
	}
}
