package engine

import (
	"hash/fnv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// revisionEntry is a ControllerRevision of a DaemonSet, or one that nobody controls. It is never
// modified.
type revisionEntry struct {
	*view.Revision
	owner   string // UID of its controller; empty for an orphan
	version uint64
	// other means that another kind of controller has it. It is only kept long
	// enough to replace what was known before.
	other bool
}

func compactRevision(obj any) (*revisionEntry, error) {
	r, ok := obj.(*appsv1.ControllerRevision)
	if !ok {
		return nil, unexpected(obj)
	}
	version, err := versionOf(r)
	if err != nil {
		return nil, err
	}
	e := &revisionEntry{version: version}
	if ref := metav1.GetControllerOfNoCopy(r); ref != nil {
		e.owner, e.other = string(ref.UID), !isDaemonSet(ref)
	}
	if e.other {
		e.Revision = &view.Revision{Object: r} // a StatefulSet's, for example: what is in it does not matter
	} else {
		e.Revision = view.ReadRevision(r)
	}
	return e, nil
}

// upsertRevision takes a watched revision, or one from an answer. An answer may come after the watch has shown that the
// revision is gone: then it stays gone.
func (ix *index) upsertRevision(e *revisionEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.revisions[e.Object.Namespace][e.Object.Name] == nil && e.version <= ix.revisionsGone {
		return
	}
	ix.putRevision(e, 0)
}

// putRevision takes a revision that is in a list of that version, or, with zero, one that is not from a list.
//
// A new revision with an owner wakes no DaemonSet: this engine has made it, or somebody else has. It is
// handled when the DaemonSet is next worked on, as Kubernetes' controller does. Beside another controller, a
// release may be waiting for it, and it may arrive later than everything else that shows the change.
func (ix *index) putRevision(e *revisionEntry, list uint64) {
	in := ix.revisions[e.Object.Namespace]
	old := in[e.Object.Name]
	if old != nil && !outdates(e.version, old.version, list) {
		return
	}
	if e.other {
		if old != nil {
			ix.dropRevision(old)
		}
		return
	}
	if in == nil {
		in = map[string]*revisionEntry{}
		ix.revisions[e.Object.Namespace] = in
	}
	in[e.Object.Name] = e
	ix.dateRevision(e)
	if old != nil && old.owner != e.owner {
		ix.dateRevision(old)
		ix.touchRevision(old)
	}
	if old != nil || e.owner == "" || ix.assists {
		ix.touchRevision(e)
	}
}

// removeRevision takes a watched deletion. By then there may be another revision of that name.
func (ix *index) removeRevision(e *revisionEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.revisionsGone = max(ix.revisionsGone, e.version)
	if old := ix.revisions[e.Object.Namespace][e.Object.Name]; old != nil && old.Object.UID == e.Object.UID {
		ix.dropRevision(old)
	}
}

func (ix *index) dropRevision(e *revisionEntry) {
	in := ix.revisions[e.Object.Namespace]
	delete(in, e.Object.Name)
	if len(in) == 0 {
		delete(ix.revisions, e.Object.Namespace)
	}
	ix.dateRevision(e)
	ix.touchRevision(e)
}

func (ix *index) replaceRevisions(items []*revisionEntry, version uint64) {
	type id struct{ namespace, name string }
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.revisionsGone = version
	listed := make(map[id]bool, len(items))
	for _, e := range items {
		listed[id{e.Object.Namespace, e.Object.Name}] = true
		ix.putRevision(e, version)
	}
	for namespace, in := range ix.revisions {
		for name, e := range in {
			if !listed[id{namespace, name}] && e.version <= version {
				ix.dropRevision(e)
			}
		}
	}
}

// ownerIn returns the DaemonSet that has the revision; nil while none is known. One in another namespace does not have it.
func (e *revisionEntry) ownerIn(all map[string]*owned) *owned {
	if o := all[e.owner]; o != nil && o.set != nil && o.key.Namespace == e.Object.Namespace {
		return o
	}
	return nil
}

// looseEpochs are the epochs of the last change of a revision that no known DaemonSet has. Some namespaces share one, so
// that nothing is left of namespaces that come and go.
type looseEpochs [256]uint64

// of returns the epoch of a namespace.
func (l *looseEpochs) of(namespace string) *uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace)) // it never fails
	return &l[h.Sum32()%uint32(len(l))]
}

// dateRevision invalidates the histories that the revision can affect: its owner's, or those of the whole namespace
// while no such DaemonSet is known. The next DaemonSet of that name may need its name.
func (ix *index) dateRevision(e *revisionEntry) {
	ix.revisionEpoch++
	if o := e.ownerIn(ix.owned); o != nil {
		o.revisionEpoch = ix.revisionEpoch
	} else {
		*ix.looseEpochs.of(e.Object.Namespace) = ix.revisionEpoch
	}
}

// touchRevision marks the DaemonSet that has the revision, those that could adopt it, and those that
// wait for a predecessor's revision to go.
func (ix *index) touchRevision(e *revisionEntry) {
	if !ix.begun {
		return
	}
	if o := e.ownerIn(ix.owned); o != nil {
		ix.touch(o.key)
		return
	}
	free := orphanWith(e.Object.Namespace, e.Object.Labels)
	for key, s := range ix.sets {
		if key.Namespace == e.Object.Namespace && s.selector.Claims(s.ds, free) == view.Adopt {
			ix.to.dirty(key)
		}
	}
}

// epochs returns the state of the index for the DaemonSet's history.
func (ix *index) epochs(ds *appsv1.DaemonSet) epochs {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	at := epochs{loose: *ix.looseEpochs.of(ds.Namespace)}
	if o := ix.owned[string(ds.UID)]; o != nil {
		at.revisions, at.hashes = o.revisionEpoch, o.hashEpoch
	}
	return at
}

// revisionsOf returns the revisions that the DaemonSet has, could adopt, or whose names it may need,
// mainly those of an earlier DaemonSet of its name.
func (ix *index) revisionsOf(ds *appsv1.DaemonSet) (known []*view.Revision) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for name, e := range ix.revisions[ds.Namespace] {
		if e.owner == "" || e.owner == string(ds.UID) || strings.HasPrefix(name, ds.Name+"-") {
			known = append(known, e.Revision)
		}
	}
	return known
}

// forgetRevision drops a revision that a live request has shown to be gone.
func (ix *index) forgetRevision(r *appsv1.ControllerRevision) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.revisions[r.Namespace][r.Name]; old != nil && old.Object.UID == r.UID {
		ix.dropRevision(old)
	}
}
