package view

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestClaims(t *testing.T) {
	now := metav1.Now()
	ds := daemonSet()
	dying := daemonSet()
	dying.DeletionTimestamp = &now
	mine := []metav1.OwnerReference{*metav1.NewControllerRef(ds, controllerKind())}
	theirs := []metav1.OwnerReference{{UID: "other", Controller: ptr(true)}}
	friend := []metav1.OwnerReference{{UID: "set-uid"}} // an owner, but not a controller
	match, miss := map[string]string{"app": "agent"}, map[string]string{"app": "x"}

	for name, c := range map[string]struct {
		labels        map[string]string
		owners        []metav1.OwnerReference
		deleted       *metav1.Time
		live, atDeath Claim
	}{
		"mine":              {match, mine, nil, Owned, Owned},
		"mine, terminating": {match, mine, &now, Owned, Owned},
		"mine, no match":    {miss, mine, nil, Release, NotOurs},
		"theirs":            {match, theirs, nil, NotOurs, NotOurs},
		"orphan":            {match, nil, nil, Adopt, Orphan},
		"orphan, going":     {match, nil, &now, Orphan, Orphan},
		"orphan, no match":  {miss, nil, nil, NotOurs, NotOurs},
		"owned, not by us":  {match, friend, nil, Adopt, Orphan},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: c.labels, OwnerReferences: c.owners, DeletionTimestamp: c.deleted}}
		if got := Claims(ds, pod); got != c.live {
			t.Errorf("%s: %v, want %v", name, got, c.live)
		}
		if got := Claims(dying, pod); got != c.atDeath {
			t.Errorf("%s, while the set is deleted: %v, want %v", name, got, c.atDeath)
		}
		pod.Namespace = "elsewhere"
		if got := Claims(ds, pod); got != NotOurs {
			t.Errorf("%s, elsewhere: %v", name, got)
		}
	}
}

func TestClaimsSelectors(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{"app": "agent", "tier": "one"}}}
	expr := func(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	for name, c := range map[string]struct {
		selector *metav1.LabelSelector
		want     Claim
	}{
		"in":      {expr("tier", metav1.LabelSelectorOpIn, "one", "two"), Adopt},
		"not in":  {expr("tier", metav1.LabelSelectorOpNotIn, "one"), NotOurs},
		"invalid": {expr("tier", "Near", "one"), NotOurs},
		"empty":   {&metav1.LabelSelector{}, NotOurs},
		"none":    {nil, NotOurs},
		"absent":  {&metav1.LabelSelector{MatchLabels: map[string]string{"no": ""}}, NotOurs},
	} {
		ds := daemonSet()
		ds.Spec.Selector = c.selector
		if got := Claims(ds, pod); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
