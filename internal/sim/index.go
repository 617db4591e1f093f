package sim

import (
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// index is what a controller knows: what its watches have shown, overlaid with what the API has acknowledged.
type index struct {
	c      *controller
	order  order
	left   map[string]plan.Moment // see leave
	synced [resources]bool
	set    *daemonSet
	policy *policy
	keeper *keeper
	// keeperGone is the version at which the keeper was last known to be gone.
	keeperGone uint64
	changes    uint64 // counts changes of nodes
	nodes      []*node
	pods       []*pod
	first      uint64                     // the version of the first list of pods
	reachedV   uint64                     // the pod watch has delivered everything up to here
	ahead      map[string]time.Duration   // since when a pod is known in a newer version than the watch's
	buried     map[string]uint64          // pods known to be gone before the watch shows it: the last known version of each
	departed   map[string]map[string]bool // nodes that are gone: the pods left on them
	unfit      map[string]bool            // pods that a read has shown not to be changeable in place
}

func newIndex(c *controller) *index {
	return &index{c: c, left: map[string]plan.Moment{}, ahead: map[string]time.Duration{}, buried: map[string]uint64{}, departed: map[string]map[string]bool{}, unfit: map[string]bool{}}
}

func (ix *index) ready() bool {
	return ix.synced[sets] && ix.synced[nodes] && ix.synced[pods] && (ix.c.w.sc.Policy == nil || ix.synced[policies] && ix.synced[rollouts])
}

// event applies a watched change.
func (ix *index) event(r resource, e event) {
	switch {
	case r == sets:
		ix.putSet(e.set)
	case r == policies:
		ix.putPolicy(e.policy)
	case r == rollouts && e.gone:
		dropKeeper(ix, e.version)
	case r == rollouts:
		ix.putKeeper(e.keeper)
	case r == nodes && e.gone:
		ix.c.farewell(e.node, ix.dropNode(e.node.Name))
	case r == nodes:
		ix.putNode(e.node)
	case e.gone:
		ix.order.hear()
		delete(ix.buried, e.pod.UID)
		ix.dropPod(e.pod.UID)
	default:
		ix.putPod(e.pod, ix.order.hear())
	}
	ix.reached(r, e.version)
}

func (ix *index) reached(r resource, version uint64) {
	if r == pods {
		ix.order.hear()
		ix.reachedV = max(ix.reachedV, version)
	}
}

// replace applies a whole list.
func (ix *index) replace(r resource, l listing) {
	switch r {
	case sets:
		ix.putSet(l.set)
	case policies:
		ix.putPolicy(l.policy)
	case rollouts:
		if ix.putKeeper(l.keeper); l.keeper == nil {
			dropKeeper(ix, l.version)
		}
	case nodes:
		for _, n := range l.nodes {
			ix.putNode(n)
		}
		for _, n := range slices.Clone(ix.nodes) {
			if !slices.ContainsFunc(l.nodes, func(o *node) bool { return o.Name == n.Name }) {
				ix.dropNode(n.Name)
			}
		}
	case pods:
		ix.replacePods(l)
	}
	if was := ix.ready(); !was {
		ix.synced[r] = true
		if ix.ready() {
			ix.c.touch()
		}
	}
}

func (ix *index) replacePods(l listing) {
	listed, at := map[string]bool{}, ix.order.heard
	if !ix.synced[pods] {
		at, ix.first = 0, l.version
	}
	for _, p := range l.pods {
		listed[p.UID] = true
		ix.putPod(p, at)
	}
	for _, p := range slices.Clone(ix.pods) {
		if !listed[p.UID] && p.version <= l.version {
			ix.dropPod(p.UID)
		}
	}
	for uid, version := range ix.buried {
		if !listed[uid] && version <= l.version {
			delete(ix.buried, uid)
		}
	}
	ix.reached(pods, l.version)
}

func (ix *index) putSet(s *daemonSet) {
	if ix.set == nil || s.version > ix.set.version {
		ix.set = s
		ix.c.touch()
	}
}

// putNode stores a node. A heartbeat changes nothing.
func (ix *index) putNode(n *node) {
	i := slices.IndexFunc(ix.nodes, func(o *node) bool { return o.Name == n.Name })
	if i < 0 {
		ix.nodes = append(ix.nodes, ix.placeNode(n, nil))
		ix.c.renewed(n.Name)
		ix.c.w.check.sawNode(ix.c, n)
		ix.c.changed[n.Name] = ix.c.clock()
		ix.changes++
		ix.c.touch()
		return
	}
	old := ix.nodes[i]
	if old.UID != n.UID {
		ix.c.renewed(n.Name)
	}
	ix.c.w.check.sawNode(ix.c, n)
	n = ix.placeNode(n, old)
	ix.nodes[i] = n
	if n.Ready {
		delete(ix.left, n.Name)
	}
	if !sameNode(&old.Node, &n.Node) {
		ix.changes++
		ix.c.changed[n.Name] = ix.c.clock()
		ix.c.touch()
	}
}

func sameNode(a, b *plan.Node) bool {
	if len(a.Labels) != len(b.Labels) {
		return false
	}
	for k, v := range a.Labels {
		if b.Labels[k] != v {
			return false
		}
	}
	return a.UID == b.UID && a.Ready == b.Ready && a.Leaving == b.Leaving && a.ReadyChanged.Equal(b.ReadyChanged) && slices.Equal(a.Taints, b.Taints)
}

// dropNode forgets a node. It returns the UIDs of the pods bound to it, which it leaves behind.
func (ix *index) dropNode(name string) (left []string) {
	i := slices.IndexFunc(ix.nodes, func(o *node) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	ix.nodes = slices.Delete(ix.nodes, i, i+1)
	ix.c.renewed(name)
	ix.changes++
	delete(ix.left, name)
	ix.c.touch()
	for _, p := range ix.pods {
		if p.Node == name && p.Bound {
			left = append(left, p.UID)
		}
	}
	return left
}

func (ix *index) node(name string) *node {
	for _, n := range ix.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (ix *index) pod(uid string) *pod {
	for _, p := range ix.pods {
		if p.UID == uid {
			return p
		}
	}
	return nil
}

// putPod stores a pod. What is new about it counts as seen at the moment at.
func (ix *index) putPod(p *pod, at plan.Moment) {
	if _, gone := ix.buried[p.UID]; gone {
		return
	}
	i := slices.IndexFunc(ix.pods, func(o *pod) bool { return o.UID == p.UID })
	if i < 0 {
		p = ix.place(p, nil, at)
		ix.succeed(p)
		ix.pods = append(ix.pods, p)
		ix.c.touch()
		return
	}
	old := ix.pods[i]
	if p.version <= old.version {
		return
	}
	p = ix.place(p, old, at)
	ix.pods[i] = p
	if p.Pod != old.Pod {
		ix.c.touch()
	}
}

func (ix *index) dropPod(uid string) {
	i := slices.IndexFunc(ix.pods, func(o *pod) bool { return o.UID == uid })
	if i < 0 {
		return
	}
	p := ix.pods[i]
	ix.leave(p)
	ix.pods = slices.Delete(ix.pods, i, i+1)
	delete(ix.ahead, uid)
	if d := ix.departed[p.Node]; d != nil {
		delete(d, uid)
		if len(d) == 0 {
			delete(ix.departed, p.Node)
		}
	}
	ix.c.touch()
}

// assume lays a pod that the API has just returned over what was watched.
func (ix *index) assume(p *pod) { ix.lay(p, ix.order.heard) }

// acknowledge is assume for a pod that one of our writes has created or deleted.
func (ix *index) acknowledge(p *pod, w *write) {
	ix.lay(p, w.began)
	ix.acknowledged(p.UID, w)
}

func (ix *index) lay(p *pod, at plan.Moment) {
	if p.version <= ix.reachedV || ix.c.w.bug == NoOverlay {
		return
	}
	ix.putPod(p, at)
	if q := ix.pod(p.UID); q != nil && q.version == p.version {
		if len(ix.ahead) == 0 {
			ix.c.later(delivery.LingerAfter, ix.c.settleLingering)
		}
		ix.ahead[p.UID] = ix.c.w.now
	}
}

// bury forgets a pod that is known to be gone, and keeps older events from
// bringing it back.
func (ix *index) bury(uid string) {
	if ix.c.w.bug == NoOverlay {
		return
	}
	if p := ix.pod(uid); p != nil {
		ix.dropPod(uid)
		ix.buried[uid] = p.version
	}
}

// depart records that the node is gone permanently, and left these pods behind.
func (ix *index) depart(name string, uids []string) {
	left := map[string]bool{}
	for _, uid := range uids {
		if ix.pod(uid) != nil {
			left[uid] = true
		}
	}
	if len(left) > 0 {
		ix.departed[name] = left
		ix.c.touch()
	}
}

// gone returns the nodes that are gone, if they left a pod behind and no other node has their name.
func (ix *index) gone() map[string]bool {
	if len(ix.departed) == 0 {
		return nil
	}
	gone := map[string]bool{}
	for _, p := range ix.pods {
		if ix.departed[p.Node][p.UID] {
			gone[p.Node] = true
		}
	}
	for _, n := range ix.nodes {
		delete(gone, n.Name)
	}
	return gone
}

// leftBehind reports whether the pod belongs to an earlier node with the same name as its node.
func (ix *index) leftBehind(p *pod) bool {
	return ix.departed[p.Node][p.UID] && slices.ContainsFunc(ix.nodes, func(n *node) bool { return n.Name == p.Node })
}

// late returns the pods whose own write the watch should have shown long ago.
func (ix *index) late() (late []*pod) {
	for _, p := range ix.pods {
		since, is := ix.ahead[p.UID]
		switch {
		case !is:
		case p.version <= ix.reachedV:
			delete(ix.ahead, p.UID)
		case ix.c.w.now-since >= delivery.LingerAfter:
			late = append(late, p)
		}
	}
	return late
}
