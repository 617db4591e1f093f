package engine

// The saved state of a release: it is read once from the server, and written before anything acts on it.

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// readCourse reads the saved state of the release once from the server. From then on it is what this process has
// written, unless somebody deletes the object, an answer is lost, or another process writes it.
func (e *engine) readCourse(ctx context.Context, set *setEntry, st *state, entry *rolloutEntry) error {
	c := &st.course
	before := c.keeper()
	if c.read && c.overwritten(entry) {
		e.log.Warn("another process has written the state of a release; reading it again", "daemonSet", keyOf(set.ds).String())
		if entry.restored(c.own) {
			if err := current(ctx, e.api, set); err != nil {
				return err
			}
		}
		c.read, c.unsure = false, true
	} else if c.read {
		putBack(st, before, c.keeper())
	}
	if !c.read {
		live, err := e.api.getRollout(ctx, set.ds.Namespace, set.ds.Name)
		if err != nil && !apierrors.IsForbidden(err) {
			return fmt.Errorf("reading the state of the release: %w", err)
		}
		if live != nil && live.object.IsOf(set.ds.UID) {
			e.index.upsertRollout(live)
			entry = e.index.rolloutOf(set.ds)
		}
		known, guard, kept := c.state, c.removals.Kept, c.kept
		if c.state, c.removals.Kept, err = stateOf(entry); err != nil {
			return e.unreadable(ctx, set, entry, err)
		}
		c.lost = entry.blank() && (c.lost || kept && known.Phase != rollout.Idle || c.inRelease(set.ds, e.index))
		if entry.blank() { // what this process knows is left, and what the DaemonSet itself says
			c.state.Release, c.removals.Kept = known.Release, guard
			if c.inRelease(set.ds, e.index) && view.HoldsRemovals(&set.ds.Status) {
				c.removals.Kept.Held = max(guard.Held, 1) // the next decision counts them
			}
		}
		c.read, c.kept, c.unsure, c.own = true, c.state.Stable != "", false, entry
	} else if entry == nil && (c.entry != nil || c.own != nil) {
		c.lost = c.state.Phase != rollout.Idle
		c.state, c.kept, c.own = rollout.State{Release: c.state.Release}, false, nil
	}
	c.entry = entry
	return nil
}

// blank reports whether nothing is saved in the object, or there is none.
func (r *rolloutEntry) blank() bool { return r == nil || r.object.Status.Phase == "" }

// inRelease reports whether the DaemonSet's own status says that a release is under way. While nothing is saved, that
// means that others have deleted its state when nobody led: no other trace of it is left once the DaemonSet follows no
// policy. Where the cluster has no policies, nobody could say how to go on, so the trace does not count.
func (c *course) inRelease(ds *appsv1.DaemonSet, ix *index) bool {
	return !c.assists && view.InRelease(&ds.Status) && ix.knowsPolicies()
}

// overwritten reports whether somebody else has written the status since, for example a second leader, whose work
// must not be undone, or whoever has restored the API server from a backup.
func (c *course) overwritten(entry *rolloutEntry) bool {
	if entry == nil || entry == c.own || c.own != nil && max(entry.version, entry.asOf) <= c.own.version {
		return false
	}
	var before view.DaemonSetRolloutStatus
	if c.own != nil {
		before = c.own.object.Status
	}
	if !equality.Semantic.DeepEqual(entry.object.Status, before) {
		return true
	}
	c.own = entry // people have written the spec
	return false
}

// restored reports whether a list has shown an older object than own, which was there: the API server was restored from a
// backup.
func (r *rolloutEntry) restored(own *rolloutEntry) bool { return own != nil && r.version < own.version }

// current makes sure that the DaemonSet is known as it is now. After a restore, each kind of object is listed again by itself,
// and the state of a release says nothing about a template that is gone.
func current(ctx context.Context, from api, set *setEntry) error {
	live, err := from.liveSet(ctx, set.ds)
	switch {
	case err != nil:
		return fmt.Errorf("after a restore: %w", err)
	case live.Generation != set.ds.Generation:
		return fmt.Errorf("the API server was restored from a backup: waiting for its DaemonSet %s", keyOf(set.ds))
	}
	return nil
}

// unreadable reports on the object itself, once, that its status cannot be read.
func (e *engine) unreadable(ctx context.Context, set *setEntry, entry *rolloutEntry, why error) error {
	o := *entry.object
	o.Status = view.UnreadableRollout(&entry.object.Status, why, time.Now())
	if equality.Semantic.DeepEqual(o.Status, entry.object.Status) {
		return why
	}
	e.events.stands(set.ds, view.ReasonStatusUnreadable, why)
	made, err := e.api.updateRollout(ctx, &o)
	if err == nil {
		e.index.upsertRollout(made)
	}
	return errors.Join(why, err)
}

