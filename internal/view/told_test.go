package view

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

// Whatever the engine reports about a node is parsed as it was meant.
func TestToldIsRead(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	denied := errors.New(`admission webhook "keep" denied the request: not on node b: ever`)
	for _, c := range []struct {
		text string
		want Told
		ok   bool
	}{
		{RefusedText(RefusedCreate, "a.example", denied), Told{"a.example", plan.WriteFailed, RefusedCreate, denied.Error(), at, time.Time{}}, true},
		{"(combined from similar events): " + RefusedText(RefusedDelete, "a", denied), Told{"a", plan.WriteFailed, RefusedDelete, denied.Error(), at, time.Time{}}, true},
		{RefusedText(RefusedChange, "a", denied), Told{"a", plan.WriteFailed, RefusedChange, denied.Error(), at, time.Time{}}, true},
		{RefusedText(RefusedClaim, "a", denied), Told{"a", plan.WriteFailed, RefusedClaim, denied.Error(), at, time.Time{}}, true},
		{NotLastText("a", 5, "by the taint manager", 90*time.Second), Told{"a", plan.PodsDoNotLast, "", "by the taint manager", at, at.Add(90 * time.Second)}, true},
		{NotLastText("a", 5, "", time.Second), Told{"a", plan.PodsDoNotLast, "", "", at, at.Add(time.Second)}, true},
		{"Created pod: node a: b", Told{At: at}, false},
		{"Error creating: pods is forbidden", Told{At: at}, false},
	} {
		e := corev1.Event{Message: c.text, LastTimestamp: metav1.NewTime(at)}
		if got, ok := ReadTold(&e); got != c.want || ok != c.ok {
			t.Errorf("%q:\n%+v, %v; want\n%+v, %v", c.text, got, ok, c.want, c.ok)
		}
		e = corev1.Event{Message: c.text, EventTime: metav1.NewMicroTime(at)}
		if got, _ := ReadTold(&e); got.At != at {
			t.Errorf("%q: at %v", c.text, got.At)
		}
	}
}
