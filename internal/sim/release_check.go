package sim

import (
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// begun is what was true when a write began that gives a node the template's revision.
type begun struct {
	exposes bool // the node had nothing of this revision before
	state   rollout.State
	release release
	nodes   map[string]string // the nodes that the process knew then, and that may have what the write gives: their UIDs, by name
	as      request           // see reaching
}

// keeps is called when a state was kept. Only a person's permission releases what the guard holds (R10).
func (k *checker) keeps(before, now *keeper) {
	s, g, r := &now.state, &now.guard, now.release()
	k.quotas[r] = max(k.quotas[r], s.Quota)
	if s.Grants() {
		k.granting[granted{r, s.Target}] = true
	}
	if before != nil && before.guard.Held > 0 && len(g.Taken) > 0 && last(g.Taken) != last(before.guard.Taken) {
		k.w.fail("R10: the guard held %d nodes, and lets some go; nobody has allowed that", before.guard.Held)
	}
}

func last(taken []rollout.Taken) (t rollout.Taken) {
	if n := len(taken); n > 0 {
		t = taken[n-1]
	}
	return t
}

// starts is called when a write begins. Whether a node may be given the target is judged by the state of the release that the API
// keeps then, whatever the process believes (R1, R4, R6, R15).
func (k *checker) starts(w *write) {
	o, c := k.w.api.keeper, w.owner
	if k.w.sc.Policy == nil || o == nil || !w.gains() {
		return
	}
	if k.lax {
		k.startsBeside(w)
		return
	}
	s, hash := o.state, w.set.spec.Hash
	if c.course.release == nil {
		k.plainly[request{0, w.node() + " " + hash}] = true
	}
	switch {
	case s.Stable == "" && c.course.release == nil: // there is no previous revision
		return
	case (w.plain || c.course.meets(hash)) && s.Phase == rollout.Idle, hash == s.Stable:
		return
	case w.create != nil && (w.had || k.had(c, w.node(), hash)):
		k.reached.begin(w) // the process knows this from now on
		return
	case hash != s.Target:
		k.w.fail("R15: %s is to get %s; what is kept is of %s over %s", w.node(), hash, s.Target, s.Stable)
		return
	case !s.Grants():
		k.w.fail("R4: %s is to get %s in release %d, which is %s (%s)", w.node(), hash, s.Release, s.Phase, s.Reason)
		return
	}
	w.begun = begun{exposes: true, state: s, release: o.release(), nodes: map[string]string{}}
	for _, n := range c.index.nodes {
		has := func(p *pod) bool { return p.Node == n.Name && p.Hash == hash }
		if k.w.sc.Assists && !permits(&w.set.spec.Placement, &n.Node).run && !slices.ContainsFunc(c.index.pods, has) {
			continue // a taint keeps it free of pods. What it gets once the taint is gone is the other controller's doing, at any time
		}
		w.begun.nodes[n.Name] = n.UID
	}
	k.reached.begin(w)
	if n := c.index.node(w.node()); n != nil {
		k.grants[grant{o.release(), n.Name}] = n.UID
	}
}

// reachEnds is called when a process has learned how its write has ended.
func (k *checker) reachEnds(w *write, o *delivery.Outcome) {
	if !k.reached.has(w.begun.as) {
		return
	}
	if k.reached.end(w, o); !k.reached.has(w.begun.as) {
		delete(k.grants, grant{w.begun.release, w.node()})
	}
}

// loss is the time at which a node lost its pod to a change of labels or of the template's placement.
type loss struct{ at time.Duration }

// permit is a person's permission for a number of nodes.
type permit struct {
	nodes       int
	from, until time.Duration // when they may go
}

// permits records a permission, which replaces the last one. A pod that was permitted to go may go a little later.
func (k *checker) permits(nodes int, d time.Duration) {
	now := k.w.now
	if n := len(k.permitted); n > 0 {
		k.permitted[n-1].until = min(k.permitted[n-1].until, now+stillGoes)
	}
	k.permitted = append(k.permitted, permit{nodes, now, now + d + stillGoes})
}

// stillGoes is how long after its permission a pod may go; two clocks may be twenty minutes apart.
const stillGoes = rollout.LetsFor + delivery.SlowTimeout + 21*time.Minute

// loses is called when a pod was deleted (R10): within an hour no more nodes lose their pods to a change of labels or of the
// placement than the policy and people together allow. The hour is by the engine's clock, which may jump.
func (k *checker) loses(w *write) {
	unplaced := []plan.Reason{plan.NotSelected, plan.AffinityNotMatched, plan.TaintNotTolerated, plan.TaintEvicts}
	if d := w.remove; !slices.Contains(unplaced, d.Reason) || d.Now || !w.guarded || w.rests == nil || !w.rests.Bound || !live(&w.rests.Pod) {
		return
	}
	hour := time.Hour
	if slices.ContainsFunc(k.w.sc.Events, func(e Event) bool { return e.Op == "clock" && e.Args[0] == "engine" }) {
		hour -= 25 * time.Minute
	}
	k.lost[w.node()] = append(k.lost[w.node()], loss{k.w.now})
	n, most := 0, k.w.sc.Policy.MayRemove(k.w.sc.nodesEver())
	for _, all := range k.lost {
		for i, l := range all {
			if k.w.now-l.at < hour && (i == 0 || l.at-all[i-1].at > rollout.LetsFor) { // two pods of a node go together
				n++
			}
		}
	}
	for _, p := range k.permitted {
		if p.until > k.w.now-hour {
			most += p.nodes
		}
	}
	if n > most {
		k.w.fail("R10: %s loses its pod as one of %d nodes within an hour; %d may", w.node(), n, most)
	}
}

// meets reports whether the process knows no revision but this one, and could not keep that yet because the kept state is from
// another time.
func (k *course) meets(hash string) bool {
	return !k.kept && k.release == nil && k.state.Stable == hash && k.state.Target == hash
}

// knowsOthers reports whether the process knows live pods of another revision.
func (c *controller) knowsOthers(hash string) bool {
	return slices.ContainsFunc(c.index.pods, func(p *pod) bool { return p.Hash != hash && live(&p.Pod) })
}

// had reports whether the process has known the node to have something of the revision, or to have been given it.
func (k *checker) had(c *controller, node, hash string) bool {
	is := func(p *pod) bool { return p.Node == node && p.Hash == hash }
	return k.reached.has(reaching(c, node, hash, c.course.releaseID())) || slices.ContainsFunc(k.w.api.pods, is) || slices.ContainsFunc(c.index.pods, is) ||
		c.backoff[node].Hash == hash
}

// exposing is called just before a write takes effect (R1): by the true state of the API no more nodes have the target then than
// the kept quota.
func (k *checker) exposing(w *write) {
	own := k.w.api.node(w.node())
	if !w.begun.exposes || own == nil || own.UID != w.begun.nodes[own.Name] {
		return // a node that has left: the write has no effect
	}
	hash, begun, now := w.set.spec.Hash, w.begun.state.Release, w.begun.state
	if o := k.w.api.keeper; o != nil {
		now = o.state
	}
	switch {
	case now.Stable == hash:
		return // by now all nodes may have it
	case now.Release != begun && w.remove != nil && !k.w.sc.Assists:
		return // the release has ended, and its successor decides what replaces the node's pod
	}
	quota := k.quotas[w.begun.release]
	for is := range k.granting {
		if r := is.release; is.target == hash && r.number >= begun && r.number <= now.Release {
			quota = max(quota, k.quotas[r]) // the same revision was released again
		}
	}
	n := 1
	for name, uid := range w.begun.nodes {
		node, release := k.w.api.node(name), w.begun.release
		switch {
		case node == nil || node.UID != uid || name == w.node():
		case k.w.sc.Assists && k.granted(node, hash, release), !k.w.sc.Assists && k.exposed(w.owner, node, hash, release):
			n++
		}
	}
	if n > quota {
		k.w.fail("R1: %s gets %s as one of %d nodes; the quota that is kept is %d", w.node(), hash, n, quota)
	}
}

// exposed reports whether the node truly has a pod of the revision, or the process has made room for one.
func (k *checker) exposed(c *controller, n *node, hash string, r release) bool {
	if k.plainly[request{0, n.Name + " " + hash}] {
		return false // it had it before the release decided about it
	}
	alive := false
	for _, p := range k.w.api.pods {
		switch {
		case p.Node != n.Name:
			continue
		case p.nodeUID != "" && p.nodeUID != n.UID:
			alive = alive || live(&p.Pod) && p.Ready // the node that has the name now runs it
			continue
		}
		if p.Hash == hash {
			return true
		}
		alive = alive || live(&p.Pod)
	}
	if alive || !k.reached.has(reaching(c, n.Name, hash, r)) {
		return false
	}
	// A node that the revision is not for, and that has lost its pod for this reason, counts like a node that waits for its pod.
	stable := ""
	if o := k.w.api.keeper; o != nil {
		stable = o.state.Stable
	}
	return permits(new(k.w.sc.placement(hash)), &n.Node).run || permits(new(k.w.sc.placement(stable)), &n.Node).run
}

// goesOn is called when a decision is about to be carried out. No node gets the target while more nodes have failed than may
// (R5), while the process knows no policy, whether the policy is gone or was never seen (R12), or while the node is down (R18).
func (k *checker) goesOn(c *controller) {
	gives, hash := k.gives(c), c.index.set.spec.Hash
	if len(gives) == 0 {
		return
	}
	p, e := c.policy(), &c.out.Exposure
	switch {
	case e.Failed > p.Failure.Allowance(e.Exposed, bound(c))+c.course.state.Forgiven:
		k.w.fail("R5: %d nodes have failed, and %s is to get %s", e.Failed, gives[0], hash)
	case c.index.policy == nil:
		k.w.fail("R12: %s is to get %s, and there is no policy to say so", gives[0], hash)
	}
	for _, name := range gives {
		if n := c.index.node(name); n == nil || !n.Ready || n.Leaving {
			k.w.fail("R18: %s is to get %s, and is down", name, hash)
		}
	}
	if k.lax && !k.w.sc.Assists {
		k.knows(c, gives)
	}
	if c.course.release != nil {
		k.survey(c, c.index.set)
		t := turns{k, c, gives}
		t.mayGrant()
		t.inOrder()
		t.underWay()
	}
}

// gives returns the nodes that get the target by the decision, and have nothing of it yet.
func (k *checker) gives(c *controller) (nodes []string) {
	for i := range c.out.Deletes {
		if d := &c.out.Deletes[i]; d.Reaches {
			nodes = append(nodes, d.Node)
		}
	}
	for i := range c.out.Changes {
		if d := &c.out.Changes[i]; d.Reaches {
			nodes = append(nodes, d.Node)
		}
	}
	for i := range c.out.Creates {
		n := &c.out.Creates[i]
		if r := c.course.release; r != nil && !n.Stable && !k.had(c, n.Node, c.index.set.spec.Hash) {
			nodes = append(nodes, n.Node)
		}
	}
	return nodes
}

// isForBoth reports whether both revisions of a release are for the node.
func (k *checker) isForBoth(c *controller, p *place) bool {
	stable := k.w.sc.placement(c.course.state.Stable)
	return p.fit.run && permits(&stable, &p.node.Node).run
}

// widen scales the budget by the nodes that either of the two revisions is for.
func (k *checker) widen(c *controller, set *daemonSet, b *balance) {
	stable := k.w.sc.placement(c.course.state.Stable)
	b.desired = 0
	for i := range k.places {
		if p := &k.places[i]; p.node != nil {
			b.desired += p.fit.count(p.fit.run || permits(&stable, &p.node.Node).run)
		}
	}
	if n := set.spec.MaxUnavailable.Of(b.desired); n > 0 {
		b.maxUnavailable = n
	}
}

// decidedInRelease is decided where nodes may be for either of two revisions (I1, I2, R9).
func (k *checker) decidedInRelease(c *controller, set *daemonSet) {
	driven := *set
	set = &driven
	switch {
	case c.course.release == nil && c.pauses(set.spec.Hash):
		set.spec.Strategy = plan.OnDelete
	case c.index.policy != nil, c.course.release != nil, c.course.state.Reverting:
		set.spec.Strategy = plan.RollingUpdate // a policy also drives OnDelete
	}
	switch {
	case c.course.release == nil && !c.course.holds:
		k.decided(c, set)
		return
	case c.idle():
		return
	}
	k.survey(c, set)
	k.judgeAvailable(c)
	// The trouble of a node that is not Ready may be older than the release, and a pod that a taint allows to stay may be of
	// either revision. Such nodes are not counted. Nor is a node that only one of the two revisions is for: deleting its pod
	// costs no budget.
	b := k.balance(c, set, func(_ *controller, _ *daemonSet, p *place) bool { return !p.node.Ready || !k.isForBoth(c, p) })
	k.widen(c, set, &b)
	for i := range c.out.Creates {
		n := &c.out.Creates[i]
		at, of := k.place(n.Node), new(k.w.sc.placement(c.course.makes(c, set, n)))
		switch {
		case at == nil || at.node == nil || !permits(of, &at.node.Node).run:
			k.w.fail("I2: a pod is to be created on %s, which is not known or not eligible", n.Node)
		case at.live > 1, at.live > 0 && !b.surges:
			k.w.fail("I1: a pod is to be created on %s, which has %d", n.Node, at.live)
		}
	}
	for i := range c.out.Deletes {
		d := &c.out.Deletes[i]
		at, p := k.place(d.Node), c.index.pod(d.UID)
		if at == nil || at.node == nil || p == nil || c.index.leftBehind(p) || !k.isForBoth(c, at) || !k.available(c, set, p) {
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
	k.judgeChanges(c, set, &b, "R9")
}
