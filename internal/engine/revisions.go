package engine

// The history of a DaemonSet, kept as ControllerRevisions. `kubectl rollout undo` writes an older
// template into the DaemonSet. The next decision (history) handles it: view.History finds the
// revision with the same meaning and gives it the newest number, and from then on pods of other
// revisions are outdated.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// historyRounds limits how often the history is computed again in one go: once for each kind of
// change that it may need, and a few more.
const historyRounds = 8

// errReplan means that the DaemonSet itself was changed; it is in the queue.
var errReplan = errors.New("the DaemonSet has changed")

// past is the last history that required no writes, and what it depends on.
type past struct {
	generation int64
	collisions int32
	epochs     epochs
	hash       string
}

// epochs change with the DaemonSet's revisions, with those that no DaemonSet has,
// and with which revisions have pods.
type epochs struct{ revisions, loose, hashes uint64 }

// history makes sure that the current template has its revision, with the newest number, and
// returns it with the revisions that may be deleted.
func (e *engine) history(ctx context.Context, set *setEntry, st *state) (*view.HistoryPlan, error) {
	ds := set.ds
	relabelled := false
	for range historyRounds {
		now := e.index.epochs(ds)
		if p := st.past; p != nil && p.epochs == now && p.generation == ds.Generation && p.collisions == collisions(ds) {
			return &view.HistoryPlan{Hash: p.hash}, nil
		}
		h, err := view.History(ds, e.index.revisionsOf(ds), e.liveHashes(ds))
		if err != nil {
			return nil, fmt.Errorf("computing the history: %w", err)
		}
		switch {
		case h.Collision:
			err = e.collide(ctx, ds)
		case h.Create != nil:
			err = e.createRevision(ctx, set, h.Create)
		case len(h.Update) > 0:
			err = e.updateRevisions(ctx, ds, h.Update)
		case len(h.Relabel) > 0 && !relabelled:
			relabelled = true
			err = e.relabel(ctx, ds, st, h.Relabel)
		default:
			if h.Empty() {
				st.past = &past{ds.Generation, collisions(ds), now, h.Hash}
			}
			return &h, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the history was changed by others %d times in a row", historyRounds)
}

// liveHashes returns the revisions of existing pods, including terminating ones, and of pods that
// are being created.
func (e *engine) liveHashes(ds *appsv1.DaemonSet) map[string]bool {
	live := map[string]bool{}
	e.index.pinned(ds, live)
	e.apply.underway(identityOf(ds), func(l *lane, _ map[string]*write) {
		l.hashes(live)
		e.index.hashesOf(string(ds.UID), live)
	})
	return live
}

func (ix *index) hashesOf(owner string, into map[string]bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if o := ix.owned[owner]; o != nil {
		for hash := range o.hashes {
			if hash != "" {
				into[hash] = true
			}
		}
	}
}

// createRevision creates the revision, or finds an existing one. That may have been left by an
// earlier DaemonSet of this name; its hash serves us as well.
func (e *engine) createRevision(ctx context.Context, set *setEntry, r *appsv1.ControllerRevision) error {
	ds := set.ds
	whole, err := e.whole(ctx, set)
	if err != nil {
		return fmt.Errorf("creating ControllerRevision %s: %w", r.Name, err)
	}
	if whole.Generation != ds.Generation {
		return cmp.Or(e.learnSet(whole), errReplan)
	}
	r.Annotations = maps.Clone(whole.Annotations)
	made, err := e.api.createRevision(ctx, r)
	if err == nil {
		e.events.template(ds) // once, whichever engine makes it
	}
	if apierrors.IsAlreadyExists(err) {
		made, err = e.api.getRevision(ctx, r.Namespace, r.Name)
		if err == nil && (!view.ReadRevision(made).SameTemplate(view.ReadRevision(r)) || ofOtherKind(made)) {
			return e.collide(ctx, ds)
		}
	}
	if err != nil {
		return fmt.Errorf("creating ControllerRevision %s: %w", r.Name, err)
	}
	return e.learnRevision(made)
}

// ofOtherKind reports whether something other than a DaemonSet controls the revision.
func ofOtherKind(r *appsv1.ControllerRevision) bool {
	owner := metav1.GetControllerOfNoCopy(r)
	return owner != nil && !isDaemonSet(owner)
}

// collide raises the collision count, which gives the template another hash.
func (e *engine) collide(ctx context.Context, ds *appsv1.DaemonSet) error {
	live, err := e.api.liveSet(ctx, ds)
	if err != nil {
		return err
	}
	if collisions(live) == collisions(ds) {
		count := collisions(ds) + 1
		live.Status.CollisionCount = &count
		if live, err = e.api.updateStatus(ctx, live); err != nil {
			return fmt.Errorf("counting a hash collision: %w", err)
		}
	}
	if err := e.learnSet(live); err != nil {
		return err
	}
	return errReplan
}

func collisions(ds *appsv1.DaemonSet) int32 {
	if ds.Status.CollisionCount == nil {
		return 0
	}
	return *ds.Status.CollisionCount
}

// updateRevisions adopts, releases, labels and renumbers.
func (e *engine) updateRevisions(ctx context.Context, ds *appsv1.DaemonSet, updates []view.RevisionUpdate) error {
	checked := false
	for _, u := range updates {
		if u.Adopt && !checked {
			if unread, err := e.mayAdopt(ctx, ds); err != nil || unread != nil {
				return errors.Join(err, unread)
			}
			checked = true
		}
		made, err := e.updateRevision(ctx, &u)
		switch {
		case missing(err, u.Revision.Name):
			e.index.forgetRevision(u.Revision)
		case err != nil:
			return fmt.Errorf("updating ControllerRevision %s: %w", u.Revision.Name, err)
		default:
			if err := e.learnRevision(made); err != nil {
				return err
			}
		}
	}
	return nil
}

// updateRevision carries out one update, and returns the updated revision. A revision that has
// changed since is not updated: the update is computed again from its current state.
func (e *engine) updateRevision(ctx context.Context, u *view.RevisionUpdate) (*appsv1.ControllerRevision, error) {
	live, err := e.api.getRevision(ctx, u.Revision.Namespace, u.Revision.Name)
	if err != nil || live.UID != u.Revision.UID || live.ResourceVersion != u.Revision.ResourceVersion {
		return live, err
	}
	u.Apply(live)
	made, err := e.api.updateRevision(ctx, live)
	if apierrors.IsConflict(err) {
		return e.api.getRevision(ctx, u.Revision.Namespace, u.Revision.Name)
	}
	return made, err
}

func (e *engine) learnRevision(r *appsv1.ControllerRevision) error {
	entry, err := compactRevision(r)
	if err != nil {
		return err
	}
	e.index.upsertRevision(entry)
	return nil
}

// relabel gives pods of duplicate revisions the hash of the one that is kept. A pod whose patch
// fails postpones its node and keeps its revision.
func (e *engine) relabel(ctx context.Context, ds *appsv1.DaemonSet, st *state, hashes map[string]string) error {
	var all sync.WaitGroup
	room := make(chan struct{}, claimsAtOnce)
	now := time.Now()
	for _, p := range e.index.entriesOf(string(ds.UID)) {
		to, ok := hashes[p.Hash]
		if !ok || st.waits(p.Node, p.claim(), now) {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			e.patchClaim(ctx, ds, st, p, mustJSON(map[string]any{"metadata": map[string]any{
				"uid": p.UID, "labels": map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: to},
			}}))
		})
	}
	all.Wait()
	return ctx.Err()
}

