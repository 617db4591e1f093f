package engine

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// collector is the garbage collector of a fake API server: some time after each change, it deletes the
// dependents of objects that are gone, and carries out orphan and foreground deletion.
type collector struct {
	late time.Duration
	due  bool // it is scheduled to run, for the first change that it has not seen
}

// collect starts the garbage collector; late is its delay.
func (f *fakeAPI) collect(late time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.garbage = &collector{late: late}
	f.awaitCollector()
}

// awaitCollector is called with every change, with mu held.
func (f *fakeAPI) awaitCollector() {
	g := f.garbage
	if g == nil || g.due {
		return
	}
	g.due = true
	time.AfterFunc(g.late, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		g.due = false
		f.collectNow()
	})
}

// dependent is an object, with those of its owners that still are the same object.
type dependent struct {
	resource string
	object   runtime.Object
}

func (f *fakeAPI) collectNow() {
	there := map[types.UID]metav1.Object{}
	dependents := map[types.UID][]dependent{}
	var all []dependent
	for resource, objects := range f.objects {
		for _, o := range objects {
			m, _ := meta.Accessor(o)
			there[m.GetUID()] = m
			all = append(all, dependent{resource, o})
			for _, ref := range m.GetOwnerReferences() {
				dependents[ref.UID] = append(dependents[ref.UID], dependent{resource, o})
			}
		}
	}
	for _, d := range all {
		m, _ := meta.Accessor(d.object)
		refs := m.GetOwnerReferences()
		owned := slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return there[r.UID] != nil })
		switch {
		case m.GetDeletionTimestamp() != nil && slices.Contains(m.GetFinalizers(), metav1.FinalizerOrphanDependents):
			f.orphan(m.GetUID(), dependents[m.GetUID()])
			f.unfinalize(d, metav1.FinalizerOrphanDependents)
		case m.GetDeletionTimestamp() != nil && slices.Contains(m.GetFinalizers(), metav1.FinalizerDeleteDependents):
			if f.emptied(dependents[m.GetUID()]) {
				f.unfinalize(d, metav1.FinalizerDeleteDependents)
			}
		case len(refs) > 0 && !owned && m.GetDeletionTimestamp() == nil:
			f.removeObject(d.resource, d.object, metav1.DeleteOptions{})
		}
	}
}

func (f *fakeAPI) orphan(owner types.UID, dependents []dependent) {
	for _, d := range dependents {
		o := d.object.DeepCopyObject()
		m, _ := meta.Accessor(o)
		m.SetOwnerReferences(slices.DeleteFunc(m.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner }))
		f.put(d.resource, d.object, o)
	}
}

// emptied deletes the dependents; it returns true if there are none.
func (f *fakeAPI) emptied(dependents []dependent) bool {
	for _, d := range dependents {
		if m, _ := meta.Accessor(d.object); m.GetDeletionTimestamp() == nil {
			f.removeObject(d.resource, d.object, metav1.DeleteOptions{})
		}
	}
	return len(dependents) == 0
}

func (f *fakeAPI) unfinalize(d dependent, finalizer string) {
	o := d.object.DeepCopyObject()
	m, _ := meta.Accessor(o)
	m.SetFinalizers(slices.DeleteFunc(m.GetFinalizers(), func(s string) bool { return s == finalizer }))
	f.put(d.resource, d.object, o)
}
