package engine

// The releases of DaemonSets that follow a policy. Package rollout says how far one may go (advance),
// and package plan which revision each node is for by that (steer). What rollout says is kept in the status
// of a DaemonSetRollout before anything is done by it: so whoever leads next knows at least as much.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// course is what is known of the release of one DaemonSet. The worker that has the DaemonSet owns it.
type course struct {
	guidance
	// steered says that it was found out in this term whether the DaemonSet follows a policy, and what is kept.
	steered bool
	// read says that the state was read from the server in this term: what a watch shows may be older than
	// what the last leader did.
	read bool
	// entry is the object that keeps the state; nil: there is none.
	entry *rolloutEntry
	// own is the object as this process has read or written it last; nil: there was none.
	own   *rolloutEntry
	state rollout.State
	kept  bool      // the state is kept, but for what was counted since
	wrote time.Time // when the status was last written

	stable *stableRevision // of state.Stable; nil: not read yet
	order  ranks
	// release is what the ledger follows; nil: none is under way.
	release *plan.Release
	// holds says that nothing may be done before the state has gone on: it is not kept, or not about the
	// present template yet.
	holds bool
	// unsure says that nobody knows whether the last write of it took effect, so it is read once more.
	unsure bool
	// lost says that what was kept of a release under way was deleted by others.
	lost bool
	// stuck says that the state could not be kept the last time. Then nothing is granted, but what is there is
	// repaired by the state that is kept.
	stuck bool
	// unkept is what would be kept, where the cluster has no objects for that.
	unkept view.DaemonSetRolloutStatus
	// failures counts how often that was so in a row, also where nothing is granted anyway.
	failures int
	removals rollout.Hold
	// assists says that another controller has the pods, and behind since when it has not taken notice of the last change;
	// zero: it has.
	assists bool
	behind  time.Time
	// leaveIt says that the other controller replaces outdated pods by itself (RollingUpdate).
	leaveIt bool
	// atRest says that the policy has released the revision to all nodes but those that have missed it, and rests why these wait;
	// NoReason: they need not.
	atRest bool
	rests  rollout.Reason
	// failed is since when nodes have failed, by name.
	failed map[string]time.Time
}

// steer works out what the ledger is to follow. A DaemonSet without a policy, which no release is kept of, costs nothing.
func (e *engine) steer(ctx context.Context, set *setEntry, hash string, st *state) error {
	c := &st.course
	c.guidance, c.atRest, c.rests = e.index.policyOf(set.ds), false, rollout.NoReason
	if c.assists {
		c.yields(set.ds)
	}
	entry := e.index.rolloutOf(set.ds)
	if !c.driven && !c.read && !c.unsure && (entry == nil || entry.object.Status.Phase == "") {
		c.removals.Watch(false)
		e.leaves(set, c)
		return nil
	}
	if err := e.readCourse(ctx, set, c, entry); err != nil {
		return err
	}
	c.removals.Watch(!c.assists && (c.driven || c.removals.Kept.Held > 0 || entry != nil && !e.index.knowsPolicies()))
	if !c.driven && c.state.Stable == "" {
		c.state = rollout.State{Release: c.state.Release} // nothing was under way: see unnoticed
	}
	if !c.driven && c.state.Phase == rollout.Idle {
		e.leaves(set, c)
		return nil
	}
	e.meet(set, hash, c)
	c.rest(hash, time.Now())
	atRest := c.state.Stable == hash && c.state.Target == hash
	c.holds = !atRest && (!c.kept || c.state.Target != hash)
	if c.state.Stable == "" || c.state.Stable == hash && !c.state.Back {
		e.index.attend(string(set.ds.UID), false)
		c.release = nil // every node is for the present template, or it is not known yet what else
		return nil
	}
	return e.follow(ctx, set, hash, st)
}

// leaves is for a DaemonSet that follows no policy.
func (e *engine) leaves(set *setEntry, c *course) {
	if c.release != nil {
		e.index.attend(string(set.ds.UID), false)
	}
	c.release, c.holds = nil, false
}

// meet is for a DaemonSet of which nothing is kept, or what is kept is of another time: it was without a policy, or
// in the hands of another controller, and has no pod of the stable revision any more.
func (e *engine) meet(set *setEntry, hash string, c *course) {
	stale := c.state.Phase == rollout.Idle && c.state.Target != hash
	taken := c.problem == rollout.NotDriven && c.state.Stable != hash
	if c.problem == rollout.ViewIncomplete || c.problem == rollout.NotObserved || c.state.Stable != "" && !stale && !taken {
		return
	}
	pods, exposed, _ := e.index.revisionsInUse(set, hash, time.Now())
	if _, all := pods[hash]; c.state.Stable != "" && !stale && (!all || len(pods) > 1) {
		return // the other controller has not given all nodes the target
	}
	if _, has := pods[c.state.Stable]; stale && c.state.Stable != "" && (has || len(pods) == 0) {
		return
	}
	first := rollout.First(hash, pods, exposed)
	if first.Release += c.state.Release; c.lost && first.Stable != first.Target {
		// It may have been taken back: only a person knows.
		first.Unsure, first.Stopped, first.Stops = true, true, 1
	}
	c.state, c.kept, c.lost = first, false, false
}

