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

// lookForReleases finds out what can be followed: the cluster may not have the kinds, and the user may not be allowed
// to read them.
func (l *Lookout) lookForReleases(ctx context.Context, releases Releases) {
	if releases.Rollouts == nil {
		return
	}
	if r := releases.Rollouts.Namespace(l.namespace); readable(ctx, r, metav1.ListOptions{FieldSelector: "metadata.name=" + l.name}) {
		l.rollouts = r
	}
	if p := releases.Policies; p != nil && l.rollouts != nil && l.given == nil && readable(ctx, p, metav1.ListOptions{}) {
		l.kinds = p
	}
}

// readable reports whether the kind exists and may be listed and watched.
func readable(ctx context.Context, r dynamic.ResourceInterface, options metav1.ListOptions) bool {
	one := options
	one.Limit = 1
	if _, err := r.List(ctx, one); err != nil {
		return false
	}
	w, err := r.Watch(ctx, options)
	if err == nil {
		w.Stop()
	}
	return !apierrors.IsForbidden(err)
}

func (l *Lookout) keepPolicy(object any) bool { return keepPolicy(l.policies, object) }

// keepPolicy stores a valid policy. The controller reports what is wrong with an invalid one.
func keepPolicy(in map[string]*rollout.Policy, object any) bool {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return false
	}
	delete(in, o.GetName())
	var wire view.RolloutPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &wire); err != nil {
		return true
	}
	if p, wrong := view.Policy(&wire); wrong == nil {
		in[o.GetName()] = &p
	}
	return true
}

// policy is the policy that orders the nodes; nil if none is known.
func (l *Lookout) policy() *rollout.Policy {
	if l.given != nil || l.rollout == nil || l.rollout.Status.Policy == nil {
		return l.given
	}
	return l.policies[l.rollout.Status.Policy.Name]
}

func (l *Lookout) keepRollout(object any) bool {
	o, ok := object.(*unstructured.Unstructured)
	if !ok || o.GetName() != l.name {
		return false
	}
	r := &view.DaemonSetRollout{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, r); err != nil || !r.IsOf(l.uid) {
		r = nil // of another version, or about an earlier DaemonSet of this name
	}
	l.rollout = r
	return true
}

// release is what the controller reports about a release that is not through; nil if it reports none.
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
	phase, _ := rollout.PhaseOf(s.Phase)
	reason, _ := rollout.ReasonOf(s.Reason)
	r.Stopped = (&rollout.State{Phase: phase, Reason: reason}).Stands()
	return r
}
