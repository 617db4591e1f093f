package engine

// The releases of DaemonSets that follow a policy. Package rollout says how far a release may go (advance), and package
// plan derives which revision each node gets (steer). The result of rollout is saved in the status of a
// DaemonSetRollout before anything acts on it, so the next leader knows at least as much.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// course is what is known about the release of one DaemonSet. The worker that has the DaemonSet owns it.
type course struct {
	guidance
	// steered means that it is known in this term whether the DaemonSet follows a policy, and what state is saved.
	steered bool
	// read means that the state was read from the server in this term: what a watch shows may be older than
	// what the last leader did.
	read bool
	// entry is the object that keeps the state; nil: there is none.
	entry *rolloutEntry
	// own is the object as this process has read or written it last; nil: there was none.
	own   *rolloutEntry
	state rollout.State
	// heeded are the requests that the saved state was computed with.
	heeded rollout.Requests
	kept   bool      // the state is saved, except for counts since then
	wrote  time.Time // when the status was last written

	stable *stableRevision // of state.Stable; nil: not read yet
	order  ranks
	// release is what the ledger follows; nil: none is under way.
	release *plan.Release
	// holds means that nothing may be done before the state has advanced: it is not saved, or not about the current
	// template yet.
	holds bool
	// unsure means that the outcome of its last write is unknown, so it is read again.
	unsure bool
	// lost means that others have deleted the saved state of a release under way.
	lost bool
	// stuck means that saving the state failed the last time. Then nothing is granted, but pods are still repaired
	// according to the saved state.
	stuck bool
	// unkept is what would be saved, if the cluster has no objects for that.
	unkept view.DaemonSetRolloutStatus
	// failures counts how often saving failed in a row, even if nothing is granted anyway.
	failures int
	removals rollout.Hold
	// assists means that another controller has the pods; behind is since when it has not observed the last change;
	// zero: it has.
	assists bool
	behind  time.Time
	// leaveIt means that the other controller replaces outdated pods by itself (RollingUpdate).
	leaveIt bool
	// atRest means that the policy has released the revision to all nodes except those that missed it; rests is why
	// these wait; NoReason: they do not.
	atRest bool
	rests  rollout.Reason
	// failed is since when nodes have failed, by name.
	failed map[string]time.Time
}

// steer computes what the ledger must follow. A DaemonSet without a policy and without a saved release costs nothing.
func (e *engine) steer(ctx context.Context, set *setEntry, hash string, st *state) error {
	c := &st.course
	c.guidance, c.atRest, c.rests = e.index.policyOf(set.ds), false, rollout.NoReason
	if c.assists {
		c.yields(set.ds)
	}
	entry := e.index.rolloutOf(set.ds)
	if !c.driven && !c.read && !c.unsure && entry.blank() && !c.inRelease(set.ds, e.index) {
		c.removals.Watch(false)
		e.leaves(set, c)
		return nil
	}
	if err := e.readCourse(ctx, set, st, entry); err != nil {
		return err
	}
	c.removals.Watch(!c.assists && (c.driven || c.removals.Kept.Held > 0 || entry != nil && !e.index.knowsPolicies()))
	if !c.driven && c.state.Stable == "" {
		c.state = rollout.State{Release: c.state.Release} // nothing was under way: see unnoticed
	}
	if !c.driven && c.state.Phase == rollout.Idle && !c.lost {
		e.leaves(set, c)
		return nil
	}
	if e.meet(set, hash, c); !c.driven && c.state.Unsure {
		c.wrong = []string{fmt.Sprintf("the DaemonSet follows no policy: resume waits for one, and plain gives %s to all nodes", c.state.Target)}
	}
	c.rest(hash, time.Now())
	atRest := c.state.Stable == hash && c.state.Target == hash
	c.holds = !atRest && (!c.kept || c.state.Target != hash)
	if c.state.Stable == "" || c.state.Stable == hash && !c.state.Back {
		e.index.attend(string(set.ds.UID), false)
		e.pulse.follow(set.ds.UID, keyOf(set.ds), false)
		c.release = nil // every node gets the current template, or it is not known yet what else
		return nil
	}
	return e.follow(ctx, set, hash, st)
}

// leaves handles a DaemonSet that follows no policy.
func (e *engine) leaves(set *setEntry, c *course) {
	if c.release != nil {
		e.index.attend(string(set.ds.UID), false)
		e.pulse.follow(set.ds.UID, keyOf(set.ds), false)
	}
	c.release, c.holds = nil, false
}

