package engine

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// following is the part of a release that a ledger was started with: the rest of it may change while the ledger
// continues. The zero value is not a release.
type following struct {
	release     releaseID
	restarts    int
	startWithin int64 // nanoseconds
	back        bool
	rolls       bool
	guards      int // Hold.Epoch
	atRest      bool
	rests       rollout.Reason
	stable      *stableRevision
	layout      *rollout.Layout
}

func (c *course) following() following {
	r, guards := c.release, c.removals.Epoch()
	if r == nil {
		return following{rolls: c.rolls(), guards: guards, atRest: c.atRest, rests: c.rests}
	}
	return following{rolls: c.rolls(), guards: guards, release: c.releaseID(), restarts: r.Restarts, startWithin: int64(r.StartWithin), back: r.Back, stable: c.stable, layout: c.order.layout}
}

// rolls reports whether outdated pods are replaced regardless of the DaemonSet's strategy: during a release; after it,
// on nodes that were down all the time, unless that rests; and when the template was reverted, which needs no policy.
func (c *course) rolls() bool {
	switch {
	case c.release != nil:
		return true
	case c.leaveIt, c.problem == rollout.NotDriven, !c.behind.IsZero(): // the next revision is then not known, with or without a policy
		return false
	}
	return c.state.Reverting || c.driven && c.state.Stable != "" && c.problem == rollout.NoReason && c.rests == rollout.NoReason
}

// strategy returns how outdated pods are replaced, given the strategy of the DaemonSet.
func (c *course) strategy(of plan.Strategy) plan.Strategy {
	switch {
	case c.rolls():
		return plan.RollingUpdate
	case c.release == nil && c.rests != rollout.NoReason:
		return plan.OnDelete
	}
	return of
}

// specify sets the fields of a specification that the plan uses.
func (c *course) specify(spec *plan.Spec) {
	if c.assists {
		spec.Assists, spec.Strategy, spec.MaxSurge = true, plan.OnDelete, plan.Amount{}
	}
	spec.Strategy, spec.Patient = c.strategy(spec.Strategy), c.atRest
}

// rest computes whether the policy has released the revision to all nodes, and why nodes that missed it wait.
func (c *course) rest(hash string, now time.Time) {
	c.atRest = c.driven && c.problem == rollout.NoReason && c.state.Stable == hash && c.state.Target == hash && !c.state.Reverting
	if c.policy == nil || c.entry == nil || !c.atRest {
		return
	}
	requests, _ := view.RolloutRequests(c.entry.object) // their errors are in the report
	c.rests = c.policy.policy.Rests(&requests, now)
}

// goOn makes the ledger follow the current release, and adds to names the nodes that the release has reached.
func (s *state) goOn(names []string) []string {
	s.ledger.Guard(s.course.removals.Guard())
	before, now := s.ledger.Follows(), s.course.release
	if now == nil {
		return names
	}
	s.ledger.Follow(now)
	order := s.course.order.layout.Order
	from, to := min(before.Quota, now.Quota), max(before.Quota, now.Quota)
	return append(names, order[min(from, len(order)):min(to, len(order))]...)
}

// reaches returns the release, if a write gives its target to a node.
func (c *course) reaches(is bool) releaseID {
	if c.release == nil || c.release.Back || !is {
		return releaseID{}
	}
	return c.releaseID()
}

// releaseID identifies the release under way.
func (c *course) releaseID() releaseID { return releaseID{c.keeper(), c.release.Number} }

// keeper returns the UID of the object that keeps the state, as this process has read or written it last.
func (c *course) keeper() types.UID {
	if c.own == nil {
		return ""
	}
	return c.own.object.UID
}
