package engine

import (
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// index is the cluster as the engine sees it: what the watches have shown, overlaid with what the
// server has acknowledged to us (assume.go). It is safe for concurrent use. A change that can
// matter to a DaemonSet puts its key into the work queue; any other change, such as a heartbeat,
// costs nothing more.
type index struct {
	mu    sync.RWMutex
	begun bool // if false, changes make nothing dirty
	to    listener
	order order

	sets map[types.NamespacedName]*setEntry
	// asked counts, for each label, the placements of sets that use it: no other label of a node
	// can matter.
	asked map[string]int
	nodes map[string]*nodeEntry // never written to
	// binding decides, with each DaemonSet, who binds its pods.
	binding view.Binding
	// assists is Config.Assist: another controller makes the revisions.
	assists bool

	families  *families                       // of the pods that own writes and reads return; needs mu for writing
	pods      map[string]*podEntry            // by UID
	owned     map[string]*owned               // by DaemonSet UID
	orphans   map[string]map[string]*podEntry // namespace, pod UID
	revisions map[string]map[string]*revisionEntry
	// revisionsGone is the version up to which it is known which revisions are gone.
	revisionsGone uint64

	revisionEpoch uint64 // counts the changes of revisions
	looseEpochs   looseEpochs

	podVersion uint64 // the pod watch has delivered everything up to here
	// nodeVersion is the position of nodes: of the watch, or of a later list. Anything older is
	// ignored.
	nodeVersion uint64
	ahead       map[string]time.Time // own writes that the watch had not shown, by pod UID
	buried      map[string]burial    // pods that are known to be gone before the watch shows it, by UID
	departed    map[string]departure // nodes seen to be deleted, with pods left
	releases    releases
	scope       scope
}

// listener is notified of what must be looked at. It is called with the lock of the index held, and must not
// call back. A nil function is not called.
type listener struct {
	dirty func(types.NamespacedName)
	// left is called with a node whose deletion was watched, and with the pods on it.
	left func(n nodeEntry, pods []string)
	// renewed is called with a name that now belongs to a different node, or to none.
	renewed func(node string)
}

// setEntry is a DaemonSet. The object is never modified.
type setEntry struct {
	ds      *appsv1.DaemonSet
	trimmed bool // ds lacks annotations: see trimAnnotations
	heavy   bool // its placement: see isHeavy
	// selector is that of ds. The index uses it for many pods while it is locked.
	selector *view.Selector
	foreign  bool // see namesForeign
	version  uint64
	// spec is compiled once per generation; it carries no revision. Scheduled
	// follows the annotation and the runtime class as well.
	spec plan.Spec
	// binder is what is wrong with the annotation that says who binds; nil: nothing.
	binder error
}

type nodeEntry struct {
	plan.Node
	version uint64
}

// departure is a node whose deletion a watch has shown and a live read confirmed, and the pods
// that were left on it.
type departure struct {
	pods map[string]bool
}

func newIndex() *index {
	return &index{
		sets:      map[types.NamespacedName]*setEntry{},
		binding:   view.Binding{Plain: map[string]bool{}},
		asked:     map[string]int{},
		nodes:     map[string]*nodeEntry{},
		families:  newFamilies(),
		pods:      map[string]*podEntry{},
		owned:     map[string]*owned{},
		orphans:   map[string]map[string]*podEntry{},
		revisions: map[string]map[string]*revisionEntry{},
		ahead:     map[string]time.Time{},
		buried:    map[string]burial{},
		departed:  map[string]departure{},
		releases:  newReleases(),
		scope:     newScope(),
	}
}

// begin sets the listener, and marks every DaemonSet to be looked at once. Until end the index is
// used for decisions; before and after, it is only kept warm.
func (ix *index) begin(to listener) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.begun, ix.to = true, to
	for key, s := range ix.sets {
		o := ix.owned[string(s.ds.UID)]
		o.unmark()
		o.unclaimed = true
		to.dirty(key)
	}
}

// end is the opposite of begin. Pods of nodes known to be gone are left to the pod garbage
// collector.
func (ix *index) end() {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.begun, ix.to = false, listener{}
	clear(ix.departed)
}

func (ix *index) touch(key types.NamespacedName) {
	if ix.begun {
		ix.to.dirty(key)
	}
}

func (ix *index) countSets() int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return len(ix.sets)
}

// set returns the DaemonSet of that name with its compiled specification, or nil.
func (ix *index) set(key types.NamespacedName) *setEntry {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.sets[key]
}

// upsertSet takes a watched DaemonSet, or one that a write returned. The newer version wins, in
// whatever order they arrive.
func (ix *index) upsertSet(e *setEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.putSet(e, 0)
}

// putSet takes a DaemonSet that is in a list of that version, or, with zero, one that is not from a list.
func (ix *index) putSet(e *setEntry, list uint64) {
	key := keyOf(e.ds)
	if old := ix.sets[key]; old != nil {
		if !outdates(e.version, old.version, list) {
			return
		}
		ix.ask(old, -1)
		ix.scope.countSet(old, -1)
		if old.ds.UID != e.ds.UID {
			ix.disown(old)
		}
	}
	ix.ask(e, 1)
	ix.scope.countSet(e, 1)
	e.spec.Scheduled, e.binder = ix.binding.Scheduled(e.ds)
	ix.sets[key] = e
	o := ix.ownedBy(string(e.ds.UID))
	known := o.set != nil
	o.key, o.set = key, e
	if !known {
		o.unclaimed = true
		for _, e := range o.strangers() {
			ix.unlinkPod(e)
			delete(ix.scope.doubts, e.UID)
			ix.undepart(e.Node, e.UID)
		}
	}
	ix.touch(key)
}