// meet handles a DaemonSet without saved state, or whose saved state is obsolete: it was without a policy, or managed
// by another controller, and no longer has a pod of the stable revision; or the state has outlived its DaemonSet.
func (e *engine) meet(set *setEntry, hash string, c *course) {
	stale := c.state.Phase == rollout.Idle && c.state.Target != hash
	taken := c.problem == rollout.NotDriven && c.state.Stable != hash
	gone := c.outlived(set.ds, hash, e.index)
	if c.problem == rollout.ViewIncomplete || c.problem == rollout.NotObserved || c.state.Stable != "" && !stale && !taken && !gone {
		return
	}
	pods, exposed, _ := e.index.revisionsInUse(set, hash, time.Now())
	_, has := pods[c.state.Stable]
	_, all := pods[hash]
	switch {
	case c.state.Stable == "", gone && len(pods) == 0: // nothing is known, or nothing of it is left
	case stale && (has || len(pods) == 0):
		return
	case !stale && (!taken || !all || len(pods) > 1):
		return // the other controller has not given all nodes the target
	}
	first := rollout.First(hash, pods, exposed)
	if c.lost {
		first = rollout.Lost(hash, pods, exposed)
	}
	first.Release += c.state.Release
	c.state, c.kept, c.lost = first, false, false
}

// outlived reports whether the state may be that of a deleted DaemonSet of the same name: it is about another template,
// or from before the DaemonSet was created, and its stable revision is gone. Then it protects nothing, as long as there
// are no pods. An object that people have created has no owner, so it is not deleted with its DaemonSet.
func (c *course) outlived(ds *appsv1.DaemonSet, hash string, ix *index) bool {
	older := !c.state.Opened.IsZero() && c.state.Opened.Before(ds.CreationTimestamp.Time)
	return (older || c.state.Target != hash) && ix.revisionName(ds, c.state.Stable) == ""
}

