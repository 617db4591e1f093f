package view

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

// A selector may ask for labels that the controller sets itself only if the pods will
// match it, whatever the template says.
func TestSelectorOnLabelsOfTheController(t *testing.T) {
	const hash, generation = appsv1.DefaultDaemonSetUniqueLabelKey, "pod-template-generation"
	ask := func(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	for name, tc := range map[string]struct {
		selector *metav1.LabelSelector
		key      string // a label of the template
		value    string
		annotate string // the template generation; empty: it has none
		halts    bool
	}{
		"a hash of its own":                    {&metav1.LabelSelector{MatchLabels: map[string]string{hash: "x"}}, hash, "x", "3", true},
		"any hash":                             {ask(hash, metav1.LabelSelectorOpExists), hash, "x", "3", false},
		"every hash but its own":               {ask(hash, metav1.LabelSelectorOpNotIn, "y"), hash, "x", "3", false},
		"a generation of its own":              {&metav1.LabelSelector{MatchLabels: map[string]string{generation: "x"}}, generation, "x", "3", true},
		"the generation as it is":              {&metav1.LabelSelector{MatchLabels: map[string]string{generation: "3"}}, generation, "3", "3", false},
		"a generation, where none is written":  {&metav1.LabelSelector{MatchLabels: map[string]string{generation: "x"}}, generation, "x", "", false},
		"one that is not that of the template": {&metav1.LabelSelector{MatchLabels: map[string]string{"app": "y"}}, "app", "x", "3", true},
	} {
		t.Run(name, func(t *testing.T) {
			ds := daemonSet()
			ds.Spec.Selector = tc.selector
			ds.Spec.Template.Labels = map[string]string{tc.key: tc.value}
			ds.Annotations = nil
			if tc.annotate != "" {
				ds.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: tc.annotate}
			}
			spec := Spec(ds, "")
			if (spec.Halt == plan.InvalidSpec) != tc.halts || (spec.HaltDetail != "") != tc.halts {
				t.Errorf("halt is %v: %s", spec.Halt, spec.HaltDetail)
			}
			// The selector matches the labels that the pods really get.
			pod := NewPod(ds, TemplateHash(&ds.Spec.Template, nil), plan.Create{Node: "n"}, "p")
			if got := Claims(ds, pod) == Owned; got == tc.halts {
				t.Errorf("a pod of it is selected: %v", got)
			}
		})
	}
}
