package view

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Beside another controller a policy goes by OnDelete and by a maxUnavailable by which pods may go. What is not said is one at a time, and
// what cannot be read is none.
func TestUndrivenBeside(t *testing.T) {
	given := func(kind appsv1.DaemonSetUpdateStrategyType, amounts ...string) *appsv1.DaemonSet {
		ds := &appsv1.DaemonSet{}
		ds.Spec.UpdateStrategy.Type = kind
		if len(amounts) == 2 {
			r := &appsv1.RollingUpdateDaemonSet{}
			for i, to := range []**intstr.IntOrString{&r.MaxUnavailable, &r.MaxSurge} {
				if amounts[i] != "" {
					v := intstr.Parse(amounts[i])
					*to = &v
				}
			}
			ds.Spec.UpdateStrategy.RollingUpdate = r
		}
		return ds
	}
	const onDelete = appsv1.OnDeleteDaemonSetStrategyType
	for name, test := range map[string]struct {
		ds   *appsv1.DaemonSet
		want Undriven
	}{
		"no type":                         {given(""), RolledOut},
		"RollingUpdate":                   {given(appsv1.RollingUpdateDaemonSetStrategyType, "1", "0"), RolledOut},
		"OnDelete alone":                  {given(onDelete), Driven},
		"OnDelete with an empty struct":   {given(onDelete, "", ""), Driven},
		"one":                             {given(onDelete, "1", "0"), Driven},
		"a share":                         {given(onDelete, "10%", ""), Driven},
		"none":                            {given(onDelete, "0", ""), NoneMayGo},
		"no share":                        {given(onDelete, "0%", "1"), NoneMayGo},
		"surge alone":                     {given(onDelete, "", "1"), NoneMayGo},
		"no surge, and nothing else said": {given(onDelete, "", "0"), Driven},
		"surge beside one":                {given(onDelete, "1", "1"), Driven},
		"what cannot be read":             {given(onDelete, "some", ""), NoneMayGo},
		"less than none":                  {given(onDelete, "-1", ""), NoneMayGo},
	} {
		if got := UndrivenBeside(test.ds); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
