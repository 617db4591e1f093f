package engine

// The engine beside another controller (Config.Assist). That controller creates, repairs and removes the pods of all
// DaemonSets, keeps their revisions and writes their status. For DaemonSets that follow a policy and whose strategy is
// OnDelete, this engine decides when outdated pods go. Apart from deletes it writes only the state of releases.

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// assist brings the release of one DaemonSet up to date. The other controller handles the DaemonSet itself.
func (e *engine) assist(ctx context.Context, set *setEntry, st *state) error {
	c := &st.course
	c.assists = true
	entry := e.index.rolloutOf(set.ds)
	followed := c.read || c.unsure || !entry.blank()
	if set.spec.Halt != plan.NoReason || !followed && !e.index.policyOf(set.ds).driven {
		e.undecided(st)
		return nil
	}
	hash, due, retry := "", time.Time{}, time.Time{}
	err := e.readCourse(ctx, set, st, entry)
	if err == nil {
		hash, due, err = e.observed(set, st)
	}
	switch {
	case err != nil:
	case hash != "":
		if err = e.readNewer(ctx, set.ds, st); err == nil {
			retry, err = e.actAt(ctx, set, hash, st)
		}
	case due.IsZero():
		due, err = e.unnoticed(ctx, set, st)
	}
	if err != nil || hash == "" {
		e.undecided(st)
		if e.wake(keyOf(set.ds), due); errors.Is(err, errReplan) {
			return nil // it is already in the queue
		}
		return err // and it is retried
	}
	e.wake(keyOf(set.ds), st.ledger.WakeAt(), retry, due)
	return nil
}

// observed returns the revision from which the other controller creates pods, once it has observed the last change.
// Until then, after a while, it is the previous revision, so that the release can say what it waits for; empty: none is
// known. due is when to ask again; zero: an event will announce the change.
func (e *engine) observed(set *setEntry, st *state) (hash string, due time.Time, err error) {
	c, ds, now := &st.course, set.ds, time.Now()
	if p, epochs := st.past, e.index.epochs(ds); p == nil || p.epochs != epochs || p.generation != ds.Generation || p.collisions != collisions(ds) {
		h, err := view.History(ds, e.index.revisionsOf(ds), e.liveHashes(ds))
		if err != nil {
			return "", time.Time{}, fmt.Errorf("finding the revision of the template: %w", err)
		}
		st.past = nil
		if h.Create == nil && !h.Collision && len(h.Update) == 0 {
			st.past = &past{ds.Generation, collisions(ds), epochs, h.Hash}
		}
	}
	if st.past != nil && ds.Status.ObservedGeneration >= ds.Generation {
		c.behind = time.Time{}
		return st.past.hash, time.Time{}, nil
	}
	if c.behind.IsZero() {
		c.behind = now
	}
	if due = c.behind.Add(rollout.NoticeWithin); due.After(now) {
		return "", due, nil
	}
	return c.state.Target, time.Time{}, nil
}

// unnoticed reports on the DaemonSetRollout that the other controller has not observed a DaemonSet that has no revision
// yet. It is unknown what its next pods will be made from, so there is nothing to decide, but people who made it follow
// a policy must be told. due is when to write again.
func (e *engine) unnoticed(ctx context.Context, set *setEntry, st *state) (due time.Time, err error) {
	c := &st.course
	if c.guidance = e.index.policyOf(set.ds); c.lacks() {
		return time.Time{}, nil
	}
	c.yields(set.ds)
	e.leaves(set, c)
	e.observe(set, nil, st) // for the counts that are told
	next := step{state: rollout.State{Release: c.state.Release}, seen: e.seen(set, "", st)}
	if c.driven {
		next.state.Phase, next.state.Reason = rollout.Held, rollout.NotObserved
	}
	next.moved = !sameCourse(next.state, c.state)
	return e.keep(ctx, set, st, &next)
}

// nameStable is needStable for an engine that creates no pods: the template alone decides which nodes have one.
func (c *course) nameStable(set *setEntry) {
	if s := c.stable; s == nil || s.hash != c.state.Stable || s.of.Generation != set.ds.Generation {
		c.stable = &stableRevision{hash: c.state.Stable, of: set.ds, spec: set.spec}
		c.stable.spec.Hash, c.stable.spec.Generation, c.stable.spec.Assists = c.state.Stable, 0, true
	}
}

// yields records what prevents the policy, if any, from being followed beside another controller.
func (c *course) yields(ds *appsv1.DaemonSet) {
	undriven := view.UndrivenBeside(ds)
	c.leaveIt = undriven == view.RolledOut
	switch {
	case !c.driven:
	case !c.behind.IsZero():
		c.problem = rollout.NotObserved
	case undriven == view.RolledOut:
		c.problem = rollout.NotDriven
		c.wrong = []string{view.HowOnDelete(ds)}
	case undriven == view.NoneMayGo:
		c.problem = rollout.NotDriven
		c.wrong = []string{"spec.updateStrategy.rollingUpdate.maxUnavailable is 0, or cannot be read, so no pod may go before its successor exists, but the DaemonSet controller of the cluster creates no successor first for OnDelete: set it to 1 or more, and maxSurge to 0"}
	}
}

// endedBeside remembers pods that ended and that the other controller deletes, as ended does for pods that this engine
// deletes: a version whose pods keep ending has failed. A kubelet also says of a pod that it was told to end that it has ended,
// which means nothing.
func (s *state) endedBeside(pods []*plan.Pod, now time.Time) {
	for _, p := range pods {
		if p.Phase != plan.Failed && p.Phase != plan.Succeeded || !p.Deleted.IsZero() || !s.announce(p.UID) {
			continue
		}
		s.mu.Lock()
		s.backoff[p.Node] = s.backoff[p.Node].After(plan.Delete{Node: p.Node, Pod: p.Name, UID: p.UID, Hash: p.Hash,
			Created: p.Created, SeenCreated: p.SeenCreated, Reason: plan.PodFailed}, now)
		s.mu.Unlock()
	}
}