// entriesOf returns the pods that the DaemonSet controls.
func (ix *index) entriesOf(owner string) []*podEntry {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	var entries []*podEntry
	if o := ix.owned[owner]; o != nil {
		o.pods(func(e *podEntry) { entries = append(entries, e) })
	}
	return entries
}

// prune deletes the revisions that nothing needs. A failure for one does not keep the others. One with a finalizer stays, and
// is known, until others let it go.
func (e *engine) prune(ctx context.Context, h *view.HistoryPlan) error {
	var failed []error
	for _, d := range h.Delete {
		if d.Revision.DeletionTimestamp != nil {
			continue
		}
		if err := e.api.deleteRevision(ctx, d.Revision); err != nil && !apierrors.IsConflict(err) {
			failed = append(failed, fmt.Errorf("deleting ControllerRevision %s: %w", d.Revision.Name, err))
			continue
		}
		e.index.forgetRevision(d.Revision)
	}
	return errors.Join(failed...)
}

// presentHash returns the hash of the revision that the template has, or will have. Empty if it
// is not known yet: then no pod has the current template.
func (e *engine) presentHash(ds *appsv1.DaemonSet) string {
	h, err := view.History(ds, e.index.revisionsOf(ds), e.liveHashes(ds))
	if err != nil {
		return "" // history reports the error
	}
	return h.Hash
}
