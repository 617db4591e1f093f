package lookout

import (
	"cmp"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// sightings are the objects that the watches have delivered, by the DaemonSet that they are about, and which
// DaemonSets must be looked at again. Callers hold the feed's lock. Pods and revisions are stored by the UID of the
// DaemonSet that owns them: they may be seen before it is.
type sightings struct {
	feed      *feed // shared by all Lookouts
	nodes     map[string]node
	policies  map[string]*rollout.Policy
	pods      map[owner]map[string]*corev1.Pod
	revisions map[owner]map[string]revision
	said      map[types.NamespacedName]*view.DaemonSetRollout
	stands    map[types.NamespacedName]*stand
	owners    map[owner]*stand
	moved     bool // nodes were added, removed or changed
}

func newSightings(f *feed) *sightings {
	return &sightings{feed: f, nodes: map[string]node{}, policies: map[string]*rollout.Policy{}, pods: map[owner]map[string]*corev1.Pod{}, revisions: map[owner]map[string]revision{},
		said: map[types.NamespacedName]*view.DaemonSetRollout{}, stands: map[types.NamespacedName]*stand{}, owners: map[owner]*stand{}}
}

func (s *sightings) keepSet(object any) bool {
	ds := object.(*appsv1.DaemonSet)
	key := types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}
	d := s.stands[key]
	if d == nil || d.uid != ds.UID {
		if d != nil {
			delete(s.owners, owner{d.namespace, d.uid})
		}
		d = s.newStand(ds)
		s.stands[key], s.owners[owner{ds.Namespace, ds.UID}] = d, d
	}
	d.Lookout.set, d.dirty, d.unseen = ds, true, false
	return true
}

func (s *sightings) forgetSet(object any) {
	ds, ok := object.(*appsv1.DaemonSet)
	if !ok {
		return
	}
	delete(s.stands, types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name})
	id := owner{ds.Namespace, ds.UID}
	delete(s.owners, id)
	delete(s.pods, id)
	delete(s.revisions, id)
}

// replaceSets begins a whole list: DaemonSets that it does not have are forgotten. The others keep what is remembered
// of them.
func (s *sightings) replaceSets() {
	for _, d := range s.stands {
		d.unseen = true
	}
}

// forgetUnseen forgets the DaemonSets that a whole list did not have.
func (s *sightings) forgetUnseen() {
	for _, d := range s.stands {
		if d.unseen {
			s.forgetSet(d.Lookout.set)
		}
	}
}

func (s *sightings) keepRevision(object any) bool {
	r := object.(*appsv1.ControllerRevision)
	of, is := ownerOf(r)
	if !is {
		return false
	}
	owned(s.revisions, of)[r.Name] = readRevision(r)
	return s.mark(of)
}

func (s *sightings) forgetRevision(object any) {
	if r, ok := object.(*appsv1.ControllerRevision); ok {
		if of, is := ownerOf(r); is {
			delete(s.revisions[of], r.Name)
			s.mark(of)
		}
	}
}

func (s *sightings) keepNode(object any) bool {
	isNew := keepNode(s.nodes, object.(*corev1.Node))
	if isNew {
		s.moveAll()
	}
	return isNew
}

func (s *sightings) forgetNode(object any) {
	if n, ok := object.(*corev1.Node); ok {
		delete(s.nodes, n.Name)
		s.moveAll()
	}
}

// keepPod stores pods of DaemonSets, and no others.
func (s *sightings) keepPod(object any) bool {
	p := object.(*corev1.Pod)
	of, is := ownerOf(p)
	return is && keepPod(owned(s.pods, of), p) && s.mark(of)
}

func (s *sightings) forgetPod(object any) {
	if p, ok := object.(*corev1.Pod); ok {
		if of, is := ownerOf(p); is {
			delete(s.pods[of], p.Name)
			s.mark(of)
		}
	}
}

func (s *sightings) keepPolicy(object any) bool {
	s.markAll()
	return keepPolicy(s.policies, object)
}

func (s *sightings) forgetPolicy(object any) {
	forget(s.policies)(object)
	s.markAll()
}

func (s *sightings) keepRollout(object any) bool {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return false
	}
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	delete(s.said, key)
	r := &view.DaemonSetRollout{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, r); err == nil { // otherwise it is of another version
		s.said[key] = r
	}
	s.attach(key)
	return true
}

// attach gives the DaemonSet its DaemonSetRollout, unless that is about an earlier DaemonSet of the name.
func (s *sightings) attach(key types.NamespacedName) {
	d := s.stands[key]
	if d == nil {
		return
	}
	d.rollout, d.dirty = nil, true
	if r := s.said[key]; r != nil && r.IsOf(d.uid) {
		d.rollout = r
	}
}

func (s *sightings) forgetRollout(object any) {
	if o, ok := object.(*unstructured.Unstructured); ok {
		key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		delete(s.said, key)
		s.attach(key)
	}
}

func (s *sightings) replaceRollouts() {
	clear(s.said)
	for key := range s.stands {
		s.attach(key)
	}
}

func (s *sightings) markAll() {
	for _, d := range s.stands {
		d.dirty = true
	}
}

// mark makes See look at the DaemonSet again. It returns false if the DaemonSet is not known.
func (s *sightings) mark(of owner) bool {
	d := s.owners[of]
	if d != nil {
		d.dirty = true
	}
	return d != nil
}

// moveAll makes See look at all DaemonSets again, because the nodes have changed.
func (s *sightings) moveAll() {
	s.moved = true
	s.markAll()
}

// newStand returns the stand of a DaemonSet when only the object itself was seen.
func (s *sightings) newStand(ds *appsv1.DaemonSet) *stand {
	id := owner{ds.Namespace, ds.UID}
	l := &Lookout{feed: s.feed, namespace: ds.Namespace, name: ds.Name, uid: ds.UID, nodes: s.nodes, policies: s.policies,
		pods: owned(s.pods, id), revisions: owned(s.revisions, id), reached: map[string]step{}, heardOf: map[string]told{}}
	d := &stand{Lookout: l}
	if r := s.said[types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}]; r != nil && r.IsOf(ds.UID) {
		d.rollout = r
	}
	return d
}

func (s *sightings) sorted() []*stand {
	return slices.SortedFunc(maps.Values(s.stands), func(a, b *stand) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
}

// owned returns the objects of one owner. The map stays the same while the DaemonSet exists.
func owned[T any](of map[owner]map[string]T, one owner) map[string]T {
	if of[one] == nil {
		of[one] = map[string]T{}
	}
	return of[one]
}

// emptied clears the owners' maps but keeps them, since the Lookouts share them.
func emptied[T any](of map[owner]map[string]T) {
	for _, all := range of {
		clear(all)
	}
}

// owner is a DaemonSet, as the objects of its namespace name it. What another namespace has is not the DaemonSet's,
// although it may have its UID.
type owner struct {
	namespace string
	uid       types.UID
}

// ownerOf returns the DaemonSet that controls the object.
func ownerOf(o metav1.Object) (of owner, is bool) {
	ref := metav1.GetControllerOfNoCopy(o)
	if ref == nil || ref.Kind != "DaemonSet" {
		return owner{}, false
	}
	return owner{o.GetNamespace(), ref.UID}, true
}
