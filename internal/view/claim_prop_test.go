package view

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"
)

// A prepared selector selects what the library's does.
func TestSelectorIsTheLibrarys(t *testing.T) {
	word := rapid.SampledFrom([]string{"", "a", "b", "c"})
	key := rapid.SampledFrom([]string{"k", "l", "not a key"})
	expression := rapid.Custom(func(t *rapid.T) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key.Draw(t, "key"), Values: rapid.SliceOfN(word, 0, 3).Draw(t, "values"),
			Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "Gt", ""}).Draw(t, "op")}
	})
	rapid.Check(t, func(t *rapid.T) {
		s := &metav1.LabelSelector{MatchLabels: rapid.MapOfN(key, word, 0, 2).Draw(t, "labels"), MatchExpressions: rapid.SliceOfN(expression, 0, 3).Draw(t, "expressions")}
		set := rapid.MapOfN(key, word, 0, 3).Draw(t, "set")
		want := false
		if theirs, err := metav1.LabelSelectorAsSelector(s); err == nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
			want = theirs.Matches(labels.Set(set))
		}
		if len(s.MatchExpressions) == 0 && len(s.MatchLabels) > 0 { // not checked, as before: the API server has done that
			want = labels.SelectorFromSet(s.MatchLabels).Matches(labels.Set(set))
		}
		if got := NewSelector(s).Selects(set); got != want {
			t.Fatalf("%v, the library says %v", got, want)
		}
	})
	if (*Selector)(nil).Selects(nil) {
		t.Error("none selects something")
	}
}
