package sim

import (
	"slices"

	"everynode/internal/plan"
)

// place is one node as a controller must see it: what its watches have shown, overlaid with its own writes.
type place struct {
	node      *node // nil: not known
	name      string
	fit       fit
	pods      []*pod
	live      int
	old, cur  int // live pods of older revisions, and of the current one
	failing   bool
	available int
	curUp     bool // an available pod of the current revision
	curBound  bool // a live pod of it is bound
	oldBound  bool // a live pod of an older revision is bound
	oldUp     bool // an available pod of an older revision
	coming    bool // a create is under way
}

// decided checks a decision before it is carried out (I2, I4, I5, I6, I7).
func (k *checker) decided(c *controller, set *daemonSet) {
	if c.idle() {
		return
	}
	k.survey(c, set)
	b := k.balance(c, set, k.excused)
	k.judgeAvailable(c)
	for i := range c.out.Creates {
		k.judgeCreate(&c.out.Creates[i], &set.spec, &b)
	}
	for i := range c.out.Deletes {
		k.judgeDelete(c, &c.out.Deletes[i], &set.spec, &b)
	}
	if len(c.out.Changes) > 0 && !b.rolls {
		k.w.fail("I7: %s is to be changed, with OnDelete", c.out.Changes[0].Pod)
	}
	k.judgeChanges(c, set, &b, "I4")
}

// balance is what a rollout may spend, and has spent.
type balance struct {
	desired, down, up, surging int
	maxUnavailable, maxSurge   int
	surges, rolls              bool
}

// balance counts. excused returns which nodes do not take part.
func (k *checker) balance(c *controller, set *daemonSet, excused func(*controller, *daemonSet, *place) bool) (b balance) {
	for i := range k.places {
		p := &k.places[i]
		if p.node == nil {
			continue
		}
		b.desired += p.fit.count(p.fit.run)
		if p.fit.run || p.fit.keep && (p.available > 0 || p.curBound) {
			switch {
			case p.available > 0:
				b.up++
			case !excused(c, set, p):
				b.down++
			}
		}
		if p.fit.keep && (p.fit.run && p.old > 0 || p.oldBound) && !p.curUp && (p.fit.run && p.cur > 0 || p.curBound || p.coming || p.failing) {
			b.surging++
		}
	}
	b.maxUnavailable, b.maxSurge = set.spec.MaxUnavailable.Of(b.desired), set.spec.MaxSurge.Of(b.desired)
	if b.maxUnavailable <= 0 && b.maxSurge <= 0 {
		b.maxUnavailable = 1
	}
	b.rolls = set.spec.Strategy == plan.RollingUpdate
	b.surges = b.rolls && set.spec.MaxSurge.Value > 0
	return b
}

// survey sorts by node what the controller knows.
func (k *checker) survey(c *controller, set *daemonSet) {
	for i := range k.places {
		k.places[i].pods = k.places[i].pods[:0]
	}
	rest := k.places
	k.places = k.places[:0]
	add := func(name string) *place {
		var room []*pod
		if n := len(k.places); n < len(rest) {
			room = rest[n].pods[:0]
		}
		k.places = append(k.places, place{name: name, pods: room})
		return &k.places[len(k.places)-1]
	}
	gone := c.index.gone()
	for _, n := range c.index.nodes {
		if !gone[n.Name] {
			p := add(n.Name)
			p.node, p.fit = n, permits(&set.spec.Placement, &n.Node)
		}
	}
	for _, p := range c.index.pods {
		if c.index.leftBehind(p) && !k.w.sc.Assists {
			continue // it no longer runs
		}
		at := k.place(p.Node)
		if at == nil {
			at = add(p.Node)
		}
		at.pods = append(at.pods, p)
		k.count(c, set, at, p)
	}
	for _, w := range c.applier.started {
		if at := k.place(w.node()); at != nil && w.create != nil && w.hash == set.spec.Hash {
			// If a pod with one of the create's names is known, that pod is counted instead.
			at.coming = (at.fit.run || !w.create.ByScheduler) && !slices.ContainsFunc(at.pods, func(p *pod) bool { return slices.Contains(w.names, p.Name) })
		}
	}
}

func (k *checker) place(name string) *place {
	for i := range k.places {
		if k.places[i].name == name {
			return &k.places[i]
		}
	}
	return nil
}

func (k *checker) count(c *controller, set *daemonSet, at *place, p *pod) {
	current := isCurrent(&set.spec, p)
	at.failing = at.failing || current && ended(&p.Pod) && p.Deleted.IsZero()
	if !live(&p.Pod) {
		return
	}
	at.live++
	up := k.available(c, set, p)
	if up {
		at.available++
	}
	if current {
		at.cur++
		at.curUp = at.curUp || up
		at.curBound = at.curBound || p.Bound
	} else {
		at.old++
		at.oldUp = at.oldUp || up
		at.oldBound = at.oldBound || p.Bound
	}
}

