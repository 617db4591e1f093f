package engine

import (
	"reflect"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// ranks is the order in which a release reaches the nodes, and the inputs that it was computed from.
type ranks struct {
	layout     *rollout.Layout
	places     map[string]int // by node name
	steps      []int          // the quotas of the layout's steps
	release    releaseID
	policy     *policyEntry
	stable, to string
	nodes      uint64 // index.nodeChanges
	at         time.Time
}

// rank computes the order of the nodes again when the last one is no longer valid. In successive orders the nodes that
// have the target always come first.
func (e *engine) rank(set *setEntry, hash string, number int, st *state) {
	release := releaseID{st.course.keeper(), number}
	c, o, changes := &st.course, &st.course.order, e.index.nodeChanges()
	same := o.layout != nil && o.release == release && o.policy == c.policy && o.stable == c.state.Stable && o.to == hash
	if same && (o.nodes == changes && !st.mends() || time.Since(o.at) < rollout.RankEvery) {
		return
	}
	nodes := e.index.reachable(set, &c.stable.spec, hash, func(node string) (reached, failed bool) {
		return st.reachedWith(node, hash) == number, st.backoffOf(node, st.now).Hash == hash
	})
	layout := rollout.NewLayout(c.policyOrDefault(), string(set.ds.UID), nodes)
	if same && reflect.DeepEqual(layout, o.layout) {
		o.nodes, o.at = changes, time.Now() // nothing has to be looked at again
		return
	}
	*o = ranks{layout: layout, places: make(map[string]int, len(nodes)),
		release: release, policy: c.policy, nodes: changes, at: time.Now(), stable: c.state.Stable, to: hash}
	for i, name := range o.layout.Order {
		o.places[name] = i
	}
	for _, step := range o.layout.Steps {
		o.steps = append(o.steps, step.Quota)
	}
}

// mends reports whether the order depends on pods: on the state of those of abandoned versions, and on those of the target
// that others have created out of turn, perhaps on nodes that are not in the order: see reachable.
func (s *state) mends() bool {
	t := s.ledger.Totals().Exposure
	return s.course.assists && s.course.state.Grants() && t.Other+t.Leaked > 0
}

// stale returns when the order must be computed again, if nodes have changed or pods matter; zero: it need not be.
func (o *ranks) stale(changes uint64, mends bool) time.Time {
	if o.layout == nil || o.nodes == changes && !mends {
		return time.Time{}
	}
	return o.at.Add(rollout.RankEvery)
}

// reachable returns the nodes that the target or the stable revision selects, and those that have a pod of the target
// or were about to get one: a taint may have been added since. given says that the release has reached a node, and that
// a pod of the target has failed there.
func (ix *index) reachable(set *setEntry, stable *plan.Spec, hash string, given func(node string) (reached, failed bool)) (nodes []rollout.Node) {
	// Whether a node is meant takes a placement of a megabyte long to say: that is asked when the index is free again.
	var all []holding
	ix.mu.RLock()
	if o := ix.owned[string(set.ds.UID)]; o != nil { // else it has just gone
		all = o.holdings(ix.nodes, stable, hash)
	}
	ix.mu.RUnlock()
	for _, n := range all {
		reached, failed := given(n.Name)
		if !n.has && !reached && !failed && !set.spec.Placement.Admits(n.Node).Run && !stable.Placement.Admits(n.Node).Run {
			continue
		}
		down := !n.Ready || n.Leaving
		// On a node that was reached, the end of the old pod may not have been seen yet: such a node keeps its position
		// while it is up.
		exposed := n.has || !n.other && (reached || failed) || reached && !down
		if stable.Assists {
			// Nodes that got the target from others are out of turn, and move no other node back. Pods of an abandoned
			// version go first if they are down: as long as they are, nothing else may go.
			down = down && n.other && !n.has
			exposed = reached || n.broken && !down
		}
		nodes = append(nodes, rollout.Node{Name: n.Name, Labels: n.Labels, Exposed: exposed, Down: down})
	}
	return nodes
}

// holding is what a node has: a pod of the target; one of another revision, and one of neither that or the stable one
// that is not ready.
type holding struct {
	*plan.Node
	has, other, broken bool
}

// holdings returns what each of the nodes has.
func (o *owned) holdings(nodes map[string]*nodeEntry, stable *plan.Spec, hash string) []holding {
	all := make([]holding, 0, len(nodes))
	for name, n := range nodes {
		s := holding{Node: &n.Node}
		for p := o.first[name]; p != nil; p = p.next {
			s.has = s.has || p.Hash == hash
			if p.Hash != hash && p.Deleted.IsZero() && p.Phase != plan.Failed && p.Phase != plan.Succeeded {
				s.other, s.broken = true, s.broken || p.Hash != stable.Hash && !p.Ready
			}
		}
		all = append(all, s)
	}
	return all
}

// revisionsInUse returns how many available pods each revision has, zero for revisions that only have unavailable ones;
// on how many nodes there is a pod of the template's revision; and on how many nodes there is a live pod of another
// revision.
func (ix *index) revisionsInUse(set *setEntry, hash string, now time.Time) (pods map[string]int, exposed, others int) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	pods = map[string]int{}
	o := ix.owned[string(set.ds.UID)]
	if o == nil {
		return pods, 0, 0 // the DaemonSet has just gone
	}
	for _, first := range o.first {
		current, other := false, false
		for p := first; p != nil; p = p.next {
			current = current || p.Hash == hash
			if !p.Deleted.IsZero() {
				continue
			}
			pods[p.Hash] += 0
			if p.Ready && now.Sub(p.ReadySince) >= set.spec.MinReady {
				pods[p.Hash]++
			}
			other = other || p.Hash != hash
		}
		if current {
			exposed++
		}
		if other {
			others++
		}
	}
	return pods, exposed, others
}
