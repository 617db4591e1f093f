package sim

import (
	"maps"
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// controller is one process that runs the algorithm, from its first list until it dies.
type controller struct {
	w       *world
	process int
	old     bool          // it is of a version that does not know changes in place
	ahead   time.Duration // how far its clock is ahead, fixed when it starts
	dead    bool
	lost    bool          // another process has its lease: it dies when it wakes up
	frozen  time.Duration // until then it does nothing
	crash   crash         // how it dies at its next write
	patient time.Duration // until then its writes may take delivery.SlowTimeout
	slow    int           // how many such writes are under way, or wait for the lease
	long    bool          // the lease covers them

	index    *index
	in       plan.Input
	out      plan.Plan
	hash     string // the revision that the last decision was about
	edition  int64  // the generation that it was about
	ledger   ledger
	backoff  map[string]plan.Backoff
	changed  map[string]time.Time // when a node was seen to change
	retries  map[slot]retry
	refusals refusals
	// announced is the set of pods that another controller deletes and whose end was counted.
	announced map[string]bool
	applier   applier
	course    course

	queued    bool          // a sync is on its way
	reading   bool          // the DaemonSet is being read from the server
	busy      bool          // a sync waits until the status is written
	again     bool          // something has changed meanwhile
	timer     time.Duration // the next sync by the clock; 0: none
	heldAt    time.Duration // since when a status waits for writes to end; 0: no status waits
	statusBad time.Duration // the pause after a status that could not be written
}

// crash is the point of a write at which a process dies.
type crash uint8

const (
	noCrash crash = iota
	beforeSending
	beforeAnswer
	afterAnswer
)

// launch starts a process.
func (w *world) launch() *controller {
	w.processes++
	c := &controller{w: w, process: w.processes, old: w.old, ahead: w.clocks["engine"],
		backoff: map[string]plan.Backoff{}, changed: map[string]time.Time{}, retries: map[slot]retry{}, announced: map[string]bool{}}
	c.index = newIndex(c)
	c.applier = applier{c: c, window: delivery.FirstWindow, overQuota: map[string]bool{}}
	w.controllers = append(w.controllers, c)
	w.tracef("ctl %d    starts", c.process)
	for r := range resources {
		if w.sc.Policy != nil || r != policies && r != rollouts {
			w.api.open(c, r)
		}
	}
	return c
}

// die ends the process at once. The requests that it has sent stay on their way.
func (c *controller) die() {
	if c.dead {
		return
	}
	c.w.tracef("ctl %d    dies", c.process)
	c.dead = true
	c.w.api.close(c)
	c.w.controllers = slices.DeleteFunc(c.w.controllers, func(o *controller) bool { return o == c })
}

// later runs do after d, if the process is alive and awake then.
func (c *controller) later(d time.Duration, do func()) {
	c.w.after(d, func() {
		switch {
		case c.dead:
		case c.frozen > c.w.now:
			c.later(c.frozen-c.w.now, do)
		default:
			do()
		}
	})
}

// touch schedules a sync, because something has changed.
func (c *controller) touch() {
	switch {
	case c.busy:
		c.again = true
	case !c.queued:
		c.queued = true
		c.later(c.w.between(0, 10*time.Millisecond), c.sync)
	}
}

// wake makes sure that a sync happens at that time.
func (c *controller) wake(at time.Duration) {
	at = max(at, c.w.now+time.Millisecond)
	if c.timer != 0 && c.timer <= at {
		return
	}
	c.timer = at
	c.later(at-c.w.now, func() {
		if c.timer == at {
			c.timer = 0
			c.touch()
		}
	})
}

// sync gathers, decides and acts.
func (c *controller) sync() {
	c.queued = false
	if c.busy {
		c.again = true
		return
	}
	if !c.index.ready() {
		return
	}
	c.applier.withdraw()
	set := c.index.set
	if c.w.sc.Assists {
		if set = c.assist(set); set == nil {
			return
		}
	}
	if !c.steer(set) {
		return // the kept state of the release is being read
	}
	c.decide(set)
	acts, waits := c.proceed(set)
	if waits {
		return
	}
	if acts {
		if c.w.sc.Assists {
			c.w.check.doesBeside(c, set)
		}
		c.submit(set)
	}
	c.report(set)
}

func (c *controller) decide(set *daemonSet) {
	ix, in := c.index, &c.in
	in.Now, in.Set = c.clock(), c.specify(set.spec)
	in.Set.InPlace = c.changeable(set.spec.Hash)
	in.Gone = ix.gone()
	in.Nodes = in.Nodes[:0]
	for _, n := range ix.nodes {
		if !in.Gone[n.Name] {
			known := n.Node
			known.Changed = c.changed[n.Name]
			in.Nodes = append(in.Nodes, known)
		}
	}
	in.Pods = in.Pods[:0]
	for _, p := range ix.pods {
		// A pod that the departed node did not leave behind may run on a new node of that name.
		if !in.Gone[p.Node] || ix.departed[p.Node][p.UID] || c.w.bug == GoneTakesAll {
			seen := p.Pod
			seen.Left = ix.leftBehind(p) && c.w.bug != LeftStays
			seen.Unchangeable = seen.Unchangeable || ix.unfit[p.UID]
			in.Pods = append(in.Pods, seen)
		}
	}
	in.Pods = append(in.Pods, c.applier.overlay(in.Pods, in.Now)...)
	c.tellNewer(set)
	c.w.rng.Shuffle(len(in.Pods), func(i, j int) { in.Pods[i], in.Pods[j] = in.Pods[j], in.Pods[i] })
	c.edited(set)
	c.remember(in)
	c.endedBeside(in.Pods)
	in.Backoff, in.Waits, in.Left = c.backoff, c.waiting(), map[string]bool{}
	for name := range ix.left {
		in.Left[name] = true
	}
	in.Release, in.Reached = c.course.release, c.reachedWith(set)
	in.Refused = c.refusals.known(c)
	if r := in.Release; r != nil {
		r.Stable.InPlace = c.changeable(r.Stable.Hash)
	}
	in.Guard = c.course.removals.Guard()
	if c.w.bug == LeaksFree && in.Release != nil {
		in.Release.Quota += c.out.Exposure.Leaked
	}
	c.w.bug.corrupt(in)
	plan.Make(in, &c.out)
	if c.ledger.follow(in); c.ledger.differs(&c.out) {
		c.w.fail("ledger: it says creates on %d nodes, deletes on %d, changes on %d and %+v", len(c.ledger.creates), len(c.ledger.deletes), len(c.ledger.changes), c.ledger.kept.Status())
	}
	switch {
	case c.w.sc.Assists: // judged when it is done
	case c.w.sc.Policy != nil:
		c.w.check.decidedInRelease(c, set)
	default:
		c.w.check.decided(c, set)
	}
	if c.w.trace != nil {
		c.w.tracef("ctl %d    decides on %s: %d creates, %d deletes, %d changes", c.process, set.spec.Hash, len(c.out.Creates), len(c.out.Deletes), len(c.out.Changes))
	}
}

// remember adds what is known about nodes where pods end, or do not last.
func (c *controller) remember(in *plan.Input) {
	if c.hash != in.Set.Hash {
		c.hash = in.Set.Hash
		for node, b := range c.backoff {
			b.Remakes = plan.Remakes{}
			c.backoff[node] = b
		}
	}
	on := map[string][]*plan.Pod{}
	for i := range in.Pods {
		on[in.Pods[i].Node] = append(on[in.Pods[i].Node], &in.Pods[i])
	}
	for node, pods := range on {
		c.refusals.notice(node, pods)
	}
	for node, b := range c.backoff {
		if !b.Remakes.Expired(in.Now) {
			b.Remakes = b.Remakes.Noticed(on[node], in.Now)
			c.backoff[node] = b
		}
	}
	maps.DeleteFunc(c.backoff, func(_ string, b plan.Backoff) bool { return b.Expired(in.Now) && b.Remakes.Expired(in.Now) })
}

// made records that a pod was created.
func (c *controller) made(w *write) {
	if c.w.bug == NoRemakes || w.set.spec.Hash != c.hash {
		return
	}
	b := c.backoff[w.create.Node]
	b.Remakes = b.Remakes.Next(c.clock())
	c.backoff[w.create.Node] = b
}

// recall handles a create that was under way for longer than a pod must live to count as lasting.
func (c *controller) recall(w *write, made bool) {
	b := c.backoff[w.create.Node]
	if w.remade.Last.IsZero() || w.set.spec.Hash != c.hash || !b.Remakes.Expired(c.clock()) || c.w.bug == NoRemakes {
		return
	}
	b.Remakes = w.remade.Recalled(made, c.clock())
	c.backoff[w.create.Node] = b
}

// tellNewer marks the pods of templates that are newer than the set. A live read then fetches a set that is as
// new as they are (I13).
func (c *controller) tellNewer(set *daemonSet) {
	newer := false
	for i := range c.in.Pods {
		p := &c.in.Pods[i]
		p.Newer = p.Generation > set.spec.Generation && c.w.bug != NoNewer
		newer = newer || p.Newer
	}
	if !newer || c.reading {
		return
	}
	c.reading = true
	c.send(false, func() answer { return answer{set: c.w.api.set} }, func(a answer) {
		c.reading = false
		if a.code == ok {
			c.index.putSet(a.set)
		} else {
			c.wake(c.w.now + time.Second)
		}
	})
}

// submit hands the acts to the applier.
func (c *controller) submit(set *daemonSet) {
	var writes []*write
	plain := c.index.policy == nil || c.course.release == nil && !c.knowsOthers(set.spec.Hash)
	for _, d := range c.out.Deletes {
		if d.UID != "" && !c.waits(d.Node, d.Act()) {
			p := c.index.pod(d.UID)
			writes = append(writes, &write{owner: c, set: set, plain: plain, guarded: c.guarded(p, d.Reason), hash: c.course.replaces(set), remove: &d,
				version: c.premise(d), ready: p != nil && p.Ready, rests: p})
		}
	}
	for _, d := range c.out.Changes {
		if p := c.index.pod(d.UID); p != nil && !c.waits(d.Node, d.Act()) {
			w := &write{owner: c, set: set, plain: plain, hash: set.spec.Hash, change: &d, ready: p.Ready, rests: p}
			if d.Stable {
				w.hash = c.course.release.Stable.Hash
			}
			writes = append(writes, w)
		}
	}
	for _, n := range c.out.Creates {
		if c.waits(n.Node, plan.Act{Kind: plan.Creating}) {
			continue
		}
		w := &write{owner: c, set: set, plain: plain, hash: c.course.makes(c, set, &n), create: &n}
		if r := c.backoff[n.Node].Remakes; !r.Expired(c.clock()) {
			w.remade = r
		}
		for i := range c.in.Pods {
			if c.in.Pods[i].Node == n.Node {
				p := &c.in.Pods[i]
				w.known = append(w.known, p.UID)
				w.succeeds = w.succeeds || p.Hash != w.hash && live(p)
			}
		}
		w.had = c.w.check.had(c, n.Node, w.hash)
		writes = append(writes, w)
	}
	for _, w := range writes {
		w.keeper = c.course.keeper()
	}
	c.applier.submit(writes)
}

// guarded reports whether a guard covers a pod, as the process must know when it decides to delete it for that reason. It
// does not cover pods that do not tolerate a taint. A policy that was deleted is restored when everything is repaired.
func (c *controller) guarded(p *pod, why plan.Reason) bool {
	if why == plan.TaintEvicts && p != nil && len(c.w.sc.placement(p.Hash).Tolerations) == 0 {
		return false
	}
	o := c.w.api.keeper
	if c.w.check.lax {
		o = c.index.keeper // another process may have kept it just now
	}
	held := o != nil && o.guard.Held > 0
	return !goesBack(c, p) && (c.course.removals.Guard() != nil || held || c.w.api.policy != nil && !c.w.healed)
}

// premise returns the version that a pod must still have when it is deleted; 0: any.
func (c *controller) premise(d plan.Delete) uint64 {
	if c.w.bug == NoPremise || d.Reason != plan.Outdated && d.Reason != plan.Surged && d.Reason != plan.TaintNotTolerated {
		return 0
	}
	p := c.index.pod(d.UID)
	if p == nil {
		return 0
	}
	return p.version
}

// report writes the status if it has changed, and plans the next sync.
func (c *controller) report(set *daemonSet) {
	if at := c.out.WakeAt; !at.IsZero() {
		c.wake(at.Sub(c.clock()) + c.w.now)
	}
	if at := c.nextRetry(); at > 0 {
		c.wake(at)
	}
	if c.w.sc.Assists {
		return // it is the other controller's
	}
	if set.status == c.out.Status && set.observed == set.generation {
		c.heldAt = 0
		return
	}
	if due := c.statusDue(set); due > c.w.now {
		c.wake(due)
		return
	}
	c.heldAt = 0
	c.busy = true
	c.writeStatus(set, set.generation, delivery.StatusTries)
}

// statusDue holds back a status while writes are under way.
func (c *controller) statusDue(set *daemonSet) time.Duration {
	s := c.out.Status
	settled := s.Updated == s.Desired && s.Available == s.Desired && s.Current == s.Desired &&
		c.idle()
	switch {
	case settled, set.observed != set.generation, len(c.applier.started) == 0:
		return 0
	case c.heldAt == 0:
		c.heldAt = c.w.now
	}
	return c.heldAt + delivery.StatusHold
}

func (c *controller) writeStatus(base *daemonSet, generation int64, tries int) {
	status := c.out.Status
	c.send(true, func() answer {
		c.w.check.wrote("status")
		return c.w.api.writeStatus(status, generation, base.version)
	}, func(a answer) {
		switch {
		case a.code == ok:
			c.reported(a.set, true)
		case a.code == conflict && tries > 1:
			c.send(false, func() answer { return answer{set: c.w.api.set} }, func(a answer) {
				if a.code != ok {
					c.reported(nil, false)
				} else if a.set.status == status && a.set.observed == generation {
					c.reported(a.set, true)
				} else {
					c.writeStatus(a.set, generation, tries-1)
				}
			})
		default:
			c.reported(nil, false)
		}
	})
}

// reported ends a sync that has waited for its status.
func (c *controller) reported(set *daemonSet, good bool) {
	c.busy = false
	if set != nil {
		c.index.putSet(set)
	}
	if good {
		c.statusBad = 0
	} else {
		c.statusBad = min(max(2*c.statusBad, 100*time.Millisecond), delivery.MaxRetry)
		c.wake(c.w.now + c.statusBad)
	}
	if c.again {
		c.again = false
		c.touch()
	}
}

// settleLingering reads pods whose own write the watch should have shown long ago.
func (c *controller) settleLingering() {
	for _, p := range c.index.late() {
		c.send(false, func() answer { return c.w.api.get(p.Name) }, func(a answer) {
			switch {
			case a.code == notFound, a.code == ok && a.pod.UID != p.UID:
				c.index.bury(p.UID)
			case a.code == ok:
				c.index.assume(a.pod)
			}
		})
	}
	if len(c.index.ahead) > 0 {
		c.later(delivery.LingerAfter, c.settleLingering)
	}
}

// farewell confirms that a node whose deletion a watch has shown is gone.
func (c *controller) farewell(n *node, pods []string) {
	if len(pods) == 0 {
		return
	}
	if c.w.bug == NoLiveNode {
		c.index.depart(n.Name, c.legacy(nil, pods))
		return
	}
	c.confirm(n, pods, 50*time.Millisecond)
}

func (c *controller) confirm(n *node, pods []string, pause time.Duration) {
	c.send(false, func() answer { return c.w.api.getNode(n.Name) }, func(a answer) {
		switch {
		case a.code != ok:
			c.later(pause, func() { c.confirm(n, pods, min(2*pause, 5*time.Second)) })
		case a.node == nil || a.node.UID != n.UID:
			c.index.depart(n.Name, c.legacy(a.node, pods))
		}
	})
}

// legacy returns which of the pods that were known on a deleted node did run on it, and not on the node that has
// its name now (nil: there is none): they were bound before the new node came. The age of a pod does not show
// this if the scheduler binds it.
func (c *controller) legacy(now *node, uids []string) (left []string) {
	for _, uid := range uids {
		p := c.index.pod(uid)
		if c.w.bug == GoneTakesAll || p != nil && p.Bound &&
			(now == nil || !p.made.create.ByScheduler && p.Created.Before(now.joined)) {
			left = append(left, uid)
		}
	}
	return left
}
