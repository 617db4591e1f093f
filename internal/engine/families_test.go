package engine

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// What is remembered of other pods changes nothing about a pod.
func TestFamilies(t *testing.T) {
	watched := newFamilies()
	rapid.Check(t, func(t *rapid.T) {
		p := benchPod(1)
		text := rapid.SampledFrom([]string{"a", "b", "c"})
		p.Namespace, p.OwnerReferences[0].UID = text.Draw(t, "namespace"), types.UID(text.Draw(t, "owner"))
		p.Labels = rapid.MapOfN(text, text, 0, 3).Draw(t, "labels")
		if rapid.Bool().Draw(t, "orphan") {
			p.OwnerReferences = nil
		}
		alone, err := compactPod(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := watched.compact(p)
		if err != nil || *got != *alone {
			t.Fatalf("%+v is remembered as %+v, %v", alone, got, err)
		}
		p.Labels["changed"] = "later" // by whoever else has the object
	})
}

// Two families that have the same place take turns.
func TestFamiliesOfOnePlace(t *testing.T) {
	watched := newFamilies()
	for i := range 10 * len(watched.known) {
		p := benchPod(i)
		p.Labels["n"] = p.Name
		for range 2 {
			e, err := watched.compact(p)
			if err != nil || e.labels != internLabels(p.Labels) {
				t.Fatalf("pod %d has the labels %q, %v", i, e.labels.Value(), err)
			}
		}
	}
	if nothing := (&corev1.Pod{}); watched.of(nothing, "", "").labels != internLabels(nil) {
		t.Error("a pod without labels has some")
	}
}
