package engine

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// Up to smallSet nodes every lasting step is written, so that `rollout status` shows each; a change waits
// delivery.StatusHold for further changes. Above that, at most one status is written per statusEvery. A fleet
// waits that long for each statusNodes, but no longer than statusMax: a large update takes minutes.
const (
	smallSet    = 20
	statusEvery = time.Second
	statusNodes = 300
	statusMax   = 15 * time.Second
)

// report writes the status if it has changed. observed is the newest generation that was acted on. A change may be
// held back until the returned time.
func (e *engine) report(ctx context.Context, set *setEntry, st *state, observed int64) (again time.Time, err error) {
	ds := set.ds
	want := st.status(set, ds, observed)
	if equality.Semantic.DeepEqual(want, ds.Status) {
		st.heldAt = time.Time{}
		return time.Time{}, nil
	}
	if due := st.statusDue(observed != ds.Status.ObservedGeneration, e.apply.idle(st.id)); due.After(st.now) {
		return due, nil
	}
	st.statusAt, st.heldAt = st.now, time.Time{}
	return time.Time{}, e.writeStatus(ctx, set, st, observed)
}

// status returns what the DaemonSet's status should be: base is the version that it replaces.
func (st *state) status(set *setEntry, base *appsv1.DaemonSet, observed int64) appsv1.DaemonSetStatus {
	counts := st.ledger.Status()
	out := view.Status(base, counts, observed)
	if st.course.steered {
		view.SetConditions(&out, st.standing(&set.spec, counts))
	}
	return out
}

// standing returns the state of the releases; nil: the DaemonSet follows no policy, and no release is left to
// finish.
func (st *state) standing(spec *plan.Spec, counts plan.Status) *view.Standing {
	c := &st.course
	held, follows := c.removals.Kept.Held > 0, c.driven || c.state.Phase != rollout.Idle
	if !follows && !held {
		return nil
	}
	rolls := *spec
	rolls.Strategy = plan.RollingUpdate // a policy also drives OnDelete
	most, _ := rolls.Budget(counts.Desired)
	atRest := !follows || c.state.Stable == st.hash && c.state.Target == st.hash
	return &view.Standing{State: &c.state, Unkept: !atRest && (!c.kept || c.state.Target != st.hash), Held: held, Wrong: c.wrong,
		Missing: counts.Unavailable, MayMiss: most, Now: st.now}
}

// statusDue returns when a changed status should be written. It reports at once that a specification was observed,
// and that everything is done.
func (st *state) statusDue(observes, idle bool) time.Time {
	s := st.ledger.Status()
	settled := idle && s.Updated == s.Desired && s.Available == s.Desired && s.Current == s.Desired
	switch {
	case settled || observes:
		return time.Time{}
	case s.Desired > smallSet:
		return st.statusAt.Add(min(max(statusEvery, time.Duration(s.Desired/statusNodes)*statusEvery), statusMax))
	case st.heldAt.IsZero():
		st.heldAt = st.now
	}
	return st.heldAt.Add(delivery.StatusHold)
}

// writeStatus writes our part of the status over the newest version. Conditions that others have set stay.
func (e *engine) writeStatus(ctx context.Context, set *setEntry, st *state, observed int64) error {
	ds := set.ds
	base, err := e.whole(ctx, set)
	switch {
	case missing(err, ds.Name):
		return nil // deleted; the watch will show it soon
	case err != nil:
		return fmt.Errorf("writing the status: %w", err)
	}
	for range delivery.StatusTries {
		next := base.DeepCopy()
		next.Status = st.status(set, base, observed)
		if equality.Semantic.DeepEqual(next.Status, base.Status) {
			return e.learnSet(base)
		}
		asked := time.Now()
		made, err := e.api.updateStatus(ctx, next)
		switch {
		case err == nil:
			if made.Generation == ds.Generation {
				st.confirmedAt = asked
			}
			return e.learnSet(made)
		case missing(err, ds.Name):
			return nil // deleted; the watch will show it soon
		case !apierrors.IsConflict(err):
			return fmt.Errorf("writing the status: %w", err)
		}
		if base, err = e.api.liveSet(ctx, ds); err != nil {
			return err
		}
		if base.DeletionTimestamp != nil {
			return e.learnSet(base)
		}
	}
	return fmt.Errorf("writing the status: it was changed by others %d times in a row", delivery.StatusTries)
}

// learnSet takes a DaemonSet that the server has returned.
func (e *engine) learnSet(ds *appsv1.DaemonSet) error {
	s, err := compactSet(ds)
	if err != nil {
		return err
	}
	e.index.upsertSet(s)
	return nil
}
