package engine

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// owned is what is known about one DaemonSet's pods, and which nodes it must look at again. It exists
// as long as the DaemonSet or any of its pods.
type owned struct {
	key types.NamespacedName
	set *setEntry // nil while no such DaemonSet is known
	// first has the first pod of each node; the node's other pods follow by next.
	first map[string]*podEntry
	// hashes counts the pods of each revision; hashEpoch changes when a revision appears or
	// disappears.
	hashes    map[string]int
	hashEpoch uint64
	// revisionEpoch is index.revisionEpoch as of the last change of a revision of
	// the DaemonSet.
	revisionEpoch uint64
	// generations counts the pods of each template number.
	generations map[int64]int
	// marked is the nodes where something has changed since the last decision.
	marked map[string]struct{}
	// since is when the first of them was marked by an event; zero: none was.
	since time.Time
	// left is, by node, when the deletion of a pod was seen that has gone since:
	// see leave.
	left map[string]plan.Moment
	// unclaimed means that there may be a pod to adopt or to release.
	unclaimed bool
	// heeds is the set of nodes for which any change matters: see heed.
	heeds map[string]struct{}
	// selects is, for each set of labels that its pods have, how many have it and
	// whether it is selected: there are few different ones.
	selects map[labelSet]selection
}

// selection says whether a set of labels is selected, once that is known.
type selection struct {
	pods      int
	is, known bool
}

// ownedBy returns the entry of the DaemonSet with that UID, which it creates if needed.
func (ix *index) ownedBy(uid string) *owned {
	o := ix.owned[uid]
	if o == nil {
		o = &owned{first: map[string]*podEntry{}, hashes: map[string]int{}, generations: map[int64]int{},
			marked: map[string]struct{}{}, selects: map[labelSet]selection{}}
		ix.owned[uid] = o
	}
	return o
}

func (ix *index) dropOwned(uid string) {
	if o := ix.owned[uid]; o != nil && o.set == nil && len(o.first) == 0 {
		delete(ix.owned, uid)
	}
}

// isStranger reports whether the pod names the DaemonSet as its owner, from another namespace. Anybody who may create
// pods somewhere can do that; for Kubernetes' controller such a pod does not exist either. Until the DaemonSet is known
// the answer is false: see strangers.
func (o *owned) isStranger(e *podEntry) bool {
	return o != nil && o.key.Namespace != "" && o.key.Namespace != e.namespace
}

// strangers returns the pods that were taken for the DaemonSet's before its namespace was known.
func (o *owned) strangers() (all []*podEntry) {
	o.pods(func(e *podEntry) {
		if o.isStranger(e) {
			all = append(all, e)
		}
	})
	return all
}

func (o *owned) add(e *podEntry) {
	e.next = o.first[e.Node]
	o.first[e.Node] = e
	o.generations[e.Generation]++
	o.hashes[e.Hash]++
	if o.hashes[e.Hash] == 1 {
		o.hashEpoch++
	}
	s := o.selects[e.labels]
	s.pods++
	o.selects[e.labels] = s
	o.unclaimed = o.unclaimed || !o.selected(e)
}

func (o *owned) remove(e *podEntry) {
	if p := o.first[e.Node]; p == e {
		if e.next == nil {
			delete(o.first, e.Node)
		} else {
			o.first[e.Node] = e.next
		}
	} else {
		for ; p != nil; p = p.next {
			if p.next == e {
				p.next = e.next
			}
		}
	}
	e.next = nil
	if o.generations[e.Generation]--; o.generations[e.Generation] == 0 {
		delete(o.generations, e.Generation)
	}
	if s := o.selects[e.labels]; s.pods > 1 {
		s.pods--
		o.selects[e.labels] = s
	} else {
		delete(o.selects, e.labels)
	}
	o.hashes[e.Hash]--
	if o.hashes[e.Hash] == 0 {
		delete(o.hashes, e.Hash)
		o.hashEpoch++
	}
}

// pods calls see with every pod.
func (o *owned) pods(see func(*podEntry)) {
	for _, p := range o.first {
		for ; p != nil; p = p.next {
			see(p)
		}
	}
}

// newestBeside returns the newest of the other pods on the pod's node; nil if there is none.
func (o *owned) newestBeside(e *podEntry) (newest *podEntry) {
	for p := o.first[e.Node]; p != nil; p = p.next {
		if p.UID != e.UID && (newest == nil || p.Created.After(newest.Created)) {
			newest = p
		}
	}
	return newest
}

