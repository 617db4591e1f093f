package engine

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// The API server counts the templates of a DaemonSet, and a pod carries the
// number of its own. A pod with a higher number than the DaemonSet that a watch
// has shown was made from a template which that watch is late with: by another
// controller, or by the leader before this one.

// readNewer makes sure that what is known of the DaemonSet is not older than what
// is known of its pods (I13). A live read tells: it brings the newer template,
// or shows that there is none, and that the numbers of these pods are from
// another life, such as that of a DaemonSet which has left them as orphans.
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
		return fmt.Errorf("%d pods are of a newer template than what is known: %w", len(newer)-len(known), err)
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
	st.set = nil // they are pods like others from now on
	return nil
}

// confirmEvery is how long a DaemonSet that the server has confirmed may be
// rolled out unasked.
const confirmEvery = time.Second

// confirm makes sure, before pods are deleted for being outdated, that they are:
// who knows only an older template would undo what another has begun, and spend
// a budget of its own. No number on a pod tells as long as there is none of the
// newer template.
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

// newerThan is the UIDs of the pods whose template has a higher number than
// that of the DaemonSet.
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

// ahead says that there are pods of a template with a higher number.
func (o *owned) ahead(generation int64) bool {
	for g := range o.generations {
		if g > generation {
			return true
		}
	}
	return false
}

// tellNewer marks the pods that have come since readNewer looked.
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
