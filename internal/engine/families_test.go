package engine

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"everynode/internal/view"
)

// What is remembered of other pods changes nothing about a pod.
func TestFamilies(t *testing.T) {
	watched := newFamilies()
	rapid.Check(t, func(t *rapid.T) {
		p := benchPod(1)
		text := rapid.SampledFrom([]string{"a", "b", "c"})
		p.Namespace, p.OwnerReferences[0].UID = text.Draw(t, "namespace"), types.UID(text.Draw(t, "owner"))
		key := rapid.SampledFrom([]string{"a", "b", appsv1.DefaultDaemonSetUniqueLabelKey})
		p.Labels = rapid.MapOfN(key, text, 0, 3).Draw(t, "labels")
		if rapid.Bool().Draw(t, "orphan") {
			p.OwnerReferences = nil
		}
		alone, err := compactPod(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := watched.compact(p)
		if err != nil || *got != *alone || got.Hash != view.Pod(p).Hash {
			t.Fatalf("%+v is remembered as %+v, %v", alone, got, err)
		}
		p.Labels["changed"] = "later" // by whoever else has the object
	})
}

// Two families that have the same place take turns.
func TestFamiliesOfOnePlace(t *testing.T) {
	watched := newFamilies()
	for i := range 10 * len(watched.known) {
		p, owner := benchPod(i), fmt.Sprint("owner-", i/2)
		if i%2 == 0 {
			p.Labels["n"] = p.Name
		}
		for range 2 {
			if of := watched.of(p, owner); of.owner != owner || of.labels != internLabels(p.Labels) {
				t.Fatalf("pod %d of %s has the owner %s and the labels %q", i, owner, of.owner, of.labels.Value())
			}
		}
	}
	if watched.of(&corev1.Pod{}, "").labels != internLabels(nil) {
		t.Error("a pod without labels has some")
	}
}