// follow makes the release that the ledger follows: of the state that is kept, or, while that is about another
// template, one in which nothing is granted, for what it counts.
func (e *engine) follow(ctx context.Context, set *setEntry, hash string, st *state) error {
	c := &st.course
	if c.assists {
		c.nameStable(set)
	} else if err := e.needStable(ctx, set, c); err != nil {
		return err
	}
	number := c.state.Release
	if c.state.Target != hash {
		number++
	}
	e.index.attend(string(set.ds.UID), true)
	e.rank(set, hash, number, st)
	p := c.policyOrDefault()
	r := &plan.Release{Number: number, Stable: c.stable.spec, Ranks: c.order.places, Steps: c.order.steps,
		StartWithin: p.Failure.StartWithin, Restarts: p.Failure.Restarts}
	if !c.holds {
		r.Quota, r.Back, r.Forgiven = c.state.Quota, c.state.Back, c.state.Forgiven
		r.Grants = c.state.Grants() && c.stable.gone == nil && !c.stuck
	}
	c.release = r
	return nil
}

func (c *course) policyOrDefault() *rollout.Policy {
	if c.policy != nil {
		return &c.policy.policy
	}
	p := rollout.Default()
	return &p
}

// proceed lets the release go on after a decision, and says when to look again. With an error nothing may be done of what
// was decided.
func (e *engine) proceed(ctx context.Context, set *setEntry, hash string, st *state) (again time.Time, err error) {
	c := &st.course
	repairs := c.release == nil && !c.holds || c.release != nil && c.stuck // nothing was granted
	if c.holds && !repairs || c.release != nil && c.release.Back && c.stable.gone != nil {
		e.undecided(st) // what would go could not be replaced, in the second case
	}
	again, err = e.advance(ctx, set, hash, st)
	failed := err != nil && !errors.Is(err, errReplan)
	e.tellFailures(set, c, failed && ctx.Err() == nil, err)
	if failed && repairs && ctx.Err() == nil {
		e.log.Warn("a release stands still, because its state cannot be kept", "daemonSet", st.id.String(), "error", err)
		return st.now.Add(rollout.KeepAgain), nil
	}
	if failed && !c.stuck && c.release != nil {
		again = earlier(again, st.now.Add(rollout.KeepAgain))
	}
	if c.stuck && !failed {
		again = st.now // nothing was granted in this decision: the next one may
	}
	c.stuck = failed
	if c.release != nil { // else nobody asks for an order
		again = earlier(again, c.order.stale(e.index.nodeChanges(), st.mends()))
	}
	return again, err
}

// tellFailures tells of a state that cannot be kept, once: with the second time in a row, since one may be an API server that starts again.
func (e *engine) tellFailures(set *setEntry, c *course, failed bool, err error) {
	if !failed {
		c.failures = 0
		return
	}
	if c.failures++; c.failures == 2 {
		e.events.stands(set.ds, view.ReasonStateNotKept, err)
	}
}

// step is how far a release goes by one look.
type step struct {
	state rollout.State
	guard rollout.Guard
	seen  rollout.Seen
	held  heldPods
	lets  bool // what is held may go
	moved bool // more has changed than what is counted
}

// advance lets the release go as far as it may by what was seen, and keeps that. What is to be done by it
// is for the next decision, which then comes at once. The time is when to look again.
func (e *engine) advance(ctx context.Context, set *setEntry, hash string, st *state) (again time.Time, err error) {
	c := &st.course
	if !c.driven && !c.read || c.driven && c.state.Stable == "" {
		return time.Time{}, nil
	}
	next, wake := step{seen: e.seen(set, hash, st), state: rollout.State{Release: c.state.Release}}, time.Time{}
	switch {
	case c.driven || c.state.Phase != rollout.Idle:
		next.state, wake = rollout.Advance(c.policyOrDefault(), c.state, &next.seen, st.now)
	case !e.index.knowsPolicies():
		return time.Time{}, nil // it may follow one
	}
	wake = earlier(wake, e.removing(st, &next))
	if next.seen.Unwell && c.release != nil {
		wake = earlier(wake, st.now.Add(rollout.KeepAgain)) // time alone ends it
	}
	next.moved = !c.kept || !sameCourse(next.state, c.state) || next.lets || (next.guard.Held > 0) != (c.removals.Kept.Held > 0)
	if c.lacks() {
		e.tellUnkept(set, st, &next)
		c.keeps(&next)
	} else if due, err := e.keep(ctx, set, st, &next); err != nil || !due.IsZero() {
		return earlier(wake, due), err
	}
	if next.lets {
		c.removals.Allow(next.held.names, st.now)
	}
	if next.moved {
		e.undecided(st) // what was decided by the state of before
		st.past = nil   // other revisions may be needed now
		return st.now, nil
	}
	return wake, nil
}