// available reports whether a pod counts (I6): it has been ready for long enough, and the process has neither
// deleted it nor sent a delete whose outcome it does not know.
func (k *checker) available(c *controller, set *daemonSet, p *pod) bool {
	ready := p.fresh() && p.readyAt+set.spec.MinReady <= c.w.now
	if c.old && !ready {
		ready = p.record != nil // it believes what the kubelet says
	}
	return live(&p.Pod) && p.Ready && ready &&
		!k.unsettled[request{c.process, p.UID}] && k.deletedBy[p.UID] != c.process
}

func (k *checker) judgeCreate(n *plan.Create, spec *plan.Spec, b *balance) {
	at := k.place(n.Node)
	switch {
	case at == nil || at.node == nil:
		k.w.fail("I2: a pod is to be created on %s, which is not known", n.Node)
	case !at.fit.run:
		k.w.fail("I2: a pod is to be created on %s, which is not eligible", n.Node)
	case at.cur > 0, at.old > 0 && !b.surges, at.old > 1:
		k.w.fail("I1: a pod is to be created on %s, which has %d old and %d current", n.Node, at.old, at.cur)
	case at.oldUp:
		b.surging++
		if b.surging > b.maxSurge {
			k.w.fail("I4: the surge on %s is one of %d, at most %d may be", n.Node, b.surging, b.maxSurge)
		}
	}
}

func (k *checker) judgeDelete(c *controller, d *plan.Delete, spec *plan.Spec, b *balance) {
	at := k.place(d.Node)
	p := c.index.pod(d.UID)
	if p != nil && c.index.leftBehind(p) {
		if !d.Now {
			k.w.fail("gone: %s is to be deleted, its node %s has been replaced", p.Name, d.Node)
		}
		return
	}
	if at == nil || p == nil {
		if d.UID != "" {
			k.w.fail("a pod is to be deleted that is not known: %s", d.Pod)
		}
		return
	}
	current := isCurrent(spec, p)
	switch {
	case at.node == nil:
		if p.Bound && !d.Now {
			k.w.fail("gone: %s is to be deleted, its node %s is not known", p.Name, d.Node)
		}
	case !at.fit.keep, ended(&p.Pod), !p.Deleted.IsZero():
	case at.spare(p, current, b.surges):
		if k.available(c, &daemonSet{spec: *spec}, p) {
			at.take()
			other := func(o *pod) bool { return o.UID != p.UID && live(&o.Pod) && o.Ready }
			if at.available == 0 && !slices.ContainsFunc(at.pods, other) {
				k.w.fail("I1: %s is deleted as one too many on %s (%s), and is the only one that is ready", p.Name, d.Node, d.Reason)
			}
		}
	case !b.rolls:
		k.w.fail("I7: %s is to be deleted, with OnDelete (%s)", p.Name, d.Reason)
	case current:
		k.w.fail("%s is to be deleted, it is of the current revision (%s)", p.Name, d.Reason)
	case !k.available(c, &daemonSet{spec: *spec}, p) && !(b.surges && p.Ready):
	case b.surges:
		k.judgeSurged(at, p, b)
	case !at.fit.run:
		k.w.fail("I3: %s is to be deleted; its node may keep it (%s)", p.Name, d.Reason)
	default:
		b.down++
		b.up--
		at.take()
		if b.down > b.maxUnavailable {
			k.w.fail("I4: %s is available and is to be deleted; that makes %d down of at most %d", p.Name, b.down, b.maxUnavailable)
		}
	}
}

// judgeSurged handles an available old pod, with surge: another pod must serve, or the node leaves and enough
// others serve.
func (k *checker) judgeSurged(at *place, p *pod, b *balance) {
	if at.curUp {
		return
	}
	if !at.fit.run && b.up > b.desired {
		b.up--
		return
	}
	k.w.fail("I4: %s is ready and is to be deleted; no other pod serves on %s", p.Name, at.name)
}

// spare reports whether there are more pods than allowed, and this is one too many. It then counts the pod as
// deleted.
func (at *place) spare(p *pod, current, surges bool) bool {
	switch {
	case !surges && at.live > 1, surges && current && at.cur > 1, surges && !current && at.old > 1:
	default:
		return false
	}
	at.live--
	if current {
		at.cur--
	} else {
		at.old--
	}
	return true
}

func (at *place) take() { at.available-- }
