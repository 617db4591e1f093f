package view

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Beside another controller a policy needs OnDelete and a maxUnavailable that lets pods go. A missing value means one at a time,
// and one that cannot be parsed means none.
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

func TestHowOnDelete(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "logging", Name: "agent"}}
	const patch = `; or: kubectl -n logging patch daemonset agent -p '{"spec":{"updateStrategy":{"type":"OnDelete"}}}'`
	if how := HowOnDelete(ds); !strings.HasSuffix(how, "in its manifest, and keep rollingUpdate.maxUnavailable there"+patch) {
		t.Errorf("of nobody's: %s", how)
	}
	ds.Annotations = map[string]string{"meta.helm.sh/release-name": "fb", "meta.helm.sh/release-namespace": "releases"}
	const helm = "helm -n releases upgrade fb CHART --reset-then-reuse-values --set updateStrategy.type=OnDelete" + patch
	if how := HowOnDelete(ds); !strings.HasSuffix(how, helm) {
		t.Errorf("of Helm's: %s", how)
	}
	delete(ds.Annotations, "meta.helm.sh/release-namespace")
	if how := HowOnDelete(ds); !strings.Contains(how, "helm -n logging upgrade fb") {
		t.Errorf("of Helm's, without a namespace: %s", how)
	}
	ds.Annotations["meta.helm.sh/release-name"] = "fb; rm -rf /"
	if how := HowOnDelete(ds); strings.Contains(how, "rm") {
		t.Errorf("of one that is not a name: %s", how)
	}
}
