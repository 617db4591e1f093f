package view

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	return NewSelector(ds.Spec.Selector).Claims(ds, obj)
}

// Selector is the selector of a DaemonSet, ready for use: a selector may have a hundred thousand values, and preparing
// it takes time for each. Using it takes time only for each key.
type Selector struct {
	// labels are those that all must be there. requirements are the others.
	labels       map[string]string
	requirements []selectorTerm
	nothing      bool // no labels are selected
}

// selectorTerm is about one label.
type selectorTerm struct {
	key    string
	op     metav1.LabelSelectorOperator
	values map[string]struct{}
}

// NewSelector prepares a selector. It may be kept for as long as s does not change.
func NewSelector(s *metav1.LabelSelector) *Selector {
	if s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return &Selector{nothing: true}
	}
	if len(s.MatchExpressions) == 0 {
		return &Selector{labels: s.MatchLabels} // nearly all are like this
	}
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return &Selector{nothing: true}
	}
	out := &Selector{labels: s.MatchLabels}
	for i := range s.MatchExpressions {
		e := &s.MatchExpressions[i]
		r := selectorTerm{key: e.Key, op: e.Operator, values: make(map[string]struct{}, len(e.Values))}
		for _, value := range e.Values {
			r.values[value] = struct{}{}
		}
		out.requirements = append(out.requirements, r)
	}
	return out
}

// Claims is the function Claims for the DaemonSet whose selector this is.
func (s *Selector) Claims(ds *appsv1.DaemonSet, obj metav1.Object) Claim {
	if obj.GetNamespace() != ds.Namespace {
		return NotOurs
	}
	owner := metav1.GetControllerOfNoCopy(obj)
	if owner != nil && owner.UID != ds.UID {
		return NotOurs
	}
	match := s.Selects(obj.GetLabels())
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

// Selects reports whether the labels match. A nil Selector selects nothing.
func (s *Selector) Selects(set map[string]string) bool {
	if s == nil || s.nothing {
		return false
	}
	for k, want := range s.labels {
		if got, ok := set[k]; !ok || got != want {
			return false
		}
	}
	for i := range s.requirements {
		if !s.requirements[i].holds(set) {
			return false
		}
	}
	return true
}

func (r *selectorTerm) holds(set map[string]string) bool {
	got, has := set[r.key]
	_, among := r.values[got]
	switch r.op {
	case metav1.LabelSelectorOpIn:
		return has && among
	case metav1.LabelSelectorOpNotIn:
		return !has || !among
	case metav1.LabelSelectorOpExists:
		return has
	}
	return !has // DoesNotExist: no other operator passes NewSelector
}
