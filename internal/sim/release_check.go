package sim

import (
	"slices"
	"strconv"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// begun is what was true when a write was started that gives a node the template's revision.
type begun struct {
	exposes bool // the node had nothing of it before
	state   rollout.State
	nodes   map[string]string // the nodes that the process knew then: their UIDs, by name
}

// keeps is called just before a state is kept.
func (k *checker) keeps(s *rollout.State) { k.quotas[s.Release] = max(k.quotas[s.Release], s.Quota) }

// starts is called when a write is started. Whether a node may be given the target is judged by what the API keeps
// of the release then, whatever the process believes (R1, R4, R6, R15).
func (k *checker) starts(w *write) {
	k.takes(w)
	o, c := k.w.api.keeper, w.owner
	if k.w.sc.Policy == nil || o == nil || k.lax || !w.gains() {
		return
	}
	s, hash := o.state, w.set.spec.Hash
	if c.course.release == nil {
		k.plainly[request{0, w.node() + " " + hash}] = true
	}
	switch {
	case s.Stable == "" && c.course.release == nil: // there is no revision to come from
		return
	case w.plain && s.Phase == rollout.Idle, hash == s.Stable:
		return
	case w.remove == nil && k.had(c, w.node(), hash):
		k.reached[reaching(c, w.node(), hash, c.course.number())] = true // and that it knows from now on
		return
	case hash != s.Target:
		k.w.fail("R15: %s is to get %s; what is kept is of %s over %s", w.node(), hash, s.Target, s.Stable)
		return
	case !s.Grants():
		k.w.fail("R4: %s is to get %s in release %d, which is %s (%s)", w.node(), hash, s.Release, s.Phase, s.Reason)
		return
	}
	w.begun = begun{exposes: true, state: s, nodes: map[string]string{}}
	for _, n := range c.index.nodes {
		w.begun.nodes[n.Name] = n.UID
	}
	k.reached[reaching(c, w.node(), hash, c.course.number())] = true
}

// taken is a node from which a pod was taken that labels have no place for, by the clock of the process that did it.
type taken struct{ at time.Time }

// takes is called when a write is started (R10): within an hour no more nodes lose their pods to a change of labels than
// the policy allows of all that there are, and people besides.
func (k *checker) takes(w *write) {
	d, c := w.remove, w.owner
	if d == nil || k.lax || d.Reason != plan.NotSelected || d.Now || k.takenPods[d.UID] || !k.guards(w) {
		return
	}
	p := c.index.pod(d.UID)
	goesBack := c.course.release != nil && c.course.release.Back && p != nil && p.Hash == w.set.spec.Hash
	if p == nil || !p.Bound || !live(&p.Pod) || goesBack {
		return
	}
	for _, all := range [][]*pod{c.index.pods, k.w.api.pods} {
		for _, other := range all {
			if other.Node == d.Node {
				k.takenPods[other.UID] = true // the node is counted once
			}
		}
	}
	now, n := c.clock(), 0
	k.taken = append(k.taken, taken{now})
	for _, t := range k.taken {
		if now.Sub(t.at).Abs() < time.Hour {
			n++
		}
	}
	if most := k.w.sc.Policy.MayRemove(k.w.sc.nodesEver()) + k.permitted; n > most {
		k.w.fail("R10: %s loses its pod as one of %d nodes within an hour; %d may", d.Node, n, most)
	}
}

// guards says that there is a guard, of which the process must have known when it decided. A policy that was deleted is
// there again when all is mended.
func (k *checker) guards(w *write) bool {
	held := k.w.api.keeper != nil && k.w.api.keeper.guard.Held > 0
	return w.guarded || held || k.w.api.policy != nil && !k.w.healed
}

// knowsOthers says that the process knows of live pods of another revision.
func (c *controller) knowsOthers(hash string) bool {
	return slices.ContainsFunc(c.index.pods, func(p *pod) bool { return p.Hash != hash && live(&p.Pod) })
}

// reaching is a node that a process has begun to give a target in a release of that number, which may not be kept yet.
func reaching(c *controller, node, target string, release int) request {
	return request{c.process, node + " " + target + " " + strconv.Itoa(release)}
}

// number is that of the release which the process goes by.
func (k *course) number() int {
	if k.release == nil {
		return 0
	}
	return k.release.Number
}

// had says that the process has known the node to have something of the revision, or to have been given it.
func (k *checker) had(c *controller, node, hash string) bool {
	is := func(p *pod) bool { return p.Node == node && p.Hash == hash }
	return k.reached[reaching(c, node, hash, c.course.number())] || slices.ContainsFunc(k.w.api.pods, is) || slices.ContainsFunc(c.index.pods, is) ||
		c.backoff[node].Hash == hash
}

// exposing is called just before a write takes effect (R1): by the true state of the API no more nodes have the
// target then than the quota that is kept.
func (k *checker) exposing(w *write) {
	own := k.w.api.node(w.node())
	if !w.begun.exposes || own == nil || own.UID != w.begun.nodes[own.Name] {
		return // for a node that has left, nothing comes of it
	}
	hash, quota := w.set.spec.Hash, k.quotas[w.begun.state.Release]
	n := 1
	for name, uid := range w.begun.nodes {
		if node := k.w.api.node(name); node != nil && node.UID == uid && name != w.node() && k.exposed(w.owner, node, hash, w.begun.state.Release) {
			n++
		}
	}
	if n > quota {
		k.w.fail("R1: %s gets %s as one of %d nodes; the quota that is kept is %d", w.node(), hash, n, quota)
	}
}

// exposed says that the node truly has a pod of the revision, or that the process has made room for one.
func (k *checker) exposed(c *controller, n *node, hash string, release int) bool {
	if k.plainly[request{0, n.Name + " " + hash}] {
		return false // it had it before it was for the release to say
	}
	alive := false
	for _, p := range k.w.api.pods {
		if p.Node != n.Name || p.nodeUID != "" && p.nodeUID != n.UID {
			continue
		}
		if p.Hash == hash {
			return true
		}
		alive = alive || live(&p.Pod)
	}
	return !alive && k.reached[reaching(c, n.Name, hash, release)] && permits(&k.w.api.set.spec.Placement, &n.Node).run
}

// goesOn is called when what was decided is about to be done (R5): more failures than are allowed expose no node.
func (k *checker) goesOn(c *controller) {
	p, e := c.policy(), &c.out.Exposure
	most, surge := c.index.set.spec.Budget(c.out.Status.Desired)
	reaches := func(d plan.Delete) bool { return d.Reaches }
	if e.Failed > p.Failure.Allowance(e.Exposed, max(most, surge))+c.course.state.Forgiven && slices.ContainsFunc(c.out.Deletes, reaches) {
		k.w.fail("R5: %d nodes have failed, and another is to get %s", e.Failed, c.index.set.spec.Hash)
	}
}

// decidedInRelease is decided where nodes may be for either of two revisions (I1, I2, R9).
func (k *checker) decidedInRelease(c *controller, set *daemonSet) {
	switch {
	case c.course.release == nil && !c.course.holds:
		k.decided(c, set)
		return
	case len(c.out.Deletes)+len(c.out.Creates) == 0:
		return
	}
	k.survey(c, set)
	k.judgeAvailable(c)
	// Trouble of a node that is not Ready may be older than the release, and a pod that a taint lets stay may be of
	// either revision: such a node is not counted.
	b := k.balance(c, set, func(_ *controller, _ *daemonSet, p *place) bool { return !p.node.Ready || !p.fit.run })
	for i := range c.out.Creates {
		n := &c.out.Creates[i]
		at := k.place(n.Node)
		switch {
		case at == nil || at.node == nil || !at.fit.run:
			k.w.fail("I2: a pod is to be created on %s, which is not known or not eligible", n.Node)
		case at.live > 1, at.live > 0 && !b.surges:
			k.w.fail("I1: a pod is to be created on %s, which has %d", n.Node, at.live)
		}
	}
	for i := range c.out.Deletes {
		d := &c.out.Deletes[i]
		at, p := k.place(d.Node), c.index.pod(d.UID)
		if at == nil || at.node == nil || p == nil || c.index.leftBehind(p) || !at.fit.run || !k.available(c, set, p) {
			continue
		}
		ready := func(o *pod) bool { return o.UID != p.UID && live(&o.Pod) && o.Ready }
		others := at.available > 1 || d.Reason == plan.Duplicate && slices.ContainsFunc(at.pods, ready)
		at.take()
		switch {
		case others:
		case b.surges:
			k.w.fail("R9: %s is available and is to be deleted (%s); no other pod serves on %s", p.Name, d.Reason, at.name)
		default:
			if b.down++; b.down > b.maxUnavailable {
				k.w.fail("R9: %s is available and is to be deleted (%s); that makes %d down of at most %d", p.Name, d.Reason, b.down, b.maxUnavailable)
			}
		}
	}
}
