package engine

import (
	"strings"
	"time"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// podEntry is what is kept of a pod: one that a DaemonSet controls, or one that
// nobody controls and a DaemonSet could adopt.
type podEntry struct {
	plan.Pod
	namespace string
	owner     string // UID of the controlling DaemonSet; empty for an orphan
	labels    labelSet
	version   uint64
	// readyStamp is when the pod became ready, as the kubelet wrote it.
	readyStamp int64
	// trouble is what is wrong with its containers, while it is not ready; nil: nothing is known. See
	// view.Trouble.
	trouble *string
	next    *podEntry // of the same DaemonSet and node; guarded by the index
	// scheduled means that the scheduler binds the pod, at some time after it
	// was created.
	scheduled bool
	// unfit means that a read of the whole pod has shown that it cannot be changed in place.
	unfit bool
	// settled means that there is no doubt left about the pod's last change.
	settled bool
	// foreign means that it has a label of Deployments' or Jobs' pods: see scope.go.
	foreign bool
	// other means that the pod does not matter: another kind of controller has it. It is only kept
	// long enough to replace what was known before.
	other bool
}

// labelSet is a set of labels as one interned string: the pods of a DaemonSet
// have few different ones.
type labelSet struct{ unique.Handle[string] }

func internLabels(l map[string]string) labelSet {
	return labelSet{unique.Make(labels.Set(l).String())}
}

// set returns the labels as a map, reconstructed.
func (l labelSet) set() labels.Set {
	s := l.Value()
	if s == "" {
		return labels.Set{}
	}
	out := labels.Set{}
	for _, kv := range strings.Split(s, ",") {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

// isDaemonSet reports whether the owner is one of Kubernetes' DaemonSets. They have been in two
// groups, and an old object may still name the first. Another group may also define a kind of that
// name.
func isDaemonSet(owner *metav1.OwnerReference) bool {
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	return owner.Kind == "DaemonSet" && (group == appsv1.GroupName || group == extensionsv1beta1.GroupName)
}

// upsertPod takes a watched pod. An event older than what is known from an own write changes nothing;
// neither does one about a pod known to be gone.
func (ix *index) upsertPod(e *podEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	delete(ix.scope.doubts, e.UID)
	ix.putPod(e, 0, ix.order.hear())
}

// putPod takes a pod that is in a list of that version, or, with zero, one that is not from a list. New facts
// about it count as seen at the moment at.
func (ix *index) putPod(e *podEntry, list uint64, at plan.Moment) {
	if _, gone := ix.buried[e.UID]; gone {
		return
	}
	old := ix.pods[e.UID]
	if old != nil && !outdates(e.version, old.version, list) {
		return
	}
	if e.other || ix.owned[e.owner].isStranger(e) {
		if old != nil {
			ix.dropPod(old)
		}
		return
	}
	e.Node = nodeOf(e, ix.nodes)
	e.follow(old, at, time.Now())
	if old != nil {
		ix.unlinkPod(old)
	} else {
		ix.succeed(e)
	}
	ix.linkPod(e)
	if old == nil || old.Pod != e.Pod || old.owner != e.owner || old.labels != e.labels {
		ix.touchPod(e)
		if old != nil && (old.owner != e.owner || old.Node != e.Node) {
			ix.mark(ix.owned[old.owner], old.Node)
		}
	}
}

// nodeOf returns the name of the pod's node as a string that is in memory anyway.
func nodeOf(e *podEntry, nodes map[string]*nodeEntry) string {
	if n := nodes[e.Node]; n != nil {
		return n.Name
	}
	return unique.Make(e.Node).Value()
}

// removePod takes a watched deletion. If the watch is narrow, the pod may instead have got a label.
func (ix *index) removePod(e *podEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	delete(ix.buried, e.UID)
	ix.order.hear()
	switch old := ix.pods[e.UID]; {
	case old == nil:
	case ix.scope.shown && e.Deleted.IsZero() && !e.other:
		ix.scope.doubt(old)
	default:
		ix.dropPod(old)
	}
}

// replacePods takes a whole list. What it lacks is gone, unless an own write
// newer than the list says otherwise.
func (ix *index) replacePods(items []*podEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	listed, at := make(map[string]bool, len(items)), ix.order.list()
	for _, e := range items {
		listed[e.UID] = true
		ix.putPod(e, version, at)
	}
	ix.order.listed()
	for uid, e := range ix.pods {
		if !listed[uid] && e.version <= version {
			ix.dropPod(e)
		}
	}
	for uid, b := range ix.buried {
		// A list from before the pod existed is followed by the event of its creation.
		if !listed[uid] && b.pod.version <= version {
			delete(ix.buried, uid)
		}
	}
	ix.podVersion = max(ix.podVersion, version)
	ix.taken()
}

// reachedPods takes the position of the pod watch.
func (ix *index) reachedPods(version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.order.hear()
	ix.podVersion = max(ix.podVersion, version)
}

func (ix *index) dropPod(e *podEntry) {
	ix.leave(e)
	ix.unlinkPod(e)
	delete(ix.ahead, e.UID)
	delete(ix.scope.doubts, e.UID)
	ix.touchPod(e)
	ix.undepart(e.Node, e.UID)
}

// trouble returns what is wrong with the DaemonSet's pod of that name on a node; empty: nothing is
// known.
func (ix *index) trouble(owner types.UID, node, name string) string {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	o := ix.owned[string(owner)]
	if o == nil {
		return ""
	}
	for p := o.first[node]; p != nil; p = p.next {
		if p.Name == name && p.trouble != nil {
			return *p.trouble
		}
	}
	return ""
}

func (ix *index) undepart(node, uid string) {
	if d, ok := ix.departed[node]; ok {
		delete(d.pods, uid)
		if len(d.pods) == 0 {
			delete(ix.departed, node)
		}
	}
}

// spare counts a pod as one of the current node.
func (ix *index) spare(node, uid string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.nodes[node] == nil {
		return
	}
	ix.undepart(node, uid)
	if e := ix.pods[uid]; e != nil {
		ix.mark(ix.owned[e.owner], node)
	}
}

func (ix *index) linkPod(e *podEntry) {
	ix.pods[e.UID] = e
	ix.scope.countPod(e, 1)
	if e.owner == "" {
		link(ix.orphans, e.namespace, e)
	} else {
		ix.ownedBy(e.owner).add(e)
	}
}

func (ix *index) unlinkPod(e *podEntry) {
	delete(ix.pods, e.UID)
	ix.scope.countPod(e, -1)
	if e.owner == "" {
		unlink(ix.orphans, e.namespace, e)
		return
	}
	ix.owned[e.owner].remove(e)
	ix.dropOwned(e.owner)
}

func link(m map[string]map[string]*podEntry, key string, e *podEntry) {
	if m[key] == nil {
		m[key] = map[string]*podEntry{}
	}
	m[key][e.UID] = e
}

func unlink(m map[string]map[string]*podEntry, key string, e *podEntry) {
	if in := m[key]; in != nil {
		delete(in, e.UID)
		if len(in) == 0 {
			delete(m, key)
		}
	}
}

// touchPod marks the DaemonSet that has the pod, or those that could adopt it.
func (ix *index) touchPod(e *podEntry) {
	if !ix.begun {
		return
	}
	if e.owner != "" {
		ix.mark(ix.owned[e.owner], e.Node)
		return
	}
	orphan := orphanWith(e.namespace, e.labels.set())
	for key, s := range ix.sets {
		if key.Namespace == e.namespace && s.selector.Claims(s.ds, orphan) == view.Adopt {
			ix.owned[string(s.ds.UID)].unclaimed = true
			ix.to.dirty(key)
		}
	}
}

// pod returns the version of a pod that is known, or nil.
func (ix *index) pod(uid string) *podEntry {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.pods[uid]
}

// depart records that the node is gone for good and these pods with it. If another node has appeared
// under its name, at since (else zero), this applies only to pods that must have been on the old one:
// those that were bound when they were created, before since, and those that were known to belong to
// an even earlier node. The new node's kubelet handles the others.
func (ix *index) depart(node string, uids []string, since time.Time) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	left, before := map[string]bool{}, ix.departed[node].pods
	for _, uid := range uids {
		if e := ix.pods[uid]; e != nil && e.owner != "" && (before[uid] || since.IsZero() || !e.scheduled && e.Created.Before(since)) {
			left[uid] = true
			ix.mark(ix.owned[e.owner], node)
		}
	}
	if len(left) > 0 {
		ix.departed[node] = departure{pods: left}
	}
}

// alike reports whether two versions of a pod are equal for a rollout.
func (e *podEntry) alike(o *podEntry) bool {
	return e.UID == o.UID && e.owner == o.owner && e.labels == o.labels && e.Node == o.Node && e.Bound == o.Bound &&
		e.Hash == o.Hash && e.Generation == o.Generation && e.Phase == o.Phase &&
		e.Ready == o.Ready && (e.Changing == o.Changing || o.settled) && e.Deleted.IsZero() && o.Deleted.IsZero()
}
