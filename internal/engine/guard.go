package engine

// The guard of a DaemonSet that follows a policy: what edits of labels or of the placement would take away. Package
// plan says which nodes that is, package rollout whether they may go. That is kept before they do, as all that is said of a release.

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// removals is what is known of them. The worker that has the DaemonSet owns it.
type removals struct {
	kept rollout.Guard
	// guard is what the ledger follows; nil: nothing is held. since is when the first of those were allowed that it lets go.
	guard *plan.Guard
	since time.Time
	// pending is how many nodes were held at the last look, and grew when there were last more than before.
	pending int
	grew    time.Time
}

// watch says whether there is a guard.
func (r *removals) watch(is bool) {
	switch {
	case !is:
		r.guard = nil
	case r.guard == nil:
		r.guard = &plan.Guard{}
	}
}

// allow lets nodes lose their pods in this term, besides those that are let already. The next leader counts what has not
// gone by then once more.
func (r *removals) allow(nodes []string, now time.Time) {
	if len(r.guard.Allowed) == 0 {
		r.since = now
	}
	allowed := maps.Clone(r.guard.Allowed)
	if allowed == nil {
		allowed = map[string]bool{}
	}
	for _, name := range nodes {
		allowed[name] = true
	}
	r.guard = &plan.Guard{Allowed: allowed}
}

// tidy takes back what a node was allowed once its pod has gone or may stay after all, or has not gone for long.
func (r *removals) tidy(l *plan.Ledger, now time.Time) {
	if r.guard == nil || len(r.guard.Allowed) == 0 {
		return
	}
	if now.Sub(r.since) > rollout.LetsFor {
		r.guard = &plan.Guard{}
		return
	}
	left := map[string]bool{}
	for name := range r.guard.Allowed {
		if v := l.Verdict(name); v != nil && v.Spared() {
			left[name] = true
		}
	}
	if len(left) < len(r.guard.Allowed) {
		r.guard = &plan.Guard{Allowed: left}
	}
}

// heldPods are the nodes whose pods the guard holds, and an example of why.
type heldPods struct {
	names        []string
	node, detail string
}

func heldBy(l *plan.Ledger) (h heldPods) {
	l.Nodes(func(v *plan.Verdict) {
		if !v.Guarded() {
			return
		}
		h.names = append(h.names, v.Node)
		if h.node == "" || v.Node < h.node {
			h.node, h.detail = v.Node, cmp.Or(v.Detail, "node affinity")
		}
	})
	return h
}

// text says what is held, and what to do about it; empty: nothing.
func (s *step) text() string {
	if s.guard.Held == 0 {
		return ""
	}
	return fmt.Sprintf("labels or the placement would take the pods of %d nodes away (%s has no %s); put that back, or let them go: everynode rollout allow",
		s.guard.Held, s.held.node, s.held.detail)
}

// removing works out what may go now, and when to look again. A policy that cannot be followed lets nothing go, but by what
// a person allows.
func (e *engine) removing(st *state, next *step) (wake time.Time) {
	c, t := &st.course, st.ledger.Totals()
	r := &c.removals
	r.tidy(&st.ledger, st.now)
	next.guard = r.kept
	if r.guard == nil || c.lacks() {
		return time.Time{}
	}
	if t.Guarded > r.pending {
		r.grew = st.now
	}
	r.pending = t.Guarded
	p := *c.policyOrDefault()
	if c.policy == nil {
		p.Removals = plan.Amount{}
	}
	in := rollout.Removals{Running: t.Status.Current + t.Status.Misscheduled, Pending: t.Guarded, Grew: r.grew}
	if c.entry != nil {
		in.Allowed = view.RolloutAllowance(c.entry.object)
	}
	next.guard, next.lets, wake = p.Guard(r.kept, &in, st.now)
	if t.Guarded > 0 {
		next.held = heldBy(&st.ledger)
	}
	return wake
}
