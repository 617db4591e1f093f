package engine

import (
	"maps"
	"slices"
	"time"
)

// tenant is a namespace with DaemonSets that have writes. Namespaces take turns, and within each
// its DaemonSets, so that nobody gets more by having more DaemonSets. The applier guards it.
type tenant struct {
	name string
	// lanes is those with something pending; the first is next.
	lanes []*lane
	// known is how many lanes belong to it.
	known   int
	slow    int // writes
	fared   fare
	faredAt time.Time
}

// roster is the namespaces, and whose turn it is.
type roster struct {
	tenants map[string]*tenant
	turn    []*tenant // those with something pending; the first is next
	turns   int       // how many turns were taken
}

func (t *tenant) fares(f fare, now time.Time) { t.fared, t.faredAt = f, now }

// tenant returns the tenant of the namespace, which it creates if needed. It also forgets tenants
// that have had nothing to do for a while.
func (r *roster) tenant(name string) *tenant {
	if t := r.tenants[name]; t != nil {
		return t
	}
	now := time.Now()
	maps.DeleteFunc(r.tenants, func(_ string, t *tenant) bool { return t.known == 0 && now.Sub(t.faredAt) > fareLast })
	t := &tenant{name: name}
	r.tenants[name] = t
	return t
}

// queues puts the lane into the turn of its tenant, and that into the turn of all.
func (r *roster) queues(l *lane) {
	t := l.tenant
	if !slices.Contains(t.lanes, l) {
		t.lanes = append(t.lanes, l)
	}
	if !slices.Contains(r.turn, t) {
		r.turn = append(r.turn, t)
	}
}

// leaves takes the lane out of the turn.
func (r *roster) leaves(l *lane) {
	t := l.tenant
	t.lanes = slices.DeleteFunc(t.lanes, func(o *lane) bool { return o == l })
	if len(t.lanes) == 0 {
		r.turn = slices.DeleteFunc(r.turn, func(o *tenant) bool { return o == t })
	}
}

// evenTurn is how often the turn ignores ranks: critical DaemonSets must not starve the others.
const evenTurn = 4

// next takes the next write: from the lane of the highest rank, and among equals from each
// namespace in turn. If there is none, due is when time alone may allow one; zero: never.
func (a *applier) next(now time.Time) (w *write, due time.Time) {
	even := a.turns%evenTurn == 0
	var best *lane
	for _, t := range a.turn {
		l, at := a.first(t, even, now)
		due = earlier(due, at)
		if l != nil && (best == nil || l.rank > best.rank) {
			best = l
		}
		if even && best != nil {
			break
		}
	}
	if best == nil {
		return nil, due
	}
	a.turns++
	w = best.head(a.paced(now))
	best.start(w)
	a.leaves(best)
	if best.waiting > 0 {
		a.queues(best)
	}
	a.last(best.tenant)
	return w, due
}

// last puts the tenant behind the others.
func (r *roster) last(t *tenant) {
	if i := slices.Index(r.turn, t); i >= 0 {
		r.turn = append(slices.Delete(r.turn, i, i+1), t)
	}
}

// first returns the lane of the tenant whose turn it is, if any may start a write.
func (a *applier) first(t *tenant, even bool, now time.Time) (best *lane, due time.Time) {
	for _, l := range t.lanes {
		may, at := a.may(l, now)
		due = earlier(due, at)
		if may && (best == nil || l.rank > best.rank) {
			best = l
		}
		if even && best != nil {
			break
		}
	}
	return best, due
}

// may reports whether the lane may start a write now, or else when time alone allows it.
func (a *applier) may(l *lane, now time.Time) (can bool, due time.Time) {
	if l.held || !l.win.room() || a.crowded(l) {
		return false, time.Time{}
	}
	if !l.proven && a.proven > 0 && (l.win.busy > l.slow || a.unproven >= max(a.all.size/unprovenShare, 1)) {
		return false, time.Time{}
	}
	if l.resume.After(now) {
		return false, l.resume
	}
	paced := a.paced(now)
	if l.head(paced) != nil {
		return true, time.Time{}
	}
	if paced && l.head(false) != nil {
		return false, a.created.Add(a.pace)
	}
	return false, time.Time{}
}

// crowded reports whether the limit of slow writes is reached and the next write of the lane may
// be slow. A lane whose last write was quick always passes. A lane about which nothing is known
// may try one write at up to twice the limits, so that it can prove to be quick without waiting
// for others to end.
func (a *applier) crowded(l *lane) bool {
	times := 1
	switch {
	case l.speed == speedQuick:
		return false
	case l.speed == speedUnknown && l.win.busy == 0:
		times = 2
	}
	return a.slow >= times*maxSlow || l.tenant.slow >= times*maxSlowTenant
}

// paced reports whether the next create has to wait.
func (a *applier) paced(now time.Time) bool { return a.created.Add(a.pace).After(now) }
