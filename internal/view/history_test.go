package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// revisionOf returns the revision of the set with another image.
func revisionOf(t testing.TB, ds *appsv1.DaemonSet, image string, number int64) *appsv1.ControllerRevision {
	t.Helper()
	ds = ds.DeepCopy()
	ds.Spec.Template.Spec.Containers[0].Image = image
	r, err := NewRevision(ds, number)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read returns what History needs to know about revisions.
func read(revisions ...*appsv1.ControllerRevision) (known []*Revision) {
	for _, r := range revisions {
		known = append(known, ReadRevision(r))
	}
	return known
}

// summary formats a history plan in a few words.
func summary(h HistoryPlan) string {
	var s []string
	if h.Collision {
		s = append(s, "collision")
	}
	if h.Create != nil {
		s = append(s, fmt.Sprintf("create #%d", h.Create.Revision))
	}
	for _, u := range h.Update {
		s = append(s, fmt.Sprintf("update %s #%d", u.Revision.Name, u.Revision.Revision))
		for _, f := range []struct {
			is   bool
			name string
		}{{u.Adopt, "adopt"}, {u.Release, "release"}, {u.Label, "label"}, {u.Renumber, "renumber"}} {
			if f.is {
				s = append(s, f.name)
			}
		}
	}
	for _, from := range slices.Sorted(maps.Keys(h.Relabel)) {
		s = append(s, "relabel "+from+" to "+h.Relabel[from])
	}
	for _, d := range h.Delete {
		s = append(s, fmt.Sprintf("delete %s duplicate=%v", d.Revision.Name, d.Duplicate))
	}
	return strings.Join(s, ", ")
}

// historyCase is the existing revisions, the hashes of their pods, the history limit (0
// is the default, -1 none), and what is planned.
type historyCase struct {
	given       []*appsv1.ControllerRevision
	live        []string
	limit       int32
	hash, plans string
}

func TestHistory(t *testing.T) {
	ds := daemonSet()
	image := ds.Spec.Template.Spec.Containers[0].Image
	named := func(image, name string, number int64) *appsv1.ControllerRevision {
		r := revisionOf(t, ds, image, number)
		r.Name, r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = name, name
		return r
	}
	edit := func(r *appsv1.ControllerRevision, f func(*appsv1.ControllerRevision)) *appsv1.ControllerRevision {
		f(r)
		return r
	}
	orphan := func(r *appsv1.ControllerRevision) { r.OwnerReferences = nil }
	unlabelled := func(r *appsv1.ControllerRevision) { delete(r.Labels, appsv1.DefaultDaemonSetUniqueLabelKey) }
	null := func(r *appsv1.ControllerRevision) {
		r.Data.Raw = []byte(strings.Replace(string(r.Data.Raw), `"metadata":{`, `"metadata":{"creationTimestamp":null,`, 1))
	}
	type revs = []*appsv1.ControllerRevision
	for name, c := range map[string]historyCase{
		"first":    {hash: TemplateHash(&ds.Spec.Template, nil), plans: "create #1"},
		"settled":  {given: revs{named(image, "c", 2), named("old", "a", 1)}, hash: "c"},
		"edit":     {given: revs{named("old", "a", 1), named("older", "b", 4)}, hash: TemplateHash(&ds.Spec.Template, nil), plans: "create #5"},
		"undo":     {given: revs{named(image, "a", 1), named("new", "b", 2)}, hash: "a", plans: "update a #3, renumber"},
		"old data": {given: revs{edit(named(image, "a", 1), null)}, hash: "a"},
		"undo to old data": {given: revs{edit(named(image, "a", 1), null), named("new", "b", 2)}, hash: "a",
			plans: "update a #3, renumber"},
		"adopt":          {given: revs{edit(named(image, "a", 1), orphan)}, hash: "a", plans: "update a #1, adopt"},
		"label":          {given: revs{edit(named(image, "a", 1), unlabelled)}, hash: "a", plans: "update a #1, label"},
		"label, nothing": {given: revs{edit(named("old", "b", 1), unlabelled), named(image, "a", 2)}, hash: "a", plans: "update b #1, label"},
		"release": {given: revs{edit(named("old", "b", 7), func(r *appsv1.ControllerRevision) { r.Labels["app"] = "x" }), named(image, "a", 1)},
			hash: "a", plans: "update b #7, release"},
		"not ours": {given: revs{edit(named("old", "b", 7), func(r *appsv1.ControllerRevision) { r.OwnerReferences[0].UID = "x" }), named(image, "a", 1)},
			hash: "a"},
		"duplicate":                {given: revs{named(image, "a", 1), named(image, "b", 2)}, hash: "b", plans: "delete a duplicate=true"},
		"duplicate with pods":      {given: revs{named(image, "a", 1), named(image, "b", 2)}, live: []string{"a", "b"}, hash: "b", plans: "relabel a to b"},
		"duplicates, same number":  {given: revs{edit(named(image, "a", 1), null), named(image, "b", 1)}, hash: "b", plans: "delete a duplicate=true"},
		"duplicates, same bytes":   {given: revs{named(image, "b", 1), named(image, "a", 1)}, hash: "a", plans: "delete b duplicate=true"},
		"duplicates, newer is odd": {given: revs{named(image, "a", 1), edit(named(image, "b", 2), null)}, hash: "b", plans: "delete a duplicate=true"},
		"duplicate, same hash": {given: revs{edit(named(image, "a", 1), func(r *appsv1.ControllerRevision) { r.Name = "copy" }), named(image, "a", 2)},
			live: []string{"a"}, hash: "a", plans: "delete copy duplicate=true"},
		"orphaned duplicate": {given: revs{edit(named(image, "a", 1), orphan), named(image, "b", 2)}, hash: "b", plans: "update a #1, adopt"},
		"limit": {given: revs{named("1", "a", 1), named("2", "b", 2), named("3", "c", 3), named(image, "d", 4)},
			limit: 2, hash: "d", plans: "delete a duplicate=false"},
		"limit with pods": {given: revs{named("3", "c", 3), named("2", "b", 2), named("1", "a", 1), named(image, "d", 4)},
			live: []string{"a", "c"}, limit: 1, hash: "d", plans: "delete b duplicate=false"},
		"limit of nothing": {given: revs{named("1", "a", 1), edit(named("2", "b", 2), orphan), named(image, "d", 4)},
			limit: -1, hash: "d", plans: "update b #2, adopt, delete a duplicate=false"},
	} {
		t.Run(name, func(t *testing.T) { c.check(t, ds.DeepCopy()) })
	}
}

func (c historyCase) check(t *testing.T, set *appsv1.DaemonSet) {
	if c.limit != 0 {
		set.Spec.RevisionHistoryLimit = ptr(max(c.limit, 0))
	}
	live := map[string]bool{}
	for _, h := range c.live {
		live[h] = true
	}
	var before []*appsv1.ControllerRevision
	for _, r := range c.given {
		before = append(before, r.DeepCopy())
	}
	h, err := History(set, read(c.given...), live)
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(h); got != c.plans || h.Empty() != (c.plans == "") {
		t.Errorf("plan is %q (empty %v), want %q", got, h.Empty(), c.plans)
	}
	if h.Hash != c.hash {
		t.Errorf("hash is %q, want %q", h.Hash, c.hash)
	}
	if diff := cmp.Diff(before, c.given); diff != "" {
		t.Errorf("the revisions were changed:\n%s", diff)
	}
}

func TestHistoryUpdates(t *testing.T) {
	ds := daemonSet()
	orphan := revisionOf(t, ds, "busybox:1.36", 1)
	orphan.OwnerReferences = []metav1.OwnerReference{{UID: "friend"}}
	orphan.Labels = map[string]string{"app": "agent"}
	leaving := revisionOf(t, ds, "old", 5)
	leaving.OwnerReferences = append(leaving.OwnerReferences, metav1.OwnerReference{UID: "friend"})
	leaving.Labels = nil
	h, err := History(ds, read(orphan, leaving), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Update) != 2 {
		t.Fatalf("plan is %s", summary(h))
	}
	freed, adopted := h.Update[0].Revision, h.Update[1].Revision
	if len(freed.OwnerReferences) != 1 || freed.OwnerReferences[0].UID != "friend" {
		t.Errorf("released: %+v", freed.OwnerReferences)
	}
	if !metav1.IsControlledBy(adopted, ds) || len(adopted.OwnerReferences) != 2 || adopted.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] != adopted.Name {
		t.Errorf("adopted: %+v %v", adopted.OwnerReferences, adopted.Labels)
	}
}

