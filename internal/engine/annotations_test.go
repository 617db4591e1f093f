package engine

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// padded fills the annotations up to the limit of Kubernetes.
func padded(ds *appsv1.DaemonSet) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = strings.Repeat("x", 250<<10)
}

// What the index does not keep is not lost: it is in the DaemonSet after its status was written, and in the
// revision, as with Kubernetes' controller.
func TestLargeAnnotationsStay(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet(padded, func(ds *appsv1.DaemonSet) { ds.Annotations["kubernetes.io/change-cause"] = "first" })
		want := maps.Clone(c.set().Annotations)
		c.start()
		c.run(30 * time.Second)
		c.covered(3, "agent:1")
		c.editSet(image("agent:2"))
		c.run(2 * time.Minute)
		c.covered(3, "agent:2")
		if got := c.set().Annotations; !maps.Equal(got, want) {
			t.Errorf("the DaemonSet has the annotations %v", slices.Collect(maps.Keys(got)))
		}
		for _, o := range c.objects["controllerrevisions"] {
			if r := o.(*appsv1.ControllerRevision); !maps.Equal(r.Annotations, want) {
				t.Errorf("%s has the annotations %v", r.Name, slices.Collect(maps.Keys(r.Annotations)))
			}
		}
		if n := len(c.revisions()); n != 2 {
			t.Errorf("there are %d revisions, want 2", n)
		}
	})
}

// A template that changes while its annotations are read again gets its own revision, and the revision before
// gets none of its annotations.
func TestLargeAnnotationsOfANewerTemplate(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		cause := func(text string) func(*appsv1.DaemonSet) {
			return func(ds *appsv1.DaemonSet) { ds.Annotations["kubernetes.io/change-cause"] = text }
		}
		c.addSet(padded, cause("first"))
		edited := false
		c.slowDown(func(r request) time.Duration {
			if r.is("get", "daemonsets") && !edited {
				edited = true
				time.AfterFunc(time.Second, func() {
					c.editSet(func(ds *appsv1.DaemonSet) { image("agent:2")(ds); cause("second")(ds) })
				})
				return 2 * time.Second
			}
			return 0
		})
		c.start()
		c.run(30 * time.Second)
		c.covered(1, "agent:2")
		for _, o := range c.objects["controllerrevisions"] {
			r := o.(*appsv1.ControllerRevision)
			if image, cause := imageIn(t, r), r.Annotations["kubernetes.io/change-cause"]; (image == "agent:2") != (cause == "second") {
				t.Errorf("the revision of %s has the cause %q", image, cause)
			}
		}
		if !edited {
			t.Error("the DaemonSet was never read again: this tells nothing")
		}
	})
}

// If annotations are too large, only those that the engine reads are kept, each cut to the length of the
// longest valid value.
func TestTrimAnnotations(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		view.BindByAnnotation: "scheduler", appsv1.DeprecatedTemplateGeneration: "7", "note": "short"}}}
	before := maps.Clone(ds.Annotations)
	if trimAnnotations(ds) || !maps.Equal(ds.Annotations, before) {
		t.Errorf("small annotations were trimmed to %v", ds.Annotations)
	}
	padded(ds)
	given := ds.Annotations
	if !trimAnnotations(ds) {
		t.Error("large annotations were not trimmed")
	}
	delete(before, "note")
	if !maps.Equal(ds.Annotations, before) {
		t.Errorf("kept: %v", ds.Annotations)
	}
	if len(given) != 4 {
		t.Error("the map that was given was written to")
	}
	ds.Annotations[view.BindByAnnotation] = strings.Repeat("s", maxAnnotations)
	if trimAnnotations(ds); len(ds.Annotations[view.BindByAnnotation]) > maxAnnotation {
		t.Errorf("%d bytes of one annotation are kept", len(ds.Annotations[view.BindByAnnotation]))
	}
	if scheduled, err := (view.Binding{}).Scheduled(ds); !scheduled || err == nil {
		t.Errorf("an annotation that is not meant gives %v, %v", scheduled, err)
	}
}

// What one DaemonSet as large as Kubernetes allows, with an equally large revision, makes the engine keep:
// the template once, because pods are created from it, and little else.
func TestLargeDaemonSetsAreKeptOnce(t *testing.T) {
	const sets, template, most = 20, 1 << 20, 1<<20 + 64<<10 // bytes
	var kept []any
	before := heapNow()
	for range sets {
		ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "large", ResourceVersion: "1"}}
		ds.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		ds.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "A", Value: strings.Repeat("x", template)}}}}
		padded(ds)
		set, err := compactSet(ds)
		if err != nil {
			t.Fatal(err)
		}
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "large-1", ResourceVersion: "1", Annotations: map[string]string{"a": strings.Repeat("x", 250<<10)}}}
		r.Data.Raw = []byte(strings.Repeat("x", template))
		revision, err := compactRevision(r)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, set, revision)
	}
	if each := (heapNow() - before) / sets; each > most {
		t.Errorf("%d KiB are kept of each, want at most %d", each>>10, most>>10)
	} else {
		t.Logf("%d KiB are kept of each", each>>10)
	}
	runtime.KeepAlive(kept)
}