// removeSet takes a watched deletion. By then there may be another DaemonSet of that name.
func (ix *index) removeSet(e *setEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.sets[keyOf(e.ds)]; old != nil && old.ds.UID == e.ds.UID {
		ix.dropSet(keyOf(e.ds))
	}
}

func (ix *index) dropSet(key types.NamespacedName) {
	if old := ix.sets[key]; old != nil {
		ix.ask(old, -1)
		ix.scope.countSet(old, -1)
		ix.disown(old)
		delete(ix.sets, key)
		ix.touch(key)
	}
}

// ask counts the labels that the DaemonSet's placement uses.
func (ix *index) ask(e *setEntry, times int) {
	count := func(key string) {
		if ix.asked[key] += times; ix.asked[key] == 0 {
			delete(ix.asked, key)
		}
	}
	for key := range e.spec.Placement.Selector {
		count(key)
	}
	for i := range e.spec.Placement.Terms {
		for _, r := range e.spec.Placement.Terms[i].Labels {
			count(r.Key)
		}
	}
}

// disown records that the DaemonSet is gone. Its pods are kept: they may be orphaned, or another
// DaemonSet waits for them to go.
func (ix *index) disown(e *setEntry) {
	uid := string(e.ds.UID)
	delete(ix.releases.under, uid)
	if o := ix.owned[uid]; o != nil {
		o.set = nil
	}
	ix.dropOwned(uid)
}

func (ix *index) replaceSets(items []*setEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	listed := make(map[types.NamespacedName]bool, len(items))
	for _, e := range items {
		listed[keyOf(e.ds)] = true
		ix.putSet(e, version)
	}
	for key, e := range ix.sets {
		if !listed[key] && e.version <= version {
			ix.dropSet(key)
		}
	}
}

// upsertNode takes a watched node. It compares only what package plan reads, so heartbeats have
// no further effect.
func (ix *index) upsertNode(n nodeEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if n.version >= ix.nodeVersion {
		ix.putNode(n)
	}
}

// reachedNodes takes the position of the node watch.
func (ix *index) reachedNodes(version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.nodeVersion = max(ix.nodeVersion, version)
}

func (ix *index) putNode(n nodeEntry) {
	old := ix.nodes[n.Name]
	n.follow(old, &ix.order)
	if old != nil && sameNode(&old.Node, &n.Node) {
		return
	}
	n.Changed = time.Now()
	ix.nodes[n.Name] = &n
	if old == nil || old.UID != n.UID {
		ix.renew(n.Name)
	}
	ix.releases.nodes++
	ix.touchHeeding(n.Name)
	switch {
	case old == nil:
		ix.touchForNode(nil, &n.Node)
		return
	case n.Ready && !old.Ready:
		ix.recovered(n.Name)
	}
	ix.touchForNode(&old.Node, &n.Node)
}

// removeNode takes a watched deletion.
func (ix *index) removeNode(n nodeEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if n.version < ix.nodeVersion {
		return
	}
	if pods := ix.dropNode(n.Name); len(pods) > 0 && ix.begun {
		ix.to.left(n, pods)
	}
}

// dropNode forgets a node and returns the UIDs of the pods that it leaves behind. A pod that is
// not bound yet is not among them: the scheduler may bind it to a new node of the same name
// before anything else is known about that node.
func (ix *index) dropNode(name string) (left []string) {
	old := ix.nodes[name]
	if old == nil {
		return nil
	}
	delete(ix.nodes, name)
	ix.renew(name)
	ix.releases.nodes++
	ix.recovered(name)
	ix.touchForNode(&old.Node, nil)
	for _, o := range ix.owned {
		delete(o.heeds, name)
		for p := o.first[name]; p != nil; p = p.next {
			if p.Bound {
				left = append(left, p.UID)
			}
		}
	}
	return left
}

// renew reports to the listener that earlier refusals under this name do not concern the current
// node.
func (ix *index) renew(node string) {
	if ix.begun && ix.to.renewed != nil {
		ix.to.renewed(node)
	}
}

// replaceNodes takes a complete list from which the watch continues.
func (ix *index) replaceNodes(items []nodeEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.putNodes(items, version)
}

func (ix *index) putNodes(items []nodeEntry, version uint64) {
	listed := make(map[string]bool, len(items))
	for _, n := range items {
		listed[n.Name] = true
		ix.putNode(n)
	}
	ix.order.nodes = true
	for name := range ix.nodes {
		if !listed[name] {
			ix.dropNode(name)
		}
	}
	ix.nodeVersion = version
}

func sameNode(a, b *plan.Node) bool {
	return a.UID == b.UID && a.Ready == b.Ready && a.Leaving == b.Leaving && a.ReadyChanged.Equal(b.ReadyChanged) &&
		slices.Equal(a.Taints, b.Taints) && sameLabels(a.Labels, b.Labels)
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

func keyOf(ds *appsv1.DaemonSet) types.NamespacedName {
	return types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}
}
