package plan

import "slices"

// Act is what tells the delete from others.
func (d *Delete) Act() Act { return Act{Kind: Deleting, Pod: d.UID, Now: d.Now} }

// Act is what tells the change from others.
func (c *Change) Act() Act { return Act{Kind: Changing, Pod: c.UID} }

// putOff takes back the acts of the node that have failed and wait for their next
// try. What cannot move takes no turn from other nodes.
//
// What must be done on the node whatever its pods are like goes on: a pod that has no
// business there goes, although the create before that was refused. Its update does
// not: the successor of a pod might not come. And while a pod cannot be claimed, it is
// not known what the node has.
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

// takeBack takes back one act; false: it is not to be done.
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

// restUpdate takes back what is done for an update. A create beside another act is for
// one: a missing pod is created when there is nothing else to do.
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

// count is how many acts there are on the node.
func (v *Verdict) count() int { return len(v.deletes) + len(v.creates) + len(v.changes) }

// acts says that there is something to do on the node.
func (v *Verdict) acts() bool { return v.count() > 0 }

// rest takes back all acts.
func (v *Verdict) rest() {
	v.candidate, v.deletes, v.creates, v.changes = fixed, v.deletes[:0], v.creates[:0], v.changes[:0]
}
