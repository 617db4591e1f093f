package sim

import (
	"slices"
	"strconv"
	"time"

	"everynode/internal/plan"
)

// builtin is the DaemonSet controller of a cluster where the model controller only assists (Scenario.Assists), modelled
// on pkg/controller/daemon of Kubernetes: it creates pods from the template that it has seen, replaces those that have
// ended, removes those that have no place, and writes the status. With RollingUpdate it replaces outdated pods by
// itself. It sees changes of the DaemonSet late. Independently of that, it sees what is on the nodes each time it
// looks.
type builtin struct {
	w       *world
	self    *controller // the owner that its writes name
	set     *daemonSet  // the DaemonSet as it has seen it
	queued  bool
	still   time.Duration // it does nothing until then
	made    int           // how many pods it has created
	replace map[string]pause
}

// pause is how long a node waits for its next pod after one has failed, for one generation of the DaemonSet.
type pause struct {
	until, last time.Duration
	generation  int64
}

// The pauses of Kubernetes' controller after failed pods and refused requests.
const (
	firstFailedPause = time.Second
	mostFailedPause  = 15 * time.Minute
	refusedPause     = 5 * time.Second
)

// employ starts the built-in controller, if the scenario has one.
func (w *world) employ() {
	if w.sc.Assists {
		w.builtin = &builtin{w: w, self: &controller{w: w}, replace: map[string]pause{}}
		w.builtin.notice(w.api.set)
	}
}

// saw is called with each change.
func (b *builtin) saw(r resource, e event) {
	switch r {
	case sets:
		b.notice(e.set)
	case nodes, pods:
		b.touch(0)
	}
}

// notice makes it see a version of the DaemonSet a little later. Versions come in order, but only the last counts.
func (b *builtin) notice(set *daemonSet) {
	b.w.after(b.w.between(time.Millisecond, b.w.faults.Lag), func() {
		if b.set == nil || b.set.version < set.version {
			b.set = set
			b.touch(0)
		}
	})
}

// touch schedules a sync, soon or after a pause.
func (b *builtin) touch(in time.Duration) {
	if in > 0 {
		b.w.after(in, func() { b.touch(0) })
		return
	}
	if b.queued {
		return
	}
	b.queued = true
	b.w.after(b.w.between(time.Millisecond, 200*time.Millisecond), func() {
		b.queued = false
		if b.set == nil {
			return
		}
		if b.still > b.w.now {
			b.touch(b.still - b.w.now)
			return
		}
		b.sync()
	})
}

// sync creates and removes pods, and reports what it has seen.
func (b *builtin) sync() {
	for _, n := range slices.Clone(b.w.api.nodes) {
		b.manage(n)
	}
	b.sweep()
	if b.set.spec.Strategy == plan.RollingUpdate {
		b.roll()
	}
	status := b.count()
	if a := b.w.api; a.set.status != status || a.set.observed != b.set.generation {
		a.putSet(func(s *daemonSet) { s.status, s.observed = status, b.set.generation })
	}
}

// manage gives a node the pods that it should have.
func (b *builtin) manage(n *node) {
	f := permits(&b.set.spec.Placement, &n.Node)
	var alive []*pod
	any := false
	b.w.api.on(n.Name, func(p *pod) {
		if !p.Deleted.IsZero() && ended(&p.Pod) {
			return // only a finalizer holds it
		}
		switch any = true; {
		case !p.Deleted.IsZero():
		case !f.keep:
			b.remove(p)
		case ended(&p.Pod):
			b.afterEnd(p)
		default:
			alive = append(alive, p)
		}
	})
	slices.SortStableFunc(alive, func(a, b *pod) int { return fit{}.count(b.Bound) - fit{}.count(a.Bound) })
	for i := 1; i < len(alive); i++ { // of those that are bound, it keeps the oldest
		b.remove(alive[i])
	}
	if f.run && !any {
		b.create(n.Name)
	}
}

// afterEnd removes a pod that has ended, after a pause that grows each time.
func (b *builtin) afterEnd(p *pod) {
	last := b.replace[p.Node]
	if last.generation != b.set.generation {
		last = pause{}
	}
	if p.Phase == plan.Succeeded {
		b.remove(p)
		return
	}
	if last.until > b.w.now {
		b.touch(last.until - b.w.now)
		return
	}
	next := min(max(2*last.last, firstFailedPause), mostFailedPause)
	if b.w.now-last.until > 2*mostFailedPause {
		next = firstFailedPause
	}
	b.replace[p.Node] = pause{b.w.now + next, next, b.set.generation}
	b.remove(p)
}

// sweep removes pods that wait for a node that does not exist. Pods that ran on such a node are left to the garbage
// collector.
func (b *builtin) sweep() {
	for _, p := range slices.Clone(b.w.api.pods) {
		if !p.Bound && b.w.api.node(p.Node) == nil {
			b.remove(p)
		}
	}
}

func (b *builtin) remove(p *pod) {
	if b.w.api.guarded[p.Node] {
		b.touch(refusedPause)
		return
	}
	b.w.tracef("builtin  deletes %s", p.Name)
	b.w.api.mark(p, false, 0)
}

func (b *builtin) create(node string) {
	b.made++
	w := &write{owner: b.self, set: b.set, hash: b.set.spec.Hash, create: &plan.Create{Node: node, ByScheduler: true}}
	if a := b.w.api.create(w, node+"-b"+strconv.Itoa(b.made)); a.code != ok {
		b.touch(refusedPause)
	}
}

// roll is what RollingUpdate does: it deletes outdated pods that are not available at once, and others as far as the
// budget allows.
func (b *builtin) roll() {
	spec, desired, down := &b.set.spec, 0, 0
	var goes []*pod
	for _, n := range b.w.api.nodes {
		if !permits(&spec.Placement, &n.Node).run {
			continue
		}
		desired++
		up := false
		b.w.api.on(n.Name, func(p *pod) {
			serves := live(&p.Pod) && p.Ready && p.readyAt+spec.MinReady <= b.w.now
			up = up || serves
			switch {
			case !live(&p.Pod) || isCurrent(spec, p):
			case serves:
				goes = append(goes, p)
			default:
				b.remove(p)
			}
		})
		down += 1 - fit{}.count(up)
	}
	most, _ := spec.Budget(desired)
	for _, p := range goes[:max(min(most-down, len(goes)), 0)] {
		b.remove(p)
	}
}

// count returns the status.
func (b *builtin) count() (s plan.Status) {
	spec := &b.set.spec
	for _, n := range b.w.api.nodes {
		f, alive := permits(&spec.Placement, &n.Node), 0
		var current, ready, available int
		b.w.api.on(n.Name, func(p *pod) {
			if !live(&p.Pod) {
				return
			}
			if at := p.readyAt + spec.MinReady; p.Ready && at > b.w.now {
				b.touch(at - b.w.now)
			}
			alive = 1
			current = max(current, f.count(isCurrent(spec, p)))
			ready = max(ready, f.count(p.Ready))
			available = max(available, f.count(p.Ready && p.readyAt+spec.MinReady <= b.w.now))
		})
		if !f.run {
			s.Misscheduled += alive
			continue
		}
		s.Desired++
		s.Current, s.Updated, s.Ready, s.Available = s.Current+alive, s.Updated+current, s.Ready+ready, s.Available+available
	}
	return s
}
