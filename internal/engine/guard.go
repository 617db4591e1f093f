package engine

// The guard of a DaemonSet that follows a policy: which pods edits of labels or of the placement would take away.
// Package plan says which nodes those are, and package rollout whether the pods may go. That is saved before they go,
// like everything about a release.

import (
	"fmt"
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// heldPods is one of the nodes whose pods the guard holds, and why.
type heldPods struct{ node, detail string }

func heldBy(l *plan.Ledger) (h heldPods) {
	l.Nodes(func(v *plan.Verdict) {
		if v.Guarded() && (h.node == "" || v.Node < h.node) {
			h.node, h.detail = v.Node, v.Detail
		}
	})
	return h
}

// text returns what is held and what to do about it; empty: nothing.
func (s *step) text() string {
	if s.guard.Held == 0 {
		return ""
	}
	nodes := "nodes"
	if s.guard.Held == 1 {
		nodes = "node"
	}
	return fmt.Sprintf("labels or the placement would take the pods of %d %s away (%s %s); revert that, or let the pods go: everynode rollout allow",
		s.guard.Held, nodes, s.held.node, s.held.misfit())
}

// misfit returns why the template is not for the node. Of what decides that (see plan.Eligibility), only a taint has a
// colon, only a label has an equals sign, and the affinity has no text.
func (h heldPods) misfit() string {
	switch {
	case h.detail == "":
		return "does not match the node affinity"
	case strings.Contains(h.detail, ":"):
		return "has the taint " + h.detail
	case strings.Contains(h.detail, "="):
		return "has no " + h.detail
	}
	return "is not " + h.detail + ", which nodeName says"
}

// tellHeld reports removals that are held where no object records it.
func tellHeld(e *engine, set *setEntry, c *course, next *step) {
	if next.guard.Held > 0 && c.removals.Kept.Held == 0 {
		e.events.removalsHeld(set.ds, next.text())
	}
}

// removing computes what may go now, and when to look again. A policy that cannot be followed, or that no object could
// keep a record for, lets nothing go except what a person allows.
func (e *engine) removing(st *state, next *step) (wake time.Time) {
	c := &st.course
	if c.assists {
		return time.Time{}
	}
	var p *rollout.Policy
	if c.policy != nil {
		p = &c.policy.policy
	}
	var allowed rollout.Allowance
	if c.entry != nil {
		allowed = view.RolloutAllowance(c.entry.object)
	}
	if next.guard, next.lets, wake = c.removals.Judge(p, &st.ledger, allowed, st.now); st.ledger.Totals().Guarded > 0 {
		next.held = heldBy(&st.ledger)
	}
	return wake
}