func stateOf(entry *rolloutEntry) (s rollout.State, g rollout.Guard, err error) {
	if entry == nil {
		return s, g, nil
	}
	s, err = view.RolloutState(entry.object)
	g, wrong := view.RolloutGuard(entry.object)
	if err = errors.Join(err, wrong); err != nil {
		return s, g, fmt.Errorf("DaemonSetRollout %s/%s cannot be followed: %w; correct its status, or delete the object", entry.object.Namespace, entry.object.Name, err)
	}
	return s, g, nil
}

// lastHeeded returns the requests that the saved state was computed with, given those that stand in the object now. A
// process that finds a change nobody has observed does not know which of the requests is new: it takes all to be, so
// that none of them is ignored without a word.
func (c *course) lastHeeded(now rollout.Requests) rollout.Requests {
	if o := c.entry.object; o.Generation <= o.Status.ObservedGeneration {
		c.heeded = now
	}
	return c.heeded
}

// keeps records the state that is saved now.
func (c *course) keeps(s *step) { c.state, c.removals.Kept, c.kept = s.state, s.guard, true }

// sameCourse reports whether two states differ only in how long they have soaked.
func sameCourse(a, b rollout.State) bool {
	a, b = a.Kept(), b.Kept()
	a.Soaked = b.Soaked
	return a == b
}

// lacks reports whether the cluster has no objects that could hold the state. Then a release is held, for which the
// first observation is good enough.
func (c *course) lacks() bool { return c.entry == nil && c.absent }

// tellUnkept reports a release that has no object of its own, once.
func (e *engine) tellUnkept(set *setEntry, st *state, next *step) {
	report := e.reportOn(set, st, next)
	status := view.RolloutStatus(&st.course.unkept, &next.state, &report)
	e.events.moved(set.ds, &st.course.unkept, &status)
	st.course.unkept = status
}

// keep writes the state, if it has moved or was not written for a while; due is when it must be written if nothing
// else changes.
func (e *engine) keep(ctx context.Context, set *setEntry, st *state, next *step) (due time.Time, err error) {
	c := &st.course
	var before view.DaemonSetRolloutStatus
	if c.entry != nil {
		before = c.entry.object.Status
	}
	report := e.reportOn(set, st, next)
	status := view.RolloutStatus(&before, &next.state, &report)
	switch {
	case equality.Semantic.DeepEqual(status, before), c.entry == nil && !c.driven && !next.state.Unsure && next.guard.Held == 0:
		c.keeps(next)
		return time.Time{}, nil
	case !next.moved && status.ObservedGeneration == before.ObservedGeneration && len(status.Failures) == len(before.Failures):
		if due = c.wrote.Add(rollout.CountEvery); due.After(st.now) {
			c.state = next.state
			return due, nil
		}
	}
	if err := e.writeCourse(ctx, set, c, status); err != nil {
		return time.Time{}, err
	}
	e.events.moved(set.ds, &before, &status)
	if next.guard.Held > 0 && c.removals.Kept.Held == 0 {
		e.events.removalsHeld(set.ds, report.HeldText)
	}
	c.keeps(next)
	c.wrote = st.now
	return time.Time{}, nil
}

// writeCourse writes the status over the version that the state was computed from: newer requests of people come
// first.
func (e *engine) writeCourse(ctx context.Context, set *setEntry, c *course, status view.DaemonSetRolloutStatus) error {
	if c.entry == nil {
		made, err := e.api.createRollout(ctx, view.NewRollout(set.ds))
		if apierrors.IsAlreadyExists(err) {
			return e.readRollout(ctx, set, nil, err)
		}
		if err != nil {
			return fmt.Errorf("creating the object that keeps the state of the release: %w", err)
		}
		e.index.upsertRollout(made)
		c.entry = made
	}
	o := *c.entry.object
	o.Status = status
	made, err := e.api.updateRollout(ctx, &o)
	if err != nil && !definite(err) {
		c.read, c.unsure = false, true
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return e.readRollout(ctx, set, c.entry, err)
	case err != nil:
		return fmt.Errorf("saving the state of the release: %w", err)
	}
	e.index.upsertRollout(made)
	c.entry, c.own = e.index.rolloutOf(set.ds), made
	return nil
}

// readRollout reads the object after a write has shown that our version, known, is outdated; nil: we knew of none. A new
// decision on the DaemonSet follows.
func (e *engine) readRollout(ctx context.Context, set *setEntry, known *rolloutEntry, why error) error {
	live, err := e.api.getRollout(ctx, set.ds.Namespace, set.ds.Name)
	switch {
	case err != nil:
		return fmt.Errorf("reading the state of the release: %w", err)
	case live == nil && known != nil:
		e.index.forgetRollout(known)
	case live == nil:
	case !live.object.IsOf(set.ds.UID):
		return fmt.Errorf("the DaemonSetRollout of this name belongs to another DaemonSet, and the garbage collector will delete it: %w", why)
	default:
		e.index.upsertRollout(live)
	}
	e.queue.Add(keyOf(set.ds))
	return errReplan
}
