package lookout

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"everynode/internal/fleetmap"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// followed are the resources about releases in waves that a user can follow.
type followed struct {
	rollouts dynamic.ResourceInterface // nil: the cluster does not have the kind, or the user may not read it
	kinds    dynamic.ResourceInterface // of policies; nil in the same cases, and if nobody needs them
	hidden   string                    // what is left out because the user may not read it; empty: nothing
}

// in finds out what can be followed in the namespace. Policies are needed unless one is given.
func (r Releases) in(ctx context.Context, kinds discovery.ServerResourcesInterface, namespace string, options metav1.ListOptions, policies bool) (f followed) {
	if r.Rollouts == nil {
		return f
	}
	rollouts := r.Rollouts.Namespace(namespace)
	there, forbidden := readable(ctx, rollouts, options)
	switch {
	case forbidden != nil:
		// Without rights the answer is the same whether or not the cluster has the kind. Which kinds it has, everybody may read.
		if _, err := kinds.ServerResourcesForGroupVersion(view.PolicyVersion); !apierrors.IsNotFound(err) {
			f.hidden = fmt.Sprintf("releases are not shown: %v", forbidden)
		}
		return f
	case !there:
		return f
	}
	if f.rollouts = rollouts; r.Policies == nil || !policies {
		return f
	}
	switch there, forbidden := readable(ctx, r.Policies, metav1.ListOptions{}); {
	case forbidden != nil:
		f.hidden = fmt.Sprintf("waves are not shown: %v", forbidden)
	case there:
		f.kinds = r.Policies
	}
	return f
}

// readable reports whether the kind exists, and why it may not be listed and watched, if it may not. An API server that
// fails is asked again by whoever follows the kind.
func readable(ctx context.Context, r dynamic.ResourceInterface, options metav1.ListOptions) (there bool, forbidden error) {
	one := options
	one.Limit = 1
	_, err := r.List(ctx, one)
	switch {
	case apierrors.IsForbidden(err):
		return false, err
	case apierrors.IsNotFound(err):
		return false, nil
	}
	w, err := r.Watch(ctx, options)
	if err == nil {
		w.Stop()
	}
	if apierrors.IsForbidden(err) {
		return false, err
	}
	return true, nil
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
