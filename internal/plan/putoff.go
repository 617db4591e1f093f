package plan

import "slices"

// Act identifies the delete.
func (d *Delete) Act() Act { return Act{Kind: Deleting, Pod: d.UID, Now: d.Now} }

// Act identifies the change.
func (c *Change) Act() Act { return Act{Kind: Changing, Pod: c.UID} }

// putOff removes the writes of the node that have failed and wait for their next try. A node that
// cannot move takes no turn from other nodes.
//
// Writes that do not depend on the state of the node's pods continue: a pod that does not belong
// there goes, even if an earlier create was refused. The node's update does not continue, because
// the successor of a pod might not come. And while a pod cannot be adopted or released, it is not
// known which pods the node has.
func (in *Input) putOff(v *Verdict) {
	held := false
	for i := range in.Waits[v.Node] {
		if w := &in.Waits[v.Node][i]; !w.over(in.Now) && v.takeBack(w.Act) {
			v.wake(w.Until, in.Now)
			v.Reason, v.Detail, held = WriteFailed, w.What, true
		}
	}
	if held {
		v.restUpdate()
	}
}

// takeBack removes one write; it returns false if the verdict does not contain it.
func (v *Verdict) takeBack(a Act) bool {
	if a.Kind == Claiming {
		v.rest()
		return true
	}
	before := v.count()
	switch a.Kind {
	case Creating:
		v.creates = v.creates[:0]
	case Deleting:
		v.deletes = slices.DeleteFunc(v.deletes, func(d Delete) bool { return d.Act() == a })
	case Changing:
		v.changes = slices.DeleteFunc(v.changes, func(c Change) bool { return c.Act() == a })
	}
	return v.count() < before
}

// restUpdate removes the writes of an update. A create together with another write belongs to an
// update: a missing pod is created only when there is nothing else to do.
func (v *Verdict) restUpdate() {
	if v.candidate == expose || v.candidate == drop {
		v.rest() // all of it is
		return
	}
	v.candidate, v.creates, v.changes = fixed, v.creates[:0], v.changes[:0]
	v.deletes = slices.DeleteFunc(v.deletes, func(d Delete) bool {
		return d.Reason == Outdated || d.Reason == Surged || d.Reason == TaintNotTolerated
	})
}

// count returns the number of writes on the node.
func (v *Verdict) count() int { return len(v.deletes) + len(v.creates) + len(v.changes) }

// acts reports whether there is something to do on the node.
func (v *Verdict) acts() bool { return v.count() > 0 }

// rest removes all writes.
func (v *Verdict) rest() {
	v.candidate, v.deletes, v.creates, v.changes = fixed, v.deletes[:0], v.creates[:0], v.changes[:0]
}