// The name of a new revision may be taken.
func TestHistoryCollision(t *testing.T) {
	ds := daemonSet()
	taken := revisionOf(t, ds, "busybox:1.36", 1)
	taken.OwnerReferences = []metav1.OwnerReference{{UID: "other", Controller: ptr(true)}}
	h, err := History(ds, read(taken), nil)
	if err != nil || h.Hash != taken.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] || !h.Empty() {
		t.Errorf("by the same template: %s, %v", summary(h), err)
	}
	taken.Data.Raw = revisionOf(t, ds, "other", 1).Data.Raw
	h, err = History(ds, read(taken), nil)
	if err != nil || !h.Collision || h.Empty() || h.Hash != "" {
		t.Errorf("by another template: %s, %v", summary(h), err)
	}
	ds.Status.CollisionCount = ptr(int32(1))
	h, err = History(ds, read(taken), nil)
	if err != nil || h.Create == nil || h.Create.Name == taken.Name {
		t.Errorf("after the collision: %s, %v", summary(h), err)
	}
}

// A DaemonSet that is being deleted changes nothing.
func TestHistoryOfADeletedSet(t *testing.T) {
	ds := daemonSet()
	ds.DeletionTimestamp = &metav1.Time{}
	h, err := History(ds, nil, nil)
	if err != nil || !h.Empty() || h.Hash != "" {
		t.Errorf("without revisions: %s, %v", summary(h), err)
	}
	r := revisionOf(t, ds, "busybox:1.36", 1)
	r.OwnerReferences = nil
	mine := revisionOf(t, ds, "busybox:1.36", 2)
	h, err = History(ds, read(r, mine, revisionOf(t, ds, "old", 3)), nil)
	if err != nil || !h.Empty() || h.Hash != mine.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] {
		t.Errorf("with revisions: %s, %v", summary(h), err)
	}
}

