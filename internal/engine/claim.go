package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// claimsAtOnce limits how many patches of one DaemonSet are under way.
const claimsAtOnce = 16

// claim adopts the orphans that the DaemonSet selects and releases the pods that it no longer
// does. A pod whose patch fails postpones its node, not the others.
func (e *engine) claim(ctx context.Context, ds *appsv1.DaemonSet, st *state) error {
	if err := e.searchOwn(ctx, ds, st); err != nil {
		return fmt.Errorf("looking for pods that are not watched: %w", err)
	}
	now := st.claims()
	waits := func(p *podEntry) bool { return st.waits(p.Node, p.claim(), now) }
	adopt, release := e.index.claims(ds)
	adopt, release = slices.DeleteFunc(adopt, waits), slices.DeleteFunc(release, waits)
	if len(adopt) > 0 {
		unread, err := e.mayAdopt(ctx, ds)
		if err != nil {
			return err
		}
		if unread != nil {
			for _, p := range adopt {
				e.unclaimed(ds, st, p, unread)
			}
			adopt = nil
		}
	}
	var all sync.WaitGroup
	room := make(chan struct{}, claimsAtOnce)
	each := func(pods []*podEntry, patch func(types.UID) []byte) {
		for _, p := range pods {
			room <- struct{}{}
			all.Go(func() {
				defer func() { <-room }()
				e.patchClaim(ctx, ds, st, p, patch(types.UID(p.UID)))
			})
		}
	}
	each(adopt, func(uid types.UID) []byte { return adoptPatch(ds, uid) })
	each(release, func(uid types.UID) []byte { return releasePatch(ds, uid) })
	all.Wait()
	return ctx.Err()
}

// claims returns the instant at which pods are claimed for the next decision.
func (s *state) claims() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimedAt = time.Now()
	return s.claimedAt
}

// claim identifies the patch of a pod among the other writes on its node.
func (p *podEntry) claim() plan.Act { return plan.Act{Kind: plan.Claiming, Pod: p.UID} }

// patchClaim adopts or releases one pod.
func (e *engine) patchClaim(ctx context.Context, ds *appsv1.DaemonSet, st *state, p *podEntry, patch []byte) {
	live, err := e.api.patchPod(ctx, p.namespace, p.Name, patch)
	switch {
	case err == nil:
		st.worked(p.Node, p.claim())
		e.index.assume(live)
	case missing(err, p.Name):
		st.worked(p.Node, p.claim())
		e.index.bury(p.UID)
	case ctx.Err() != nil:
	default:
		// By now it may be another pod of that name, or have another owner; or the patch was
		// refused. The next decision uses the current state.
		e.refresh(ctx, p)
		e.unclaimed(ds, st, p, err)
	}
}

// unclaimed postpones a pod that could not be adopted, released or relabelled, and reports it.
func (e *engine) unclaimed(ds *appsv1.DaemonSet, st *state, p *podEntry, err error) {
	st.failed(p.Node, p.claim(), delivery.FailedPace(), time.Now(), view.RefusedClaim+": "+blame(err, p.Name))
	e.index.noteNode(string(ds.UID), p.Node)
	e.events.unclaimed(ds, p.Node, p.Name, err)
	e.log.Warn("could not change a pod's owner or revision; trying again", "daemonSet", keyOf(ds).String(), "pod", p.Name, "node", p.Node, "err", err)
}

// mayAdopt makes sure by a live read that the DaemonSet still exists and is not being deleted:
// pods that it adopts then would be deleted with it. unread is why that could not be determined:
// then nothing is adopted for now.
func (e *engine) mayAdopt(ctx context.Context, ds *appsv1.DaemonSet) (unread, err error) {
	live, err := e.api.getSet(ctx, ds.Namespace, ds.Name)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case missing(err, ds.Name), err == nil && live.UID != ds.UID:
		return nil, errors.New("adopting: the DaemonSet is gone")
	case err != nil:
		return fmt.Errorf("reading the DaemonSet again: %w", err), nil
	case live.DeletionTimestamp != nil:
		return nil, errors.New("adopting: the DaemonSet has just been deleted")
	}
	return nil, nil
}

// claims returns the orphans to adopt and the own pods to release.
func (ix *index) claims(ds *appsv1.DaemonSet) (adopt, release []*podEntry) {
	c := claimant{ix, string(ds.UID)}
	set, orphans := c.begin(ds.Namespace)
	if set == nil {
		return nil, nil
	}
	// Other DaemonSets need the index meanwhile: there may be many orphans, and the selector may be long.
	for _, e := range orphans {
		if e.Deleted.IsZero() && set.selects(e) {
			adopt = append(adopt, e)
		}
	}
	return adopt, c.end(len(adopt) > 0)
}

// claimant is a DaemonSet that asks for the pods that it may claim.
type claimant struct {
	*index
	uid string
}

// begin returns the DaemonSet and the orphans of its namespace, if there may be a pod to adopt or to release; and nil
// otherwise. Pods that come later count for the next time.
func (c claimant) begin(namespace string) (*setEntry, []*podEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.owned[c.uid]
	if o == nil || !o.unclaimed {
		return nil, nil
	}
	o.unclaimed = false
	return o.set, slices.Collect(maps.Values(c.orphans[namespace]))
}

// end returns the DaemonSet's pods that it does not select. If there are any, or if it adopts some, it must ask again.
func (c claimant) end(adopts bool) (release []*podEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.owned[c.uid]
	if o == nil {
		return nil
	}
	o.pods(func(e *podEntry) {
		if !o.selected(e) {
			release = append(release, e)
		}
	})
	o.unclaimed = o.unclaimed || adopts || len(release) > 0
	return release
}

// selects reports whether the DaemonSet would adopt the pod, if nobody controlled it.
func (s *setEntry) selects(e *podEntry) bool {
	return s.selector.Claims(s.ds, orphanWith(e.namespace, e.labels.set())) == view.Adopt
}

// orphanWith returns an object with those labels that nobody controls: a DaemonSet selects the
// labels if it would adopt that object.
func orphanWith(namespace string, set labels.Set) metav1.Object {
	return &metav1.ObjectMeta{Namespace: namespace, Labels: set}
}

// adoptPatch adds the controller reference, if the object still has that UID.
func adoptPatch(ds *appsv1.DaemonSet, uid types.UID) []byte {
	return mustJSON(map[string]any{"metadata": map[string]any{
		"uid":             uid,
		"ownerReferences": []metav1.OwnerReference{*metav1.NewControllerRef(ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))},
	}})
}

// releasePatch removes our reference, if the object still has that UID.
func releasePatch(ds *appsv1.DaemonSet, uid types.UID) []byte {
	return mustJSON(map[string]any{"metadata": map[string]any{
		"uid":             uid,
		"ownerReferences": []map[string]any{{"$patch": "delete", "uid": ds.UID}},
	}})
}

// mustJSON encodes maps of strings and API values, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("engine: encoding a patch: " + err.Error())
	}
	return b
}
