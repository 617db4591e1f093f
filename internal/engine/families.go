package engine

import (
	"hash/maphash"
	"maps"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// compactPod keeps of a pod what the engine needs. Nothing of the object stays
// referenced, and names that repeat are shared.
func compactPod(p *corev1.Pod) (*podEntry, error) { return (*families)(nil).compact(p) }

// families remembers what pods share: those of a DaemonSet have the same owner, and few different sets of labels. A
// watch shows one pod after the other; to look up each of these texts among all interned ones takes longer than
// everything else about an event. A nil pointer remembers nothing.
type families struct {
	seed maphash.Seed
	// known has one place for each family; another one with the same place takes it over. There are enough for the
	// DaemonSets of most clusters, with a handful of zones each.
	known [256]family
}

// family is what some pods share. Its texts are interned.
type family struct {
	namespace, owner, hash string
	labels                 labelSet
	like                   map[string]string // labels, as a map
}

func newFamilies() *families { return &families{seed: maphash.MakeSeed()} }

// of returns the family of a pod with that owner and revision.
func (f *families) of(p *corev1.Pod, owner, hash string) family {
	if f == nil {
		return newFamily(p, owner, hash)
	}
	known := &f.known[f.sum(owner, p.Labels)%uint64(len(f.known))]
	if known.like == nil || known.owner != owner || known.hash != hash || known.namespace != p.Namespace || !sameLabels(known.like, p.Labels) {
		*known = newFamily(p, owner, hash)
	}
	return *known
}

func newFamily(p *corev1.Pod, owner, hash string) family {
	intern := func(s string) string { return unique.Make(s).Value() }
	return family{intern(p.Namespace), intern(owner), intern(hash), internLabels(p.Labels), maps.Clone(p.Labels)}
}

// sum determines the place of a family. It does not depend on the order of the labels.
func (f *families) sum(owner string, labels map[string]string) uint64 {
	sum := maphash.String(f.seed, owner)
	for key, value := range labels {
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
	shared := f.of(p, e.owner, e.Hash)
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
