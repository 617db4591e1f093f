package plan

import "slices"

// Guard holds the pods that an edit of labels or taints, or of the template's placement, would remove (R10),
// also if that takes an update, as it does where pods surge and a NoSchedule taint is not tolerated. A pod that
// it holds stays where it is, and is not replaced when it ends. It does not hold pods that the taint manager
// evicts, since their own tolerations do not cover a NoExecute taint; pods on nodes that are gone; and pods
// that a release that goes back takes from nodes that only its target selects.
type Guard struct {
	// Allowed are the nodes that may lose their pods. The map is shared, and must not be modified
	// meanwhile.
	Allowed map[string]bool
	// Waits means that what is held waits only for its turn, and not for a person. It matters only for what is said.
	Waits bool
}

// Guarded reports whether the guard holds the node's pod, whether or not its turn to lose it has come. Spared
// reports whether it would hold the pod if the node were not allowed to lose it.
func (v *Verdict) Guarded() bool { return v.guarded }
func (v *Verdict) Spared() bool  { return v.spared }

// guard reports whether the guard holds pods on this node, which would be removed because the template does not
// admit them, and how they would go otherwise.
func (d decision) guard(goes candidate) (holds bool) {
	g := d.in.Guard
	if g == nil || !slices.ContainsFunc(d.pods, d.runs) {
		return false
	}
	d.v.spared = g.Allowed[d.node.Name]
	d.v.guarded, d.v.goes = !d.v.spared, goes
	return d.v.guarded
}

// held returns the reason for a pod that the guard holds, given the reason if it holds it only until its turn.
func (d decision) held(turn Reason) Reason {
	if d.in.Guard.Waits {
		return turn
	}
	return HeldByGuard
}

// runs reports whether the guard holds this pod, if it holds those of the node.
func (s *site) runs(p *Pod) bool {
	return p.live() && p.Bound && !p.Assumed && !s.goesBack(p) && !(s.fit.Reason == TaintEvicts && s.evicted(p))
}

// goesBack reports whether the pod goes because a release goes back, and for no other reason: its own revision
// still has a place for it here.
func (s *site) goesBack(p *Pod) bool {
	if r := s.in.Release; r == nil || !r.Back || !s.in.Set.made(p) {
		return false
	}
	own := s.in.Set.Placement.Admits(s.node)
	return own.Run || own.Keep && !s.fit.Keep
}

// evicted reports whether the taint manager evicts this pod from a node with a NoExecute taint, whatever the
// plan says. It goes by the tolerations of the pod, which are those of the pod's revision, not of the one that
// the node is for. If the revision is neither of the two that are known, the pod counts as one that only the
// plan would remove: an eviction that happens anyway ends the holding.
func (s *site) evicted(p *Pod) bool {
	of := &s.in.Set
	if !of.made(p) {
		if s.in.Release == nil || !s.in.Release.Stable.made(p) {
			return false
		}
		of = &s.in.Release.Stable
	}
	return of.Placement.untolerated(s.node, NoExecute) != nil
}

// Guard sets what may be removed from now on; nil: whatever labels and placement say. It takes effect for a
// node when that node is looked at again.
func (l *Ledger) Guard(g *Guard) { l.in.Guard = g }

// Removable returns the guarded nodes that would lose their pods at once if they were allowed to. The others wait for
// their turn in a release or, with surge, until enough others serve: a permission that ends would end before that.
func (l *Ledger) Removable() (names []string) {
	if l.totals.Guarded == 0 {
		return nil
	}
	var waiting [kinds][]*slot
	for _, v := range l.slots {
		if v.guarded && !v.early {
			waiting[v.goes] = append(waiting[v.goes], v)
		}
	}
	for _, v := range waiting[fixed] {
		names = append(names, v.Node)
	}
	rooms := l.in.rooms(&l.totals)
	for _, kind := range inTurn() {
		before, more := l.queues[kind].len(), waiting[kind]
		slices.SortFunc(more, func(v, w *slot) int { return first(v.before(w), w.before(v)) })
		for _, v := range more[:max(rooms.take(kind, before+len(more))-before, 0)] {
			names = append(names, v.Node)
		}
	}
	return names
}
