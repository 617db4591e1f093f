package engine

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// The API server numbers the templates of a DaemonSet, and a pod carries the number of its
// template. If a pod has a higher number than the DaemonSet that the watch has shown, it was made
// from a template that the watch has not delivered yet: by another controller, or by the previous
// leader.

// readNewer makes sure that the known DaemonSet is not older than its known pods (I13). A live
// read brings the newer template, or shows that there is none. In that case the numbers of these
// pods come from elsewhere, for example from a DaemonSet that has left them as orphans.
func (e *engine) readNewer(ctx context.Context, ds *appsv1.DaemonSet, st *state) error {
	newer := e.index.newerThan(ds)
	if len(newer) == 0 {
		st.foreign = nil
		return nil
	}
	known := map[string]bool{}
	for _, uid := range newer {
		if st.foreign[uid] {
			known[uid] = true
		}
	}
	if st.foreign = known; len(known) == len(newer) {
		return nil
	}
	live, err := e.api.liveSet(ctx, ds)
	if err != nil {
		return fmt.Errorf("%d pods have a newer template than the one that is known: %w", len(newer)-len(known), err)
	}
	if err := e.learnSet(live); err != nil {
		return err
	}
	if view.Generation(live) != view.Generation(ds) {
		return errReplan
	}
	for _, uid := range newer {
		known[uid] = true
	}
	st.set = nil // from now on they are pods like any other
	return nil
}

// confirmEvery is how long a DaemonSet may be rolled out after the server has confirmed it,
// without asking again.
const confirmEvery = time.Second

// confirm makes sure that pods are outdated before they are deleted for that. An engine that
// knows only an older template would undo what another has begun, and spend the budget a second
// time. As long as no pod of the newer template exists, no number on a pod reveals this.
func (e *engine) confirm(ctx context.Context, ds *appsv1.DaemonSet, st *state) error {
	if !st.rolling || time.Since(st.confirmedAt) < confirmEvery {
		return nil
	}
	asked := time.Now()
	live, err := e.api.liveSet(ctx, ds)
	if err != nil {
		return fmt.Errorf("before a rollout goes on: %w", err)
	}
	if live.Generation != ds.Generation {
		if err := e.learnSet(live); err != nil {
			return err
		}
		return errReplan
	}
	st.confirmedAt = asked
	return nil
}

// newerThan returns the UIDs of the pods whose template has a higher number than that of the
// DaemonSet.
func (ix *index) newerThan(ds *appsv1.DaemonSet) (uids []string) {
	generation := view.Generation(ds)
	if generation == 0 {
		return nil // it does not count
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	o := ix.owned[string(ds.UID)]
	if o == nil || !o.ahead(generation) {
		return nil
	}
	o.pods(func(p *podEntry) {
		if p.Generation > generation {
			uids = append(uids, p.UID)
		}
	})
	return uids
}

// ahead reports whether there are pods of a template with a higher number.
func (o *owned) ahead(generation int64) bool {
	for g := range o.generations {
		if g > generation {
			return true
		}
	}
	return false
}

// tellNewer marks the pods that have appeared since readNewer looked.
func (st *state) tellNewer(s *plan.Sight) {
	known := st.set.spec.Generation
	for i, p := range s.Pods {
		if known != 0 && p.Generation > known && !st.foreign[p.UID] {
			newer := *p
			newer.Newer = true
			s.Pods[i] = &newer
		}
	}
}
