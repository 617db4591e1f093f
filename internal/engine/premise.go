package engine

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// A delete of a rollout rests on the pod's being as it was when that was decided,
// and its resource version is the simplest proof. But some pods change all the
// time in what is of no concern: an agent annotates them, a condition is refreshed.

// maxConflicts is how many versions of a pod, one after the other, a delete may
// miss. Then the version is not asked for any more, where that is safe.
const maxConflicts = 3

// deleteAs sends a delete, and sends it again at once when the pod has changed
// in nothing that the decision rests on.
func (e *engine) deleteAs(ctx context.Context, w *write) (left runtime.Object, err error) {
	d := w.remove
	uid := types.UID(d.UID)
	opts := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	if d.Now {
		opts.GracePeriodSeconds = new(int64)
	}
	if w.rests != nil {
		version := formatVersion(w.rests.version)
		opts.Preconditions.ResourceVersion = &version
	}
	for conflicts := 1; ; conflicts++ {
		left, err = e.api.deletePod(ctx, w.key.Namespace, d.Pod, opts)
		if opts.Preconditions.ResourceVersion == nil || !apierrors.IsConflict(err) {
			return left, err
		}
		version, same := e.unchanged(ctx, w)
		switch {
		case !same, version == *opts.Preconditions.ResourceVersion, conflicts > maxConflicts && !w.rests.Ready:
			return left, err
		case conflicts > maxConflicts:
			// The budget has been spent on a pod that serves. If that ceases
			// just now, it costs less.
			opts.Preconditions.ResourceVersion = nil
		default:
			opts.Preconditions.ResourceVersion = &version
		}
	}
}

// unchanged reads the pod of a delete, and says whether it still is what the
// decision rests on, and in which version.
func (e *engine) unchanged(ctx context.Context, w *write) (version string, is bool) {
	live, err := e.api.getPod(ctx, w.key.Namespace, w.remove.Pod)
	if err != nil {
		return "", false
	}
	now, err := compactPod(live)
	if err != nil {
		return "", false
	}
	return live.ResourceVersion, now.alike(w.rests)
}

// alike says that two versions of a pod are the same to a rollout.
func (e *podEntry) alike(o *podEntry) bool {
	return e.UID == o.UID && e.owner == o.owner && e.labels == o.labels && e.Node == o.Node && e.Bound == o.Bound &&
		e.Hash == o.Hash && e.Generation == o.Generation && e.Phase == o.Phase &&
		e.Ready == o.Ready && e.Deleted.IsZero() && o.Deleted.IsZero()
}
