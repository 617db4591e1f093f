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
	pods      map[types.UID]map[string]*corev1.Pod
	revisions map[types.UID]map[string]revision
	said      map[types.NamespacedName]*view.DaemonSetRollout
	stands    map[types.NamespacedName]*stand
	owners    map[types.UID]*stand
	moved     bool // nodes were added, removed or changed
}

func newSightings(f *feed) *sightings {
	return &sightings{feed: f, nodes: map[string]node{}, policies: map[string]*rollout.Policy{}, pods: map[types.UID]map[string]*corev1.Pod{}, revisions: map[types.UID]map[string]revision{},
		said: map[types.NamespacedName]*view.DaemonSetRollout{}, stands: map[types.NamespacedName]*stand{}, owners: map[types.UID]*stand{}}
}

func (s *sightings) keepSet(object any) bool {
	ds := object.(*appsv1.DaemonSet)
	key := types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}
	d := s.stands[key]
	if d == nil || d.uid != ds.UID {
		if d != nil {
			delete(s.owners, d.uid)
		}
		d = s.newStand(ds)
		s.stands[key], s.owners[ds.UID] = d, d
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
	delete(s.owners, ds.UID)
	delete(s.pods, ds.UID)
	delete(s.revisions, ds.UID)
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
	uid, is := ownerOf(r)
	if !is {
		return false
	}
	owned(s.revisions, uid)[r.Name] = readRevision(r)
	return s.mark(uid)
}

func (s *sightings) forgetRevision(object any) {
	if r, ok := object.(*appsv1.ControllerRevision); ok {
		if uid, is := ownerOf(r); is {
			delete(s.revisions[uid], r.Name)
			s.mark(uid)
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
	uid, is := ownerOf(p)
	return is && keepPod(owned(s.pods, uid), p) && s.mark(uid)
}

func (s *sightings) forgetPod(object any) {
	if p, ok := object.(*corev1.Pod); ok {
		if uid, is := ownerOf(p); is {
			delete(s.pods[uid], p.Name)
			s.mark(uid)
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
func (s *sightings) mark(uid types.UID) bool {
	d := s.owners[uid]
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
	l := &Lookout{feed: s.feed, namespace: ds.Namespace, name: ds.Name, uid: ds.UID, nodes: s.nodes, policies: s.policies,
		pods: owned(s.pods, ds.UID), revisions: owned(s.revisions, ds.UID), reached: map[string]step{}, heardOf: map[string]told{}}
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
func owned[T any](of map[types.UID]map[string]T, owner types.UID) map[string]T {
	if of[owner] == nil {
		of[owner] = map[string]T{}
	}
	return of[owner]
}

// emptied clears the owners' maps but keeps them, since the Lookouts share them.
func emptied[T any](of map[types.UID]map[string]T) {
	for _, all := range of {
		clear(all)
	}
}

// ownerOf returns the DaemonSet that controls the object.
func ownerOf(o metav1.Object) (uid types.UID, is bool) {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind != "DaemonSet" {
		return "", false
	}
	return owner.UID, true
}
