package lookout

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"everynode/internal/fleetmap"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// lookForRollout finds out whether DaemonSetRollouts can be followed: the cluster may not have the kind, and not
// everybody may read it.
func (l *Lookout) lookForRollout(ctx context.Context, rollouts dynamic.ResourceInterface) {
	if _, err := rollouts.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + l.name, Limit: 1}); err != nil {
		return
	}
	w, err := rollouts.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + l.name})
	if apierrors.IsForbidden(err) {
		return
	}
	if err == nil {
		w.Stop()
	}
	l.rollouts = rollouts
}

func (l *Lookout) keepRollout(object any) bool {
	o, ok := object.(*unstructured.Unstructured)
	if !ok || o.GetName() != l.name {
		return false
	}
	r := &view.DaemonSetRollout{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, r); err != nil || !r.IsOf(l.uid) {
		r = nil // of another version, or of an earlier DaemonSet of this name
	}
	l.rollout = r
	return true
}

// release is what the controller says of a release that is not through; nil: it says nothing of one.
func (l *Lookout) release() *fleetmap.Rollout {
	if l.rollout == nil || l.rollout.Status.Phase == "" || l.rollout.Status.Phase == rollout.Idle.String() {
		return nil
	}
	s := &l.rollout.Status
	r := &fleetmap.Rollout{Phase: s.Phase, Reason: s.Reason, Quota: s.Quota, Exposed: s.Nodes.Exposed, Failed: s.Nodes.Failed, Soak: s.Soak}
	if s.Message != "" {
		r.Reason = s.Message
	}
	if s.Wave != nil {
		if r.Wave = s.Wave.Name; s.Wave.Group != "" {
			r.Wave += "/" + s.Wave.Group
		}
	}
	switch s.Phase {
	case rollout.Halted.String(), rollout.Aborted.String(), rollout.Held.String():
		r.Stopped = true
	}
	return r
}
