package plan

// A plan for DaemonSets that another controller looks after (Spec.Assists). That one creates and repairs the
// pods, always from the target, and removes those that no longer have a place. This plan decides only when
// a pod of another revision goes.

// assist decides for one node. Whatever the other controller does by itself is not asked for; the reason says that it will.
func (s *site) assist(v *Verdict) {
	s.account(v)
	s.decide(v)
	v.creates = v.creates[:0]
	if n := len(v.deletes); n > 0 && v.deletes[n-1].Reason == Outdated {
		v.deletes = append(v.deletes[:0], v.deletes[n-1])
	} else {
		v.deletes, v.candidate = v.deletes[:0], fixed
	}
	switch r := s.in.Release; {
	case r == nil:
	case s.exposed():
		s.expose(v)
		v.release.Leaked = r.rank(v.Node) >= r.Quota
		s.stay(v)
	default:
		v.release.Other = s.old != nil && !r.Stable.made(s.old)
		if len(v.deletes) > 0 {
			s.awaitGrant(v)
		}
	}
}

// awaitGrant is for a node whose pod would be replaced. It goes when the node's turn has come, and the target is granted.
func (s *site) awaitGrant(v *Verdict) {
	switch {
	case !s.node.Ready || s.node.Leaving:
		s.stay(v)
	case !s.turn(v) || s.in.Release.Back:
		s.stay(v)
	default:
		if v.candidate == fixed {
			v.candidate = expose
		}
		v.deletes[0].Reaches = true
	}
}

// stay takes back the delete of an outdated pod.
func (s *site) stay(v *Verdict) {
	if len(v.deletes) > 0 {
		v.deletes, v.candidate, v.Reason, v.Detail = v.deletes[:0], fixed, AwaitsWave, ""
	}
}
