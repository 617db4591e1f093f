package lookout

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// sources are the resources that are followed, one watch for each.
func (f *Fleet) sources() []*source {
	c, apps := f.client.CoreV1(), f.client.AppsV1()
	sources := []*source{
		{of: f.feed, name: "daemonsets", example: &appsv1.DaemonSet{},
			list: lister(apps.DaemonSets(f.namespace).List), watch: apps.DaemonSets(f.namespace).Watch,
			trim: trimmed(trimSet), keep: f.keepSet, forget: f.forgetSet, replace: f.replaceSets},
		{of: f.feed, name: "controllerrevisions", example: &appsv1.ControllerRevision{},
			list: lister(apps.ControllerRevisions(f.namespace).List), watch: apps.ControllerRevisions(f.namespace).Watch,
			trim: trimmed(trimRevision), keep: f.keepRevision, forget: f.forgetRevision, replace: func() { emptied(f.revisions); f.markAll() }},
		{of: f.feed, name: "nodes", example: &corev1.Node{},
			list: lister(c.Nodes().List), watch: c.Nodes().Watch,
			trim: trimmed(trimNode), keep: f.keepNode, forget: f.forgetNode, replace: func() { clear(f.nodes); f.moveAll() }},
		{of: f.feed, name: "pods", example: &corev1.Pod{},
			list: lister(c.Pods(f.namespace).List), watch: c.Pods(f.namespace).Watch,
			trim: trimmed(trimPod), keep: f.keepPod, forget: f.forgetPod, replace: func() { emptied(f.pods); f.markAll() }},
	}
	whole := func(o any) (any, error) { return o, nil }
	if f.kinds != nil {
		sources = append(sources, &source{of: f.feed, name: view.PolicyResource, example: &unstructured.Unstructured{},
			list: lister(f.kinds.List), watch: f.kinds.Watch, trim: whole,
			keep: f.keepPolicy, forget: f.forgetPolicy, replace: func() { clear(f.policies); f.markAll() }})
	}
	if f.rollouts != nil {
		sources = append(sources, &source{of: f.feed, name: view.RolloutResource, example: &unstructured.Unstructured{},
			list: lister(f.rollouts.List), watch: f.rollouts.Watch, trim: whole,
			keep: f.keepRollout, forget: f.forgetRollout, replace: f.replaceRollouts})
	}
	return sources
}

// emptied leaves the maps of the owners, which the Lookouts have too.
func emptied[T any](of map[types.UID]map[string]T) {
	for _, all := range of {
		clear(all)
	}
}

func (f *Fleet) markAll() {
	for _, d := range f.stands {
		d.dirty = true
	}
}

// mark has the DaemonSet looked at again; false: it is not known.
func (f *Fleet) mark(uid types.UID) bool {
	d := f.owners[uid]
	if d != nil {
		d.dirty = true
	}
	return d != nil
}

// moveAll has all looked at again, as the nodes are no longer what they were.
func (f *Fleet) moveAll() {
	f.moved = true
	f.markAll()
}

// ownerOf is the DaemonSet that controls the object.
func ownerOf(o metav1.Object) (uid types.UID, is bool) {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind != "DaemonSet" {
		return "", false
	}
	return owner.UID, true
}

func (f *Fleet) keepSet(object any) bool {
	ds := object.(*appsv1.DaemonSet)
	key := types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}
	d := f.stands[key]
	if d == nil || d.uid != ds.UID {
		if d != nil {
			delete(f.owners, d.uid)
		}
		d = f.newStand(ds)
		f.stands[key], f.owners[ds.UID] = d, d
	}
	d.Lookout.set, d.dirty, d.unseen = ds, true, false
	return true
}

func (f *Fleet) forgetSet(object any) {
	ds, ok := object.(*appsv1.DaemonSet)
	if !ok {
		return
	}
	delete(f.stands, types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name})
	delete(f.owners, ds.UID)
	delete(f.pods, ds.UID)
	delete(f.revisions, ds.UID)
}

// replaceSets has those forgotten that the list does not have: what is remembered of the others is worth keeping.
func (f *Fleet) replaceSets() {
	for _, d := range f.stands {
		d.unseen = true
	}
}

// forgetUnseen forgets them, once the whole list was taken.
func (f *Fleet) forgetUnseen() {
	for _, d := range f.stands {
		if d.unseen {
			f.forgetSet(d.Lookout.set)
		}
	}
}

func (f *Fleet) keepRevision(object any) bool {
	r := object.(*appsv1.ControllerRevision)
	uid, is := ownerOf(r)
	if !is {
		return false
	}
	owned(f.revisions, uid)[r.Name] = readRevision(r)
	return f.mark(uid)
}

func (f *Fleet) forgetRevision(object any) {
	if r, ok := object.(*appsv1.ControllerRevision); ok {
		if uid, is := ownerOf(r); is {
			delete(f.revisions[uid], r.Name)
			f.mark(uid)
		}
	}
}

func (f *Fleet) keepNode(object any) bool {
	isNew := keepNode(f.nodes, object.(*corev1.Node))
	if isNew {
		f.moveAll()
	}
	return isNew
}

func (f *Fleet) forgetNode(object any) {
	if n, ok := object.(*corev1.Node); ok {
		delete(f.nodes, n.Name)
		f.moveAll()
	}
}

// keepPod keeps pods of DaemonSets and no others.
func (f *Fleet) keepPod(object any) bool {
	p := object.(*corev1.Pod)
	uid, is := ownerOf(p)
	return is && keepPod(owned(f.pods, uid), p) && f.mark(uid)
}

func (f *Fleet) forgetPod(object any) {
	if p, ok := object.(*corev1.Pod); ok {
		if uid, is := ownerOf(p); is {
			delete(f.pods[uid], p.Name)
			f.mark(uid)
		}
	}
}

func (f *Fleet) keepPolicy(object any) bool {
	f.markAll()
	return keepPolicy(f.policies, object)
}

func (f *Fleet) forgetPolicy(object any) {
	forget(f.policies)(object)
	f.markAll()
}

func (f *Fleet) keepRollout(object any) bool {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return false
	}
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	delete(f.said, key)
	r := &view.DaemonSetRollout{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, r); err == nil { // else it is of another version
		f.said[key] = r
	}
	f.attach(key)
	return true
}

// attach gives the DaemonSet what is said of its releases, if that is about it.
func (f *Fleet) attach(key types.NamespacedName) {
	d := f.stands[key]
	if d == nil {
		return
	}
	d.rollout, d.dirty = nil, true
	if r := f.said[key]; r != nil && r.IsOf(d.uid) {
		d.rollout = r
	}
}

func (f *Fleet) forgetRollout(object any) {
	if o, ok := object.(*unstructured.Unstructured); ok {
		key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		delete(f.said, key)
		f.attach(key)
	}
}

func (f *Fleet) replaceRollouts() {
	clear(f.said)
	for key := range f.stands {
		f.attach(key)
	}
}
