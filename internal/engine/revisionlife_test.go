package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// addRevision creates a revision of the set by hand, with the name that the template
// would have after the change, and the data of the current template.
func (c *cluster) addRevision(number int64, change func(*appsv1.DaemonSet)) string {
	c.t.Helper()
	ds := c.set()
	r, err := view.NewRevision(ds, number)
	if err != nil {
		c.t.Fatal(err)
	}
	changed := ds.DeepCopy()
	change(changed)
	other, err := view.NewRevision(changed, number)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Name, r.Labels = other.Name, other.Labels
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("controllerrevisions", r)
	return r.Name
}

// A user creates, labels and deletes revisions, as Kubernetes' own test of their
// lifecycle does. A new one is left alone, even if it has the current template; one
// that is deleted is created again if no other has the template; and a template whose
// name is taken gets another.
func TestRevisionsMadeByHand(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		numbers := func(step string, want ...int64) {
			t.Helper()
			got := map[int64]bool{}
			for _, r := range c.ownRevisions() {
				got[r.Revision] = true
			}
			for _, n := range want {
				if len(got) != len(want) || !got[n] {
					t.Errorf("%s: there are %v, want %v", step, got, want)
				}
			}
		}
		first := c.ownRevisions()[0].Name
		label := func(name string) {
			edit(c, "controllerrevisions", "default/"+name, func(r *appsv1.ControllerRevision) { r.Labels[name] = "seen" })
		}
		label(first)
		c.run(time.Second)
		before := uids(c.pods())
		second := c.addRevision(2, image("agent:2"))
		c.run(time.Minute)
		numbers("a second one is made", 1, 2)
		if after := uids(c.pods()); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("pods were replaced for it: %v, before %v", after, before)
		}
		c.delete("controllerrevisions", "default/"+first, "")
		c.run(time.Minute)
		numbers("the first one is deleted", 2)
		label(second)
		c.run(time.Second)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		numbers("a template whose name is taken", 2, 3)
		c.covered(2, "agent:2")
		c.delete("controllerrevisions", "default/"+second, "")
		c.run(time.Minute)
		numbers("the second one is deleted", 3)
		c.delete("controllerrevisions", "default/"+c.ownRevisions()[0].Name, "")
		c.run(time.Second)
		numbers("the last one is deleted", 1)
	})
}

// Two revisions of the current template are merged when the DaemonSet is next worked
// on, for whatever reason. No pod restarts.
func TestDuplicateIsTidiedUpWithTheNextWork(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		before := uids(c.pods())
		name := c.addRevision(2, image("agent:2"))
		c.run(time.Minute)
		c.addNode("node-03")
		c.run(10 * time.Second)
		if all := c.ownRevisions(); len(all) != 1 || all[0].Name != name {
			t.Errorf("%d revisions, the first %s; want %s alone", len(all), all[0].Name, name)
		}
		c.covered(3, "agent:1")
		for node, uid := range before {
			if p := c.podOn(node); p.UID != uid {
				t.Errorf("the pod of %s was replaced", node)
			}
		}
	})
}

// The revisions of other kinds are not kept. A change of a revision does not cause the
// history of another DaemonSet to be computed.
func TestRevisionsOfOthers(t *testing.T) {
	w := newWatched()
	for _, name := range []string{"x", "y"} {
		w.addSet(t, name, nil)
	}
	version := 10
	revision := func(kind, owner string) *revisionEntry {
		version++
		r := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: owner + "-1", UID: types.UID(owner + "-1"), ResourceVersion: fmt.Sprint(version),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, UID: types.UID("uid-" + owner), Controller: new(true)}}},
			Data: runtime.RawExtension{Raw: []byte(`{}`)},
		}
		e, err := compactRevision(r)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	x := w.set(types.NamespacedName{Namespace: "default", Name: "x"}).ds
	at := w.epochs(x)
	w.upsertRevision(revision("StatefulSet", "db"))
	w.upsertRevision(revision("DaemonSet", "y"))
	w.upsertRevision(revision("DaemonSet", "y"))
	if got := w.epochs(x); got != at {
		t.Errorf("the history of x is out of date: %+v, before %+v", got, at)
	}
	if in := w.revisions["default"]; len(in) != 1 || in["y-1"] == nil {
		t.Errorf("kept: %v", in)
	}
	w.upsertRevision(revision("DaemonSet", "x"))
	mine := w.epochs(x)
	if mine == at {
		t.Error("a revision of x does not count")
	}
	w.upsertRevision(revision("DaemonSet", "first-life"))
	if w.epochs(x) == mine {
		t.Error("a revision that no DaemonSet has does not count: its name may be needed")
	}
	elsewhere := revision("DaemonSet", "first-life-elsewhere")
	elsewhere.Object.Namespace = "other"
	mine = w.epochs(x)
	w.upsertRevision(elsewhere)
	if w.epochs(x) != mine {
		t.Error("a revision that no DaemonSet has counts in other namespaces")
	}
	w.removeRevision(elsewhere)
	w.upsertRevision(revision("StatefulSet", "x")) // it has another owner now
	if w.revisions["default"]["x-1"] != nil {
		t.Error("a revision that a StatefulSet has taken is kept")
	}
	w.removeRevision(revision("DaemonSet", "y"))
	w.removeRevision(revision("DaemonSet", "first-life"))
	if len(w.revisions) != 0 {
		t.Errorf("left: %v", w.revisions)
	}
}

// For the history, a revision from which only a create under way is made has a pod: it
// is kept beyond the limit (I11).
func TestRevisionOfACreateUnderWayIsKept(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = new(int32) })
		c.admit(webhook{verb: "create", resource: "pods", takes: 3 * time.Second})
		c.start()
		c.run(time.Second)
		c.editSet(image("agent:2"))
		c.run(time.Second)
		if got := c.revisions(); len(got) != 2 {
			t.Errorf("while pods of the first are being made there are %v", got)
		}
		c.admit()
		c.run(time.Minute)
		c.covered(2, "agent:2")
		if got := c.revisions(); len(got) != 1 {
			t.Errorf("in the end there are %v", got)
		}
	})
}

// The index keeps what distinguishes the templates of revisions, not the templates: a
// user who may write a DaemonSet can fill eleven revisions with anything.
func TestRevisionsAreSmall(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "a-1", Namespace: "n", UID: "1", ResourceVersion: "7",
			Annotations: map[string]string{"a": large}, ManagedFields: []metav1.ManagedFieldsEntry{{FieldsV1: metav1.NewFieldsV1(large)}}},
		Data: runtime.RawExtension{Raw: []byte(`{"spec":"` + large + `"}`)},
	}
	e, err := compactRevision(r)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(e.Object)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) > 1000 {
		t.Errorf("%d bytes are kept of one revision: %.200s", len(kept), kept)
	}
}

// What the index does not keep of a revision is still there after the revision was
// updated.
func TestRenumberedRevisionsKeepTheirAnnotations(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Annotations = map[string]string{"kubernetes.io/change-cause": "first"} })
		c.start()
		c.run(10 * time.Second)
		first := c.ownRevisions()[0].UID
		c.editSet(image("agent:2"))
		c.run(30 * time.Second)
		c.editSet(image("agent:1"))
		c.run(30 * time.Second)
		for _, r := range c.ownRevisions() {
			if r.UID == first && (r.Revision != 3 || r.Annotations["kubernetes.io/change-cause"] != "first" || imageIn(t, r) != "agent:1") {
				t.Errorf("after the undo: number %d, %v, %s", r.Revision, r.Annotations, r.Data.Raw)
			}
		}
	})
}
