package plan

// A plan for DaemonSets that another controller manages (Spec.Assists). That controller creates and repairs the pods,
// always from the target, and removes those that no longer have a place. This plan decides only when a pod of another
// revision goes.

// assist decides for one node. It does not request what the other controller does by itself; the reason says that it
// will.
func (e exposure) assist() {
	e.account(e.v)
	e.decide()
	e.v.creates = e.v.creates[:0]
	if n := len(e.v.deletes); n > 0 && e.v.deletes[n-1].Reason == Outdated {
		e.v.deletes = append(e.v.deletes[:0], e.v.deletes[n-1])
	} else {
		e.v.deletes, e.v.candidate = e.v.deletes[:0], fixed
	}
	switch r := e.in.Release; {
	case r == nil:
	case e.exposed():
		e.expose()
		e.v.release.Leaked = r.rank(e.v.Node) >= r.Quota
		e.stay()
	default:
		e.v.release.Other = e.old != nil && !r.Stable.made(e.old)
		if len(e.v.deletes) > 0 {
			e.awaitGrant()
		}
	}
}

// awaitGrant handles a node whose pod would be replaced. The pod goes when the node's turn has come and the target is
// granted.
func (e exposure) awaitGrant() {
	switch {
	case !e.node.Ready || e.node.Leaving:
		e.stay()
	case !e.turn() || e.in.Release.Back:
		e.stay()
	default:
		if e.v.candidate == fixed {
			e.v.candidate = expose
		}
		e.v.deletes[0].Reaches = true
	}
}

// stay takes back the delete of an outdated pod.
func (e exposure) stay() {
	if len(e.v.deletes) > 0 {
		e.v.deletes, e.v.candidate, e.v.Reason, e.v.Detail = e.v.deletes[:0], fixed, AwaitsWave, ""
	}
}
