package sim

import (
	"math"
	"slices"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// turns is a decision that gives nodes the target, judged by what its process knows when it is about to be carried out.
type turns struct {
	k     *checker
	c     *controller
	gives []string // the nodes
}

// mayGrant checks that the policy lets nodes get the target now: it can be followed (R11), and a window is open (R3).
func (t turns) mayGrant() {
	switch p := t.c.index.policy; {
	case p == nil: // see goesOn
	case p.wrong != rollout.NoReason:
		t.k.w.fail("R11: %s is to get %s, and the policy cannot be followed (%s)", t.gives[0], t.c.index.set.spec.Hash, p.wrong)
	case !p.is.Open(t.c.clock()):
		t.k.w.fail("R3: %s is to get %s, and no window is open", t.gives[0], t.c.index.set.spec.Hash)
	}
}

// inOrder checks R2: a node gets the target only if its rank is below the quota that is kept, and if no node like it comes before
// it and waits.
func (t turns) inOrder() {
	k, c := t.k, t.c
	set, ranks, quota := c.index.set, map[string]int{}, k.quotas[c.course.releaseID()]
	for i, name := range c.course.layout.Order {
		ranks[name] = i
	}
	rank := func(name string) int {
		if r, known := ranks[name]; known {
			return r
		}
		return math.MaxInt
	}
	last, least := "", -1 // the last one of those that wait for nothing but their turn
	for _, name := range t.gives {
		if rank(name) >= quota {
			k.w.fail("R2: %s is to get %s; %d of %v may", name, set.spec.Hash, quota, c.course.layout.Order)
		}
		if at := k.place(name); at != nil && rank(name) > least && t.waits(at) {
			last, least = name, rank(name)
		}
	}
	for i := range k.places {
		at := &k.places[i]
		if rank(at.name) < least && !slices.Contains(t.gives, at.name) && t.waits(at) {
			k.w.fail("R2: %s is to get %s, and %s comes before it and waits", last, set.spec.Hash, at.name)
		}
	}
}

// waits reports whether nothing but its turn keeps the target from a node: it is up, both revisions are for it, its only
// pod is available and of the stable revision, and nothing else is known about it.
func (t turns) waits(at *place) bool {
	k, c := t.k, t.c
	if at.node == nil || !at.node.Ready || at.node.Leaving || !k.isForBoth(c, at) || len(at.pods) != 1 || at.available != 1 || k.w.sc.InPlace {
		return false
	}
	p := at.pods[0]
	if k.had(c, at.name, c.index.set.spec.Hash) { // it has been reached
		return false
	}
	if p.Hash != c.course.state.Stable || !p.Bound || p.Generation > c.index.set.spec.Generation {
		return false
	}
	if _, known := c.backoff[at.name]; known || len(c.waiting()[at.name]) > 0 {
		return false
	}
	others := func(o *pod) bool { return o.Node == at.name && o.UID != p.UID }
	write := func(w *write) bool { return w.node() == at.name }
	seen := func(v plan.Verdict) bool { return v.Node == at.name && v.Available }
	return !slices.ContainsFunc(c.index.pods, others) && !slices.ContainsFunc(c.applier.started, write) && slices.ContainsFunc(c.out.Verdicts, seen)
}

// underWay checks R9b: with the nodes that get the target now, no more are under way than the budget and what people have
// forgiven. Counted are only nodes of which the process must know that they are under way.
func (t turns) underWay() {
	k, c := t.k, t.c
	set, is := c.index.set, map[string]bool{}
	for i := range k.places {
		at := &k.places[i]
		if at.node != nil && at.node.Ready && !at.node.Leaving && at.fit.run && t.isUnderWay(at) {
			is[at.name] = true
		}
	}
	was := len(is)
	for _, name := range t.gives {
		if at := k.place(name); at != nil && at.fit.run { // others only lose a pod
			is[name] = true
		}
	}
	most := bound(c) + c.course.state.Forgiven
	if len(is) > max(was, most) {
		k.w.fail("R9b: %s is to get %s, and %d nodes are under way then; %d may be", t.gives[0], set.spec.Hash, len(is), most)
	}
}

// isUnderWay reports whether a node has the target, or is about to get it, and has no available pod of it.
func (t turns) isUnderWay(at *place) bool {
	k, c := t.k, t.c
	r := c.course.releaseID()
	of := func(uid string) bool {
		return slices.ContainsFunc(at.pods, func(p *pod) bool { return p.UID == uid && live(&p.Pod) })
	}
	begun := func(w *write) bool {
		return w.node() == at.name && w.release == r && w.gains() && (at.live == 0 || of(w.uid()))
	}
	switch {
	case at.curUp:
		return false
	case at.has(c.index.set.spec.Hash), at.coming, slices.ContainsFunc(c.applier.started, begun):
		return true
	case at.live > 0:
		return false
	case k.w.sc.Assists:
		return true // its next pod is of the target
	}
	return k.grants[grant{r, at.name}] == at.node.UID && k.reached.has(reaching(c, at.name, c.index.set.spec.Hash, r))
}

// bound returns how many nodes may be under way at a time, as the budget of an update has it.
func bound(c *controller) int {
	spec := c.index.set.spec
	if spec.Strategy = plan.RollingUpdate; c.w.sc.Assists {
		spec.MaxSurge = plan.Amount{}
	}
	most, surge := spec.Budget(c.out.Status.Desired)
	return max(most, surge)
}
