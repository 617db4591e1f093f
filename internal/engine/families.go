package engine

import (
	"hash/maphash"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"everynode/internal/view"
)

// compactPod keeps of a pod what the engine needs. Of the object only texts stay
// referenced: its name, its UID, and the name of its node.
func compactPod(p *corev1.Pod) (*podEntry, error) { return (*families)(nil).compact(p) }

// families remembers what pods share: those of a DaemonSet have the same owner, and few different sets of labels. A
// watch shows one pod after the other; looking up each of these texts among all interned ones takes longer than the
// rest of the event. A nil pointer remembers nothing. Not safe for concurrent use: every lookup may write.
type families struct {
	seed maphash.Seed
	// known has one place for each family. Two that have the same place take turns. There are enough places for the
	// DaemonSets of most clusters, with a handful of zones each.
	known [256]family
}

// family is what some pods share.
type family struct {
	namespace, owner string
	hash             string // view.Pod reads it from the labels
	labels           labelSet
	like             labels.Set // labels, as a map; nil: no family is known
}

func newFamilies() *families { return &families{seed: maphash.MakeSeed()} }

// of returns the family of a pod with that owner.
func (f *families) of(p *corev1.Pod, owner string) family {
	if f == nil {
		return newFamily(p, owner)
	}
	known := &f.known[f.sum(owner, p.Labels)%uint64(len(f.known))]
	if known.like == nil || known.owner != owner || known.namespace != p.Namespace || !sameLabels(known.like, p.Labels) {
		*known = newFamily(p, owner)
	}
	return *known
}

func newFamily(p *corev1.Pod, owner string) family {
	interned := internLabels(p.Labels)
	like := interned.set()
	return family{
		namespace: unique.Make(p.Namespace).Value(), owner: unique.Make(owner).Value(),
		hash: like[appsv1.DefaultDaemonSetUniqueLabelKey], labels: interned, like: like,
	}
}

// sum determines the place of a family. It does not depend on the order of the labels.
func (f *families) sum(owner string, of map[string]string) uint64 {
	sum := maphash.String(f.seed, owner)
	for key, value := range of {
		sum += maphash.String(f.seed, key) ^ 31*maphash.String(f.seed, value)
	}
	return sum
}

// compact is compactPod; it recognizes families.
func (f *families) compact(p *corev1.Pod) (*podEntry, error) {
	version, err := versionOf(p)
	if err != nil {
		return nil, err
	}
	e := &podEntry{version: version}
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		e.owner = string(ref.UID)
		e.other = !isDaemonSet(ref)
	}
	if e.other {
		e.UID = string(p.UID)
		return e, nil
	}
	e.Pod = view.Pod(p)
	shared := f.of(p, e.owner)
	e.namespace, e.owner, e.Hash, e.labels = shared.namespace, shared.owner, shared.hash, shared.labels
	if trouble := view.Trouble(p); trouble != "" {
		e.trouble = &trouble
	}
	e.scheduled, e.foreign = view.ForScheduler(p), looksForeign(p.Labels)
	return e, nil
}

// compactObject is compact for an object of a watch.
func (f *families) compactObject(obj any) (*podEntry, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, unexpected(obj)
	}
	return f.compact(p)
}
