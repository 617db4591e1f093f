package view

import (
	"cmp"
	"crypto/sha256"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Revision is what History needs to know about a ControllerRevision.
type Revision struct {
	// Object is the revision without its data, annotations and managed fields. Those may be large, and
	// everybody who may write a DaemonSet can fill eleven revisions with them.
	Object          *appsv1.ControllerRevision
	bytes, template digest
}

// ReadRevision extracts what History needs from a revision. It does not change r.
func ReadRevision(r *appsv1.ControllerRevision) *Revision {
	small := *r
	small.Data, small.Annotations, small.ManagedFields = runtime.RawExtension{}, nil, nil
	return &Revision{&small, sha256.Sum256(r.Data.Raw), templateDigest(r.Data.Raw)}
}

// SameTemplate reports whether both restore the same template.
func (r *Revision) SameTemplate(o *Revision) bool { return r.template == o.template }

// HistoryPlan is what to do with the revisions of a DaemonSet. It is carried out from top to bottom, and
// computed again after any part was done. Delete names only what the given revisions and pods prove to be
// useless.
type HistoryPlan struct {
	// Hash is the hash label of the current template's revision, which new pods get. Empty if Collision.
	Hash string
	// Collision means that another template has the name for the new revision: increase status.collisionCount
	// by one, and plan again.
	Collision bool
	// Create is the revision to create, or nil. On AlreadyExists: if the existing one has the
	// same template, use it; otherwise it is a Collision.
	Create *appsv1.ControllerRevision
	// Update are the revisions to change.
	Update []RevisionUpdate
	// Relabel maps hashes of pods to their new hash: that of a revision with the same template that is kept.
	// No pod restarts because of it.
	Relabel map[string]string
	// Delete are the revisions to delete.
	Delete []RevisionDelete
}

// RevisionUpdate is one revision as it should be, as far as Revision keeps it, and what changes. Apply
// changes the whole object.
type RevisionUpdate struct {
	Revision *appsv1.ControllerRevision
	// Adopt: we become its controller, which needs a live read of the DaemonSet first. Release: we give up
	// control.
	Adopt, Release bool
	// Label: it gets the hash label that it lacks. Renumber: it becomes the newest, because its template is
	// the current one again.
	Label, Renumber bool

	sameBytes bool // it has exactly the bytes of the current template
}

// Apply makes the changes on the whole object.
func (u *RevisionUpdate) Apply(whole *appsv1.ControllerRevision) {
	whole.Labels, whole.OwnerReferences, whole.Revision = u.Revision.Labels, u.Revision.OwnerReferences, u.Revision.Revision
}

// RevisionDelete is one revision to delete.
type RevisionDelete struct {
	Revision *appsv1.ControllerRevision
	// Duplicate: another revision has the same template. Otherwise the history is longer than
	// revisionHistoryLimit.
	Duplicate bool
}

// Empty reports whether nothing is to be done.
func (h *HistoryPlan) Empty() bool {
	return !h.Collision && h.Create == nil && len(h.Update) == 0 && len(h.Relabel) == 0 && len(h.Delete) == 0
}

// History plans the revisions of the DaemonSet. revisions are all those of its namespace, or at least those
// for which Claims does not return NotOurs; they are not changed. live is the set of hashes of all its pods,
// including terminating ones.
func History(ds *appsv1.DaemonSet, revisions []*Revision, live map[string]bool) (HistoryPlan, error) {
	data, err := RevisionData(ds)
	if err != nil {
		return HistoryPlan{}, err
	}
	h := history{ds: ds, live: live, bytes: sha256.Sum256(data), template: templateDigest(data)}
	for _, r := range slices.SortedFunc(slices.Values(revisions), byNumber) {
		h.claim(r)
	}
	next := int64(1)
	for _, e := range h.old {
		next = max(next, e.Revision.Revision+1)
	}
	switch {
	case ds.DeletionTimestamp != nil:
		// The garbage collector decides whether the set's revisions still exist.
		h.keepOnly()
		return h.plan, nil
	case len(h.same) > 0:
		h.reuse(next)
	default:
		if err := h.create(next, revisions); err != nil {
			return HistoryPlan{}, err
		}
	}
	h.limit()
	h.finish()
	return h.plan, nil
}

// byNumber sorts by revision number, then age, then name.
func byNumber(one, other *Revision) int {
	a, b := one.Object, other.Object
	return cmp.Or(cmp.Compare(a.Revision, b.Revision),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// history is a HistoryPlan that is being built.
type history struct {
	ds   *appsv1.DaemonSet
	live map[string]bool

	bytes, template digest // of the current template

	same []*RevisionUpdate // of the current template, by number
	old  []*RevisionUpdate // of others, by number
	gone []*RevisionUpdate // to be released
	plan HistoryPlan
}

// claim copies the revisions that are ours, or will be, and adds the label if it is missing. The label is
// then the revision's name, which is unique where a hash might not be.
func (h *history) claim(known *Revision) {
	r := known.Object
	u := &RevisionUpdate{Revision: r, sameBytes: known.bytes == h.bytes}
	switch Claims(h.ds, r) {
	case Owned:
	case Adopt:
		u.Revision, u.Adopt = r.DeepCopy(), true
		u.Revision.OwnerReferences = append(u.Revision.OwnerReferences, *metav1.NewControllerRef(h.ds, controllerKind()))
	case Release:
		u.Revision, u.Release = r.DeepCopy(), true
		u.Revision.OwnerReferences = slices.DeleteFunc(u.Revision.OwnerReferences,
			func(o metav1.OwnerReference) bool { return o.UID == h.ds.UID })
		h.gone = append(h.gone, u)
		return
	default:
		return
	}
	if r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == "" {
		u.edit(r).Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = r.Name
		u.Label = true
	}
	if known.template == h.template {
		h.same = append(h.same, u)
	} else {
		h.old = append(h.old, u)
	}
}

// edit makes sure that the revision is a copy, not the original, and has a labels map.
func (u *RevisionUpdate) edit(original *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	if u.Revision == original {
		u.Revision = original.DeepCopy()
	}
	if u.Revision.Labels == nil {
		u.Revision.Labels = map[string]string{}
	}
	return u.Revision
}

func (u *RevisionUpdate) hash() string {
	return u.Revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
}

// reuse takes the newest revision of the current template. Of several with the same number, it takes one with
// exactly the same bytes. Pods of the others are relabelled first; the others are deleted only when they have
// no pods left.
func (h *history) reuse(next int64) {
	keep := h.same[0]
	for _, u := range h.same[1:] {
		newer := u.Revision.Revision > keep.Revision.Revision
		if newer || u.sameBytes && !keep.sameBytes && u.Revision.Revision == keep.Revision.Revision {
			keep = u
		}
	}
	if keep.Revision.Revision < next {
		keep.Revision = keep.Revision.DeepCopy()
		keep.Revision.Revision, keep.Renumber = next, true
	}
	h.plan.Hash = keep.hash()
	for _, u := range h.same {
		switch {
		case u == keep:
		case u.hash() == keep.hash():
			h.remove(u, true) // its pods have the right label already
		case h.live[u.hash()]:
			if h.plan.Relabel == nil {
				h.plan.Relabel = map[string]string{}
			}
			h.plan.Relabel[u.hash()] = keep.hash()
		default:
			h.remove(u, true)
		}
	}
}

// create creates a revision, unless its name is taken. If a revision with the same template has the name, it
// exists already but is not ours.
func (h *history) create(number int64, revisions []*Revision) error {
	r, err := NewRevision(h.ds, number)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(revisions, func(o *Revision) bool {
		return o.Object.Namespace == r.Namespace && o.Object.Name == r.Name
	})
	switch {
	case i < 0:
		h.plan.Create = r
	case revisions[i].template == h.template:
	default:
		h.plan.Collision = true
		return nil
	}
	h.plan.Hash = r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	return nil
}

// keepOnly handles a DaemonSet that is being deleted. It names the current revision if that exists, and
// changes nothing.
func (h *history) keepOnly() {
	if n := len(h.same); n > 0 {
		h.plan.Hash = h.same[n-1].hash()
	}
}

// defaultHistoryLimit is the API server's default.
const defaultHistoryLimit = 10

// limit deletes the oldest revisions above the limit, but none with pods (I11).
func (h *history) limit() {
	keep := defaultHistoryLimit
	if l := h.ds.Spec.RevisionHistoryLimit; l != nil {
		keep = int(*l)
	}
	excess := len(h.old) - keep
	for _, u := range h.old {
		if excess <= 0 {
			return
		}
		if !h.live[u.hash()] {
			h.remove(u, false)
			excess--
		}
	}
}

func (h *history) remove(u *RevisionUpdate, duplicate bool) {
	h.plan.Delete = append(h.plan.Delete, RevisionDelete{Revision: u.Revision, Duplicate: duplicate})
}

// finish lists the updates, except those of revisions that are deleted. We must not delete a revision that is
// not ours yet, so it is adopted first.
func (h *history) finish() {
	doomed := map[*appsv1.ControllerRevision]bool{}
	h.plan.Delete = slices.DeleteFunc(h.plan.Delete, func(d RevisionDelete) bool {
		doomed[d.Revision] = metav1.IsControlledBy(d.Revision, h.ds) && !h.adopting(d.Revision)
		return !doomed[d.Revision]
	})
	for _, u := range slices.Concat(h.gone, h.old, h.same) {
		changed := u.Adopt || u.Release || u.Label || u.Renumber
		if changed && !doomed[u.Revision] {
			h.plan.Update = append(h.plan.Update, *u)
		}
	}
}

func (h *history) adopting(r *appsv1.ControllerRevision) bool {
	return slices.ContainsFunc(slices.Concat(h.old, h.same), func(u *RevisionUpdate) bool {
		return u.Revision == r && u.Adopt
	})
}