// selected reports whether the DaemonSet selects the pod. For an unknown DaemonSet the answer is true.
func (o *owned) selected(e *podEntry) bool {
	if o.set == nil {
		return true
	}
	s := o.selects[e.labels]
	if s.known {
		return s.is
	}
	s.is, s.known = o.set.selects(e), true
	if s.pods > 0 {
		o.selects[e.labels] = s
	}
	return s.is
}

// mark makes the DaemonSet look at the node again, soon.
func (ix *index) mark(o *owned, node string) {
	if o == nil || o.set == nil || !ix.begun {
		return
	}
	if o.since.IsZero() {
		o.since = time.Now()
	}
	o.marked[node] = struct{}{}
	ix.to.dirty(o.key)
}

// note makes the DaemonSet whose write begins or has ended look at the node again with its next
// decision, and returns the moment. A deleted pod may belong to another DaemonSet by now, whose
// decisions see the delete as well: that one looks soon.
func (ix *index) note(w *write) plan.Moment {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if o := ix.owned[string(w.key.uid)]; o != nil {
		o.marked[w.node()] = struct{}{}
	}
	if _, uid := w.about(); uid != "" {
		if p := ix.pods[uid]; p != nil && p.owner != string(w.key.uid) {
			ix.mark(ix.owned[p.owner], p.Node)
		}
	}
	return ix.order.moment()
}

// noteNode makes the DaemonSet look at the node again with its next decision.
func (ix *index) noteNode(owner, node string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if o := ix.owned[owner]; o != nil {
		o.marked[node] = struct{}{}
	}
}

// fewMarked is how many marked nodes an ordinary decision has at most.
const fewMarked = 1024

// unmark forgets what was marked. Iterating over a map takes time for its former size, however little
// is in it now: a new leader marks the whole fleet, and each later event would pay for that. So a map
// that was large is replaced.
func (o *owned) unmark() {
	if len(o.marked) > fewMarked {
		o.marked = map[string]struct{}{}
		return
	}
	clear(o.marked)
}

// takeMarked returns the nodes to look at, and since when an event has waited for that; zero when
// none has. They are no longer marked.
func (ix *index) takeMarked(owner string, into []string) (names []string, since time.Time) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if o := ix.owned[owner]; o != nil {
		since, o.since = o.since, time.Time{}
		for node := range o.marked {
			into = append(into, node)
		}
		o.unmark()
	}
	return into, since
}

// everywhere returns all nodes that could concern the DaemonSet, by name. None of them is marked any
// longer.
func (ix *index) everywhere(owner string) []string {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	names := slices.Collect(maps.Keys(ix.nodes))
	if o := ix.owned[owner]; o != nil {
		for node := range o.first {
			if ix.nodes[node] == nil {
				names = append(names, node)
			}
		}
		o.since = time.Time{}
		o.unmark()
	}
	slices.Sort(names)
	return names
}

// look calls see with what is known about each of the nodes. The Sight is only valid until see
// returns; what it points to is never modified.
func (ix *index) look(owner string, names []string, see func(*plan.Sight)) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	o := ix.owned[owner]
	var pods []*plan.Pod
	for _, name := range names {
		if name == "" {
			continue // only the scheduler can say where such a pod goes
		}
		s := plan.Sight{Name: name}
		if n := ix.nodes[name]; n != nil {
			s.Node = &n.Node
		}
		pods = pods[:0]
		if o != nil {
			_, s.Left = o.left[name]
			for p := o.first[name]; p != nil; p = p.next {
				pods = append(pods, &p.Pod)
			}
		}
		s.Pods = pods
		ix.sayGone(&s)
		see(&s)
	}
}

// sayGone records in the Sight that a node is known to be gone, as long as a pod of the DaemonSet is
// left on it; and, if another node has its name, which pods the old one has left.
func (ix *index) sayGone(s *plan.Sight) {
	left := ix.departed[s.Name].pods
	is := func(p *plan.Pod) bool { return left[p.UID] }
	if len(left) == 0 || !slices.ContainsFunc(s.Pods, is) {
		return
	}
	if s.Node == nil {
		s.Gone = true
		s.Pods = slices.DeleteFunc(s.Pods, func(p *plan.Pod) bool { return !is(p) })
		return
	}
	for i, p := range s.Pods {
		if is(p) {
			copied := *p
			copied.Left = true
			s.Pods[i] = &copied
		}
	}
}

// standing returns the DaemonSet's pods on a node, if they and the node are unchanged since the
// DaemonSet last looked.
func (ix *index) standing(owner, node string) (pods []*podEntry, ok bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	o := ix.owned[owner]
	if o == nil {
		return nil, true
	}
	if _, changed := o.marked[node]; changed {
		return nil, false
	}
	for p := o.first[node]; p != nil; p = p.next {
		pods = append(pods, p)
	}
	return pods, true
}