// I11, and that a history settles: carried out again and again, whatever it was, it
// ends in an empty plan, with one revision of the current template, which is the
// newest, and no revision with pods was ever deleted.
func TestHistorySettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := daemonSet()
		ds.Spec.RevisionHistoryLimit = ptr(int32(rapid.IntRange(0, 3).Draw(t, "limit")))
		live := map[string]bool{}
		var revisions []*appsv1.ControllerRevision
		for i := range rapid.IntRange(0, 6).Draw(t, "revisions") {
			revisions = append(revisions, drawRevision(t, ds, fmt.Sprintf("r%d", i), live))
		}
		for round := 0; ; round++ {
			h, err := History(ds, read(revisions...), live)
			if err != nil {
				t.Fatal(err)
			}
			if h.Empty() {
				checkSettled(t, ds, revisions, h)
				return
			}
			if round > 5 {
				t.Fatalf("not settled: %s", summary(h))
			}
			revisions = carryOut(t, ds, h, revisions, live)
		}
	})
}

func drawRevision(t *rapid.T, ds *appsv1.DaemonSet, name string, live map[string]bool) *appsv1.ControllerRevision {
	set := ds.DeepCopy()
	set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"busybox:1.36", "busybox:1.36", "a", "b", "c", "d"}).Draw(t, "image")
	r, err := NewRevision(set, int64(rapid.IntRange(1, 4).Draw(t, "number")))
	if err != nil {
		t.Fatal(err)
	}
	r.Name = name
	r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = name
	if rapid.IntRange(0, 3).Draw(t, "label") == 0 {
		delete(r.Labels, appsv1.DefaultDaemonSetUniqueLabelKey)
	}
	switch rapid.IntRange(0, 7).Draw(t, "owner") {
	case 0:
		r.OwnerReferences = nil
	case 1:
		r.OwnerReferences[0].UID = "other"
	case 2:
		r.Labels["app"] = "x"
	}
	if rapid.IntRange(0, 2).Draw(t, "live") == 0 {
		live[name] = true
	}
	return r
}

func carryOut(t *rapid.T, ds *appsv1.DaemonSet, h HistoryPlan, revisions []*appsv1.ControllerRevision, live map[string]bool) []*appsv1.ControllerRevision {
	if h.Create != nil {
		revisions = append(revisions, h.Create)
	}
	for _, u := range h.Update {
		i := slices.IndexFunc(revisions, func(r *appsv1.ControllerRevision) bool { return r.Name == u.Revision.Name })
		whole := revisions[i].DeepCopy()
		u.Apply(whole)
		revisions[i] = whole
	}
	for from, to := range h.Relabel {
		delete(live, from)
		live[to] = true
	}
	for _, d := range h.Delete {
		if hash := d.Revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]; live[hash] || !metav1.IsControlledBy(d.Revision, ds) {
			t.Fatalf("%s is deleted: live %v", d.Revision.Name, live[hash])
		}
		revisions = slices.DeleteFunc(revisions, func(r *appsv1.ControllerRevision) bool { return r.Name == d.Revision.Name })
	}
	return revisions
}

func checkSettled(t *rapid.T, ds *appsv1.DaemonSet, revisions []*appsv1.ControllerRevision, h HistoryPlan) {
	data, _ := RevisionData(ds)
	var same, old []*appsv1.ControllerRevision
	for _, r := range revisions {
		switch {
		case Claims(ds, r) != Owned:
		case sameTemplate(r.Data.Raw, data):
			same = append(same, r)
		default:
			old = append(old, r)
		}
	}
	if len(same) != 1 || h.Hash == "" || same[0].Labels[appsv1.DefaultDaemonSetUniqueLabelKey] != h.Hash {
		t.Fatalf("%d revisions of the present template, hash %q", len(same), h.Hash)
	}
	for _, r := range old {
		if same[0].Revision <= r.Revision {
			t.Fatalf("current is #%d, an old one #%d", same[0].Revision, r.Revision)
		}
	}
}