// follow sets the release that the ledger follows: the one in the saved state, or, while that is about another
// template, one in which nothing is granted, only for its counts.
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
	e.pulse.follow(set.ds.UID, keyOf(set.ds), needed(c.state.Phase))
	e.rank(set, hash, number, st)
	p := c.policyOrDefault()
	r := &plan.Release{Number: number, Stable: c.stable.spec, Ranks: c.order.places, Steps: c.order.steps,
		StartWithin: p.Failure.StartWithin, Restarts: p.Failure.Restarts}
	if !c.holds {
		r.Quota, r.Back, r.Forgiven = c.order.layout.Quota(p, &c.state), c.state.Back, c.state.Forgiven
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

// proceed advances the release after a decision, and returns when to look again. With an error, nothing of the decision
// may be carried out.
func (e *engine) proceed(ctx context.Context, set *setEntry, hash string, st *state) (again time.Time, err error) {
	c := &st.course
	repairs := c.release == nil && !c.holds || c.release != nil && c.stuck // nothing was granted
	if c.holds && !repairs || c.release != nil && c.release.Back && c.stable.gone != nil {
		e.undecided(st) // in the second case, deleted pods could not be replaced
	}
	again, err = e.advance(ctx, set, hash, st)
	failed := err != nil && !errors.Is(err, errReplan)
	e.tellFailures(set, c, failed && ctx.Err() == nil, err)
	if failed && repairs && ctx.Err() == nil {
		e.log.Warn("a release does not continue, because its state cannot be saved", "daemonSet", st.id.String(), "err", err)
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

// tellFailures reports a state that cannot be saved, once: after the second failure in a row, since a single one may be
// a restart of the API server.
func (e *engine) tellFailures(set *setEntry, c *course, failed bool, err error) {
	if !failed {
		c.failures = 0
		return
	}
	if c.failures++; c.failures == 2 {
		e.events.stands(set.ds, view.ReasonStateNotKept, err)
	}
}

// step is how far a release advances in one look.
type step struct {
	state rollout.State
	guard rollout.Guard
	seen  rollout.Seen
	held  heldPods
	lets  []string // nodes whose held pods may go
	moved bool     // more than counts has changed
}

// advance lets the release go as far as the observations allow, and saves the result. The next decision, which follows
// at once, acts on it. The returned time is when to look again.
func (e *engine) advance(ctx context.Context, set *setEntry, hash string, st *state) (again time.Time, err error) {
	c := &st.course
	if !c.driven && !c.read || c.driven && c.state.Stable == "" {
		return time.Time{}, nil
	}
	next, wake := step{seen: e.seen(set, hash, st), state: rollout.State{Release: c.state.Release}}, time.Time{}
	switch {
	case c.driven || c.state.Phase != rollout.Idle:
		next.state, wake = rollout.Advance(c.policyOrDefault(), c.state, &next.seen, st.now)
		if !c.driven && next.state.Phase == rollout.Idle {
			next.state.Reason = rollout.NoReason // it needs no policy from now on
		}
	case !e.index.knowsPolicies():
		return time.Time{}, nil // it may follow one
	}
	wake = earlier(wake, e.removing(st, &next))
	if next.seen.Unwell && c.release != nil {
		wake = earlier(wake, st.now.Add(rollout.KeepAgain)) // time alone ends it
	}
	next.moved = !c.kept || !sameCourse(next.state, c.state) || len(next.lets) > 0 || (next.guard.Held > 0) != (c.removals.Kept.Held > 0)
	if c.lacks() {
		e.tellUnkept(set, st, &next)
		tellHeld(e, set, c, &next)
		c.keeps(&next)
	} else if due, err := e.keep(ctx, set, st, &next); err != nil || !due.IsZero() {
		return earlier(wake, due), err
	}
	if len(next.lets) > 0 {
		c.removals.Allow(next.lets, st.now)
	}
	if next.moved {
		e.undecided(st) // decisions based on the previous state
		st.past = nil   // other revisions may be needed now
		return st.now, nil
	}
	return wake, nil
}

// seen returns the observations for the release.
func (e *engine) seen(set *setEntry, hash string, st *state) rollout.Seen {
	c, t := &st.course, st.ledger.Totals()
	most, surge := st.ledger.Spec().Budget(t.Status.Desired)
	in := rollout.Seen{Target: hash, Exposed: t.Exposure.Exposed, Well: t.Exposure.Well, UnderWay: t.Exposure.UnderWay,
		Failed: t.Exposure.Failed, Refused: t.Exposure.Refused, Other: t.Exposure.Other, Stranded: t.Exposure.Stranded, Bound: max(most, surge), Problem: c.problem,
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
		in.Heeded = c.lastHeeded(in.Requests)
	}
	return in
}

// reportOn returns what people read in addition to the state.
func (e *engine) reportOn(set *setEntry, st *state, next *step) view.RolloutReport {
	c, in, t := &st.course, &next.seen, st.ledger.Totals().Exposure
	r := view.RolloutReport{Assists: c.assists, Refused: in.Refused, Guard: next.guard, HeldText: next.text(), Wrong: c.wrong, Now: st.now, Nodes: view.RolloutNodes{Exposed: in.Exposed, Well: in.Well, UnderWay: in.UnderWay,
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
			Message: failureText(e.index, set.ds.UID, v, st.refusal(v.Node)), Since: metav1.NewTime(failed[v.Node])})
	})
	c.failed = failed
	slices.SortFunc(r.Failures, func(a, b view.RolloutFailure) int {
		return cmp.Or(a.Since.Compare(b.Since.Time), cmp.Compare(a.Node, b.Node))
	})
	return r
}

// failureText returns what people read about a node that has failed: which pod is in what trouble, or who refuses one.
func failureText(ix *index, set types.UID, v *plan.Verdict, by refusal) string {
	text := cmp.Or(ix.trouble(set, v.Node, v.Pod), v.Reason.Sentence())
	switch {
	case v.Failure() == plan.NotAdmitted:
		return by.what
	case v.Pod == "":
		return text
	}
	return v.Pod + ": " + text
}

// spent returns why a release cannot continue although it may: nodes that have failed, or whose pods were not ready
// before it, use up the budget; empty: it can continue.
func (s *state) spent(in *rollout.Seen) string {
	t := s.ledger.Totals()
	most, surge := s.ledger.Spec().Budget(t.Status.Desired)
	if s.course.release == nil || !s.course.release.Grants || surge > 0 || in.UnderWay > in.Failed || t.Down < most {
		return ""
	}
	return fmt.Sprintf("%d of the %d nodes that may be down are already down, so no other node is updated until they recover; everynode why shows them", t.Down, most)
}
