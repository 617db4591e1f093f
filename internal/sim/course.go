package sim

// The shell of the model controller around package rollout, as package engine's release.go has it.

import (
	"maps"
	"math"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// course is what a process knows about the release.
type course struct {
	read, reading bool // the state was read from the server in this term, or is being read
	state         rollout.State
	heeded        rollout.Requests // those that the state was computed with
	kept          bool             // the state is kept, except for what was counted since
	own           *keeper          // what this process has kept or read last; nil: nothing
	holds         bool             // nothing may be done before the new state is kept
	unsure        bool             // the outcome of the last write of the state is not known: it is read again
	lost          bool             // someone has deleted the kept state of a release under way
	stuck         bool             // the last write of the state failed: nothing is granted
	retryAt       time.Duration
	wrote         time.Duration
	release       *plan.Release
	reached       reached

	layout  *rollout.Layout
	ranked  ranking
	at      time.Duration // when the layout was worked out
	changes uint64        // the value of index.changes then
	limit   bool          // QuotaForgotten has forgotten it

	removals rollout.Hold

	problem rollout.Reason // beside another controller: why the policy cannot be followed
	behind  time.Duration  // since when that controller has not observed a change; 0: it has
}

// ranking is what a layout was computed from.
type ranking struct {
	release    release
	policy     *policy
	stable, to string
}

// steer works out what plan has to follow. It returns false if the kept state must be read first.
func (c *controller) steer(set *daemonSet) bool {
	k, ix := &c.course, c.index
	if c.w.sc.Policy == nil {
		return true
	}
	k.release, k.holds = nil, false
	if ix.policy == nil && !k.read && !k.unsure && ix.keeper == nil {
		k.removals.Watch(false)
		return true
	}
	if c.readCourse(); !k.read {
		return false
	}
	c.w.check.memo(c).sees(k, set.spec.Hash)
	k.removals.Watch(!c.w.sc.Assists && (ix.policy != nil || k.removals.Kept.Held > 0))
	if ix.policy == nil && k.state.Stable == "" {
		k.state = rollout.State{Release: k.state.Release}
	}
	if ix.policy == nil && k.state.Phase == rollout.Idle && !k.lost {
		return true
	}
	c.meet(set)
	hash := set.spec.Hash
	atRest := k.state.Stable == hash && k.state.Target == hash
	k.holds = !atRest && (!k.kept || k.state.Target != hash)
	if k.state.Stable == "" || k.state.Stable == hash && !k.state.Back {
		return true
	}
	c.follow(set)
	return true
}

// readCourse reads the kept state from the server: once in a term, when an answer was lost, and when another process has written
// the state. A watch may be behind what the last leader did.
func (c *controller) readCourse() {
	k := &c.course
	if k.read && c.w.bug != OwnStateStays && c.w.bug != TrustsWatch && k.overwritten(c.index.keeper) {
		k.read, k.unsure = false, true
	}
	if k.read && k.own != nil && c.index.keeper == nil {
		k.lost = k.state.Phase != rollout.Idle
		k.state, k.kept, k.own = rollout.State{Release: k.state.Release}, false, nil
	}
	if k.read {
		return
	}
	take := func(o *keeper) {
		c.index.putKeeper(o)
		if k.reached.nodes == nil {
			k.reached.nodes, k.limit = map[string]map[string]bool{}, c.w.bug == QuotaForgotten
		}
		k.read, k.unsure = true, false
		if k.own = c.index.keeper; k.own != nil {
			k.state, k.heeded, k.removals.Kept, k.lost = k.own.state, k.own.heeded, k.own.guard, false
		} else {
			k.lost = k.lost || k.kept && k.state.Phase != rollout.Idle
			k.state = rollout.State{Release: k.state.Release}
		}
		c.w.check.takes(c, k.own)
		switch c.w.bug {
		case GuardForgotten:
			k.removals.Kept = rollout.Guard{}
		case SoaksUnwatched:
			k.state.Soaked += 20 * time.Second
		}
		k.kept = k.state.Stable != ""
	}
	if c.w.bug == TrustsWatch {
		take(c.index.keeper)
		return
	}
	if k.reading {
		return
	}
	k.reading = true
	c.send(false, func() answer { return answer{keeper: c.w.api.keeper} }, func(a answer) {
		if k.reading = false; a.code != ok {
			c.wake(c.w.now + time.Second)
			return
		}
		take(a.keeper)
		c.touch()
	})
}

// meet handles a DaemonSet without a kept state, or with one from another time.
func (c *controller) meet(set *daemonSet) {
	k := &c.course
	stale := k.state.Phase == rollout.Idle && k.state.Target != set.spec.Hash
	taken := k.problem == rollout.NotDriven && k.state.Stable != set.spec.Hash
	if k.problem == rollout.NotObserved || k.state.Stable != "" && !stale && !taken {
		return
	}
	pods, exposed, _ := c.inUse(set)
	if _, all := pods[set.spec.Hash]; k.state.Stable != "" && !stale && (!all || len(pods) > 1) {
		return // the other controller has not given all nodes the target
	}
	if _, has := pods[k.state.Stable]; stale && k.state.Stable != "" && (has || len(pods) == 0) {
		return
	}
	first := rollout.First(set.spec.Hash, pods, exposed)
	if k.lost && c.w.bug != LostGoesOn {
		first = rollout.Lost(set.spec.Hash, pods, exposed)
	}
	first.Release += k.state.Release
	k.state, k.kept, k.lost = first, false, false
}

// inUse returns how many available pods each revision has, how many nodes have a pod of the template's revision, and how many
// have a live pod of another.
func (c *controller) inUse(set *daemonSet) (pods map[string]int, exposed, others int) {
	pods = map[string]int{}
	current, other := map[string]bool{}, map[string]bool{}
	for _, p := range c.index.pods {
		is := p.Hash == set.spec.Hash
		current[p.Node] = current[p.Node] || is
		if !p.Deleted.IsZero() {
			continue
		}
		pods[p.Hash] += 0
		if p.Ready && c.clock().Sub(p.ReadySince) >= set.spec.MinReady {
			pods[p.Hash]++
		}
		other[p.Node] = other[p.Node] || !is
	}
	for _, m := range []map[string]bool{current, other} {
		maps.DeleteFunc(m, func(_ string, is bool) bool { return !is })
	}
	return pods, len(current), len(other)
}

// follow sets the release that plan follows: that of the kept state, or, while the kept state is about another template, one in
// which nothing is granted.
func (c *controller) follow(set *daemonSet) {
	k, number := &c.course, c.course.state.Release
	if k.state.Target != set.spec.Hash {
		number++
	}
	stable := set.spec
	if c.w.sc.Assists {
		stable.Assists, stable.MaxSurge = true, plan.Amount{}
	} else {
		stable.Placement = c.w.sc.placement(k.state.Stable)
	}
	stable.Hash, stable.Generation, stable.Strategy = k.state.Stable, 0, plan.RollingUpdate
	c.rank(set, number, &stable.Placement)
	p := c.policy()
	r := &plan.Release{Number: number, Stable: stable, Ranks: map[string]int{}, StartWithin: p.Failure.StartWithin, Restarts: p.Failure.Restarts}
	for i, name := range k.layout.Order {
		r.Ranks[name] = i
	}
	for _, step := range k.layout.Steps {
		r.Steps = append(r.Steps, step.Quota)
	}
	if !k.holds {
		r.Quota, r.Back, r.Forgiven = k.layout.Quota(p, &k.state), k.state.Back, k.state.Forgiven
		r.Grants = k.state.Grants() && !k.stuck
		if k.limit {
			r.Quota = math.MaxInt32
		}
	}
	k.release = r
}

func (c *controller) policy() *rollout.Policy {
	if c.index.policy != nil && c.index.policy.wrong == rollout.NoReason {
		return &c.index.policy.is
	}
	p := rollout.Default()
	return &p
}

// rank computes the order of the nodes again when the last one is no longer valid.
func (c *controller) rank(set *daemonSet, number int, stable *plan.Placement) {
	k := &c.course
	from := ranking{release{k.keeper(), number}, c.index.policy, k.state.Stable, set.spec.Hash}
	if k.layout != nil && k.ranked == from && (k.changes == c.index.changes && !c.mends() || c.w.now-k.at < rollout.RankEvery) {
		return
	}
	var nodes []rollout.Node
	for _, n := range c.index.nodes {
		has, other, broken := false, false, false
		for _, p := range c.index.pods {
			if p.Node == n.Name {
				has = has || p.Hash == set.spec.Hash
				if p.Hash != set.spec.Hash && live(&p.Pod) {
					other, broken = true, broken || p.Hash != k.state.Stable && !p.Ready
				}
			}
		}
		b := c.backoff[n.Name]
		reached, failed := c.reachedWith(set)[n.Name] == number, b.Hash == set.spec.Hash && !b.Expired(c.clock())
		if has || reached || failed || set.spec.Placement.Admits(&n.Node).Run || stable.Admits(&n.Node).Run {
			down := !n.Ready || n.Leaving
			exposed := has || !other && (reached || failed) || reached && !down
			if c.w.sc.Assists {
				down = down && other && !has
				exposed = reached || broken && !down
			}
			nodes = append(nodes, rollout.Node{Name: n.Name, Labels: n.Labels, Exposed: exposed, Down: down})
		}
	}
	k.layout, k.ranked, k.at, k.changes = rollout.NewLayout(c.policy(), set.uid, nodes), from, c.w.now, c.index.changes
}

// looksAgain is how long a process sleeps at most while a release waits.
const looksAgain = 30 * time.Minute

// proceed advances the release after a decision. acts means that the decision may be carried out. waits means that the state is
// being written, and another decision follows.
func (c *controller) proceed(set *daemonSet) (acts, waits bool) {
	k, driven := &c.course, c.index.policy != nil
	if c.w.sc.Policy == nil {
		return true, false
	}
	acts = !k.holds || k.release != nil && k.stuck
	switch {
	case !driven && !k.read, driven && k.state.Stable == "":
		return acts, false
	case k.stuck && k.retryAt > c.w.now:
		c.wake(k.retryAt)
		return acts, false
	}
	if k.stuck {
		k.stuck = false
		c.touch() // nothing was granted in this decision: the next one may
	}
	in := c.seen(set)
	next, wake := step{state: rollout.State{Release: k.state.Release}, heeded: in.Requests}, time.Time{}
	if driven || k.state.Phase != rollout.Idle {
		next.state, wake = rollout.Advance(c.policy(), k.state, &in, c.clock())
		c.w.check.asked(c, &in, &next.state)
		if !driven && next.state.Phase == rollout.Idle {
			next.state.Reason = rollout.NoReason // it needs no policy from now on
		}
	}
	c.removing(&next)
	if in.Unwell {
		c.wake(c.w.now + rollout.KeepAgain)
	}
	if !wake.IsZero() { // a window may open tomorrow, which is after the end
		c.wake(min(wake.Sub(c.clock()), looksAgain) + c.w.now)
	}
	if k.layout != nil && k.release != nil && (k.changes != c.index.changes || c.mends()) {
		c.wake(k.at + rollout.RankEvery)
	}
	next.moved = !k.kept || !sameCourse(next.state, k.state) || len(next.lets) > 0 || (next.guard.Held > 0) != (k.removals.Kept.Held > 0)
	entry := c.index.keeper
	switch {
	case entry != nil && entry.state == next.state.Kept() && sameGuard(entry.guard, next.guard), entry == nil && !driven && !next.state.Unsure && next.guard.Held == 0:
		k.keeps(&next, c.clock())
	case !next.moved && c.w.now < k.wrote+rollout.CountEvery && c.w.bug != CountsAloud:
		k.state = next.state
		c.wake(k.wrote + rollout.CountEvery)
	default:
		return c.keep(&next, acts)
	}
	if next.moved {
		c.touch()
		return false, false
	}
	c.w.check.goesOn(c)
	return acts, false
}

func sameCourse(a, b rollout.State) bool {
	a, b = a.Kept(), b.Kept()
	a.Soaked = b.Soaked
	return a == b
}

// keeps records the state that is kept now.
func (k *course) keeps(s *step, now time.Time) {
	if k.state, k.heeded, k.removals.Kept, k.kept = s.state, s.heeded, s.guard, true; len(s.lets) > 0 {
		k.removals.Allow(s.lets, now)
	}
}

// keep writes the state over the version that it was computed from.
func (c *controller) keep(next *step, acts bool) (bool, bool) {
	k, version := &c.course, uint64(0)
	if c.index.keeper != nil {
		version = c.index.keeper.version
	}
	ended := func() {
		c.busy, c.again = false, false
		c.touch()
	}
	early := c.w.bug == ActsBeforeKept
	if early {
		k.keeps(next, c.clock())
	}
	c.busy, c.again = true, false
	sent := c.w.now
	c.w.check.writes(c, next)
	c.send(true, func() answer {
		c.w.check.wrote("state of a release")
		return c.w.api.keep(next.state.Kept(), next.guard, version)
	}, func(a answer) {
		switch k.stuck = false; a.code {
		case ok:
			c.index.putKeeper(a.keeper)
			k.keeps(next, c.clock())
			k.own = a.keeper
			c.w.check.told(c, next, sent)
			k.wrote, k.limit = c.w.now, k.limit && !next.moved
			ended()
		case conflict:
			c.send(false, func() answer { return answer{keeper: c.w.api.keeper} }, func(a answer) {
				switch {
				case a.code == ok && a.keeper == nil:
					c.index.keeper = nil
				case a.code == ok:
					c.index.putKeeper(a.keeper)
				default:
					k.stuck, k.retryAt = true, c.w.now+rollout.KeepAgain
				}
				ended()
			})
		default:
			k.stuck, k.retryAt = true, c.w.now+rollout.KeepAgain
			if a.code == unknown && c.w.bug != LostAnswerStays {
				k.read, k.unsure = false, true
			}
			ended()
		}
	})
	if early {
		c.busy = false
		if next.moved {
			c.touch()
		}
		return acts && !next.moved, false
	}
	return false, true
}

// seen returns the input of the release.
func (c *controller) seen(set *daemonSet) rollout.Seen {
	k, t := &c.course, &c.out.Exposure
	in := rollout.Seen{Target: set.spec.Hash, Exposed: t.Exposed, Well: t.Well, UnderWay: t.UnderWay, Failed: t.Failed, Refused: t.Refused, Other: t.Other, Stranded: t.Stranded,
		Bound: bound(c), Unwell: c.applier.resume > c.w.now, Layout: k.layout, Assists: c.w.sc.Assists, Problem: k.problem}
	switch p := c.index.policy; {
	case c.w.bug == NeedsNoPolicy:
	case p == nil:
		in.Problem = rollout.PolicyGone
	case p.wrong != rollout.NoReason && !c.w.sc.Assists: // see assist
		in.Problem = p.wrong
	}
	if c.w.bug == FailuresPass {
		in.Failed = 0
	}
	if s := &c.out.Status; k.release == nil && (k.holds || k.state.Reverting || s.Updated < s.Current) {
		_, _, in.Other = c.inUse(set)
	}
	if in.Layout != nil {
		in.Counts = make([]rollout.Counts, len(in.Layout.Steps))
		for i, n := range t.Reachable {
			in.Counts[i].Candidates = n
		}
	}
	if c.index.keeper != nil {
		in.Requests, in.Heeded = c.index.keeper.requests, k.heeded
		if c.w.bug == AnyRelease {
			in.Requests = anyRelease(in.Requests, k.state.Release)
		}
	}
	return in
}

// makes returns the revision of a pod that is to be created. replaces returns the revision of the pod that will replace one that
// is deleted.
func (k *course) makes(c *controller, set *daemonSet, n *plan.Create) string {
	if n.Stable && c.w.bug != TargetForNew {
		return k.release.Stable.Hash
	}
	return set.spec.Hash
}

func (k *course) replaces(set *daemonSet) string {
	if k.release != nil && k.release.Back {
		return k.release.Stable.Hash
	}
	return set.spec.Hash
}

// generation returns the generation of the template from which a create makes its pod. A template from the history has none.
func (w *write) generation() int64 {
	if w.hash != w.set.spec.Hash {
		return 0
	}
	return w.set.spec.Generation
}

// gains reports whether the write gives the node the template's revision.
func (w *write) gains() bool {
	return w.remove != nil && w.remove.Reaches || w.change != nil && w.change.Reaches || w.create != nil && w.hash == w.set.spec.Hash
}

func (ix *index) putPolicy(p *policy) {
	ix.policy = p
	ix.c.touch()
}

// dropKeeper forgets an object that is known to be gone since that version. It stays gone if the answer to an earlier write comes
// later.
func dropKeeper(ix *index, version uint64) {
	ix.keeperGone = version
	if ix.keeper != nil && ix.keeper.version <= version {
		ix.keeper = nil
		ix.c.touch()
	}
}

func (ix *index) putKeeper(o *keeper) {
	if o != nil && (ix.keeper == nil && o.version > ix.keeperGone || ix.keeper != nil && o.version > ix.keeper.version) {
		ix.keeper = o
		ix.c.touch()
	}
}
