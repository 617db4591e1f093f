package sim

import "everynode/internal/delivery"

// reached is what a release has begun, as package engine's reached.go has it.
type reached struct {
	by    granted
	nodes map[string]map[string]bool // by node: the UIDs of the pods whose deletes or changes reached it; empty: a create did
}

// mayBeCreated stands for a create that is not taken back. No pod has this UID.
const mayBeCreated = "?"

// goal returns what the write gives its node, if it reaches it.
func (w *write) goal() granted {
	g := granted{w.release, w.set.spec.Hash}
	if w.owner.w.bug == NumberIsEnough {
		g.keeper = 0
	}
	return g
}

// keeper returns the UID of the object that keeps the state, as the process has read or written it last; 0: there is none.
func (k *course) keeper() uint64 {
	if k.own == nil {
		return 0
	}
	return k.own.uid
}

// releaseID identifies the release that the process follows.
func (k *course) releaseID() release {
	if k.release == nil {
		return release{}
	}
	return release{k.keeper(), k.release.Number}
}

// reaches records that a write has begun by which the release gives a node its target.
func (c *controller) reaches(w *write) {
	r, k := c.course.release, &c.course.reached
	if r == nil || r.Back || !w.gains() {
		return
	}
	w.release = release{w.keeper, r.Number}
	if by := w.goal(); k.by != by {
		*k = reached{by, map[string]map[string]bool{}}
	}
	if k.nodes[w.node()] == nil {
		k.nodes[w.node()] = map[string]bool{}
	}
	k.nodes[w.node()][w.uid()] = true
}

// takenBack reports whether a write has left its node as it was, with a pod.
func (w *write) takenBack(o *delivery.Outcome) bool {
	if w.create == nil {
		return o.Undone()
	}
	return w.succeeds && o.Fate.IsRefusal()
}

// ends records how such a write has ended. That a create is refused says nothing about an earlier one on the node.
func (r *reached) ends(w *write, o *delivery.Outcome) {
	begun := r.nodes[w.node()]
	if w.release == (release{}) || r.by != w.goal() || begun == nil {
		return
	}
	switch {
	case w.takenBack(o):
		if delete(begun, w.uid()); len(begun) == 0 {
			delete(r.nodes, w.node())
		}
	case w.create != nil:
		begun[mayBeCreated] = true
	}
}

// reachedWith returns the nodes that the release has begun to give the template's revision, each with its number.
func (c *controller) reachedWith(set *daemonSet) map[string]int {
	k := &c.course.reached
	if k.by.target != set.spec.Hash || k.by.keeper != c.course.keeper() && c.w.bug != NumberIsEnough {
		return nil
	}
	all := make(map[string]int, len(k.nodes))
	for name := range k.nodes {
		all[name] = k.by.number
	}
	return all
}
