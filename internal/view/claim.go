package view

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Claim is how an object with labels and owners, a pod or a revision, relates to a DaemonSet.
type Claim uint8

// The claims.
const (
	// NotOurs: it has another controller, or has no controller and does not match.
	NotOurs Claim = iota
	// Owned: we control it, and it matches the selector.
	Owned
	// Adopt: nobody controls it, and it matches. It is to be adopted, after a live read of the DaemonSet has
	// shown that the DaemonSet is not being deleted.
	Adopt
	// Orphan: nobody controls it, and it matches, but it must not be adopted: it, or the DaemonSet, is being
	// deleted.
	Orphan
	// Release: we control it, but it no longer matches: give up control.
	Release
)

// Claims returns how the object relates to the DaemonSet. An empty selector, or one that cannot be parsed,
// matches nothing.
func Claims(ds *appsv1.DaemonSet, obj metav1.Object) Claim {
	if obj.GetNamespace() != ds.Namespace {
		return NotOurs
	}
	owner := metav1.GetControllerOfNoCopy(obj)
	if owner != nil && owner.UID != ds.UID {
		return NotOurs
	}
	match := selects(ds.Spec.Selector, obj.GetLabels())
	switch {
	case owner != nil && match:
		return Owned
	case owner != nil && ds.DeletionTimestamp == nil:
		return Release
	case owner != nil || !match:
		return NotOurs
	case ds.DeletionTimestamp != nil || obj.GetDeletionTimestamp() != nil:
		return Orphan
	default:
		return Adopt
	}
}

func selects(s *metav1.LabelSelector, set map[string]string) bool {
	if s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return false
	}
	if len(s.MatchExpressions) == 0 {
		// This covers nearly all selectors, and runs for every event of a pod.
		for k, want := range s.MatchLabels {
			if got, ok := set[k]; !ok || got != want {
				return false
			}
		}
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(set))
}