// seen is what the release is to go by.
func (e *engine) seen(set *setEntry, hash string, st *state) rollout.Seen {
	c, t := &st.course, st.ledger.Totals()
	most, surge := st.ledger.Spec().Budget(t.Status.Desired)
	in := rollout.Seen{Target: hash, Exposed: t.Exposure.Exposed, Well: t.Exposure.Well, UnderWay: t.Exposure.UnderWay,
		Failed: t.Exposure.Failed, Other: t.Exposure.Other, Stranded: t.Exposure.Stranded, Bound: max(most, surge), Problem: c.problem,
		Assists: c.assists,
		Unwell:  e.apply.silent(st.now) || e.api.health.unwell(st.now), Layout: c.order.layout}
	switch {
	case c.problem != rollout.NoReason:
	case !c.driven:
		in.Problem = rollout.PolicyGone
	case c.stable != nil && c.stable.gone != nil && c.stable.hash == c.state.Stable:
		in.Problem = rollout.StableGone
	case c.release != nil && !c.release.Back && e.cfg.Monitor.clockIsOff():
		in.Problem = rollout.ClockSkew
	}
	if s := &t.Status; c.release == nil && (c.holds || c.state.Reverting || s.Updated < s.Current) {
		_, _, in.Other = e.index.revisionsInUse(set, hash, st.now)
	}
	if in.Layout != nil {
		in.Counts = make([]rollout.Counts, len(in.Layout.Steps))
		for i, n := range t.Exposure.Reachable {
			in.Counts[i].Candidates = n
		}
	}
	if c.entry != nil {
		in.Requests, _ = view.RolloutRequests(c.entry.object) // what is wrong with them is in the report
	}
	return in
}

// reportOn is what people read beside the state.
func (e *engine) reportOn(set *setEntry, st *state, next *step) view.RolloutReport {
	c, in, t := &st.course, &next.seen, st.ledger.Totals().Exposure
	r := view.RolloutReport{Assists: c.assists, Guard: next.guard, HeldText: next.text(), Wrong: c.wrong, Now: st.now, Nodes: view.RolloutNodes{Exposed: in.Exposed, Well: in.Well, UnderWay: in.UnderWay,
		Failed: in.Failed, Other: in.Other, Leaked: t.Leaked, Eligible: st.ledger.Status().Desired}}
	if c.policy != nil {
		r.Policy = &c.policy.policy
	}
	if c.entry != nil {
		_, wrong := view.RolloutRequests(c.entry.object)
		r.Generation, r.Wrong = c.entry.object.Generation, append(wrong, r.Wrong...)
	}
	if note := st.spent(in); note != "" {
		r.Wrong = append(r.Wrong, note)
	}
	if in.Layout != nil && c.release != nil {
		r.Nodes.Eligible = len(in.Layout.Order)
	}
	if in.Failed == 0 {
		c.failed = nil
		return r
	}
	failed := map[string]time.Time{}
	st.ledger.Nodes(func(v *plan.Verdict) {
		if v.Failure() == plan.Unfailed {
			return
		}
		failed[v.Node] = cmp.Or(c.failed[v.Node], st.now)
		r.Failures = append(r.Failures, view.RolloutFailure{Node: v.Node, Reason: v.Failure().String(),
			Message: strings.TrimSpace(v.Pod + ": " + cmp.Or(e.index.trouble(set.ds.UID, v.Node, v.Pod), v.Reason.Sentence())), Since: metav1.NewTime(failed[v.Node])})
	})
	c.failed = failed
	slices.SortFunc(r.Failures, func(a, b view.RolloutFailure) int {
		return cmp.Or(a.Since.Compare(b.Since.Time), cmp.Compare(a.Node, b.Node))
	})
	return r
}

// spent says that a release cannot go on although it may, since nodes that have failed, or whose pods were not ready before it,
// take all that the budget has; empty: it can.
func (s *state) spent(in *rollout.Seen) string {
	t := s.ledger.Totals()
	most, surge := s.ledger.Spec().Budget(t.Status.Desired)
	if s.course.release == nil || !s.course.release.Grants || surge > 0 || in.UnderWay > in.Failed || t.Down < most {
		return ""
	}
	return fmt.Sprintf("%d of the %d nodes that may be down are, so no other is taken until they are mended; why shows them", t.Down, most)
}
