package sim

// The model controller beside the DaemonSet controller of the cluster, as package engine's assist.go has it.

import (
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// assist returns the DaemonSet to decide on, at the revision from which the other controller makes pods. It is nil if
// there is nothing to decide, or that revision is not known yet.
func (c *controller) assist(set *daemonSet) *daemonSet {
	k, ix := &c.course, c.index
	if !k.read && !k.unsure && ix.keeper == nil && ix.policy == nil {
		return nil
	}
	if c.readCourse(); !k.read {
		return nil
	}
	hash, due := c.observed(set)
	switch {
	case due > 0:
		c.wake(due)
		return nil
	case hash == "":
		c.unnoticed()
		return nil
	}
	k.problem = rollout.NoReason
	switch {
	case ix.policy == nil:
	case k.behind != 0:
		k.problem = rollout.NotObserved
	case set.spec.Strategy != plan.OnDelete && c.w.bug != DrivesAll:
		k.problem = rollout.NotDriven
	default:
		k.problem = ix.policy.wrong
	}
	as := *set
	as.spec.Hash = hash
	return &as
}

// observed returns the revision from which the other controller makes pods; empty if none is known. While that
// controller has not observed the last change, it is the one before, once that is due.
func (c *controller) observed(set *daemonSet) (hash string, due time.Duration) {
	k := &c.course
	if set.observed >= set.generation || c.w.bug == NotNoticed {
		k.behind = 0
		return set.spec.Hash, 0
	}
	if k.behind == 0 {
		k.behind = c.w.now
	}
	if due := k.behind + rollout.NoticeWithin; due > c.w.now {
		return "", due
	}
	return k.state.Target, 0
}

// unnoticed handles the case that the other controller has not observed a DaemonSet for which no revision is kept.
func (c *controller) unnoticed() {
	k, ix := &c.course, c.index
	next := step{state: rollout.State{Release: k.state.Release}}
	if ix.policy != nil {
		next.state.Phase, next.state.Reason = rollout.Held, rollout.NotObserved
	}
	switch {
	case ix.keeper == nil && ix.policy == nil, ix.keeper != nil && ix.keeper.state == next.state:
	case k.stuck && k.retryAt > c.w.now:
		c.wake(k.retryAt)
	default:
		c.keep(&next, false)
	}
}

// specify returns the specification that plan works with. A policy also drives OnDelete.
func (c *controller) specify(spec plan.Spec) plan.Spec {
	k, rests := &c.course, c.rests(spec.Hash)
	leaves := c.w.sc.Assists && spec.Strategy != plan.OnDelete && c.w.bug != DrivesAll
	spec.Patient = c.atRest(spec.Hash)
	if c.w.sc.Assists {
		spec.Assists, spec.MaxSurge, spec.Strategy = c.w.bug != TakesOver, plan.Amount{}, plan.OnDelete
	}
	switch {
	case spec.Strategy == plan.OnDelete && c.w.bug == LeavesOnDelete:
		return spec
	case k.release != nil:
	case rests:
		spec.Strategy = plan.OnDelete
		return spec
	case leaves, k.problem == rollout.NotDriven, k.behind != 0, !k.state.Reverting && (c.index.policy == nil || k.problem != rollout.NoReason || k.state.Stable == ""):
		return spec
	}
	spec.Strategy = plan.RollingUpdate
	return spec
}

// rests reports whether, by what the process knows, nodes that have missed a release wait and must make pauses.
func (c *controller) rests(hash string) bool { return c.pauses(hash) && c.w.bug != PauseForgotten }

func (c *controller) pauses(hash string) bool {
	ix := c.index
	return c.atRest(hash) && ix.keeper != nil && ix.policy.is.Rests(&ix.keeper.requests, c.clock()) != rollout.NoReason
}

// atRest reports whether a policy has released the revision to all nodes but those that have missed it.
func (c *controller) atRest(hash string) bool {
	k := &c.course
	p := c.index.policy
	return p != nil && p.wrong == rollout.NoReason && k.problem == rollout.NoReason && k.state.Stable == hash && k.state.Target == hash && !k.state.Reverting
}

// mends reports whether the order depends on pods: those of abandoned versions, and those of the target that others have created
// out of turn.
func (c *controller) mends() bool {
	e := &c.out.Exposure
	return c.w.sc.Assists && c.course.state.Grants() && e.Other+e.Leaked > 0
}

// endedBeside records pods that have ended, which the other controller replaces.
func (c *controller) endedBeside(pods []plan.Pod) {
	if !c.w.sc.Assists {
		return
	}
	for i := range pods {
		p := &pods[i]
		if p.Phase != plan.Failed && p.Phase != plan.Succeeded || !p.Deleted.IsZero() || c.announced[p.UID] {
			continue
		}
		c.announced[p.UID] = true
		c.backoff[p.Node] = c.backoff[p.Node].After(plan.Delete{Node: p.Node, Pod: p.Name, UID: p.UID, Hash: p.Hash,
			Created: p.Created, SeenCreated: p.SeenCreated, Reason: plan.PodFailed}, c.clock())
	}
}

// grant is a node that the model controller has given the target of a release.
type grant struct {
	release release
	node    string
}

// doesBeside checks what is about to be done beside another controller. Nothing may be created. Only outdated pods of
// a DaemonSet that leaves updates to a policy may go, within the quota minus the nodes that are known to have the
// target (R1), and within the budget (R9).
func (k *checker) doesBeside(c *controller, set *daemonSet) {
	if n := len(c.out.Creates); n > 0 {
		k.w.fail("assist: a pod is to be created on %s", c.out.Creates[0].Node)
	}
	if len(c.out.Deletes) == 0 {
		return
	}
	k.survey(c, set)
	k.judgeAvailable(c)
	b := k.balance(c, set, func(_ *controller, _ *daemonSet, p *place) bool { return !p.node.Ready || !p.fit.run })
	exposed, quota := 0, k.quotas[release{c.course.keeper(), c.course.state.Release}]
	for i := range k.places {
		p := &k.places[i]
		exposed += p.fit.count(p.node != nil && (p.has(set.spec.Hash) || p.live == 0 && p.fit.run))
	}
	for i := range c.out.Deletes {
		d := &c.out.Deletes[i]
		at, p := k.place(d.Node), c.index.pod(d.UID)
		switch {
		case at == nil || at.node == nil || p == nil || !live(&p.Pod), d.Reason != plan.Outdated, isCurrent(&set.spec, p):
			k.w.fail("assist: %s is to be deleted (%s), which is the other controller's to do", d.Pod, d.Reason)
			return
		case set.spec.Strategy != plan.OnDelete:
			k.w.fail("assist: %s is to be deleted, and the DaemonSet does not leave that to a policy", d.Pod)
		case set.observed < set.generation:
			k.w.fail("assist: %s is to be deleted before the other controller has observed %s", d.Pod, set.spec.Hash)
		case c.course.release == nil && !c.course.state.Reverting && (c.index.policy == nil || c.course.problem != rollout.NoReason || c.course.state.Stable != set.spec.Hash):
			k.w.fail("assist: %s is to be deleted, and no policy drives the DaemonSet", d.Pod)
		case c.pauses(set.spec.Hash):
			k.w.fail("R4: %s is to be deleted after the release, in a pause", d.Pod)
		case c.course.release != nil && !d.Reaches:
			k.w.fail("assist: %s is to be deleted, and its node does not count as reached", d.Pod)
		case !c.course.state.Reverting && (!at.node.Ready || at.node.Leaving):
			k.w.fail("assist: %s is to be deleted on %s, which is down or leaves", d.Pod, d.Node)
		}
		if exposed++; d.Reaches && exposed > quota {
			k.w.fail("R1: %s is to get %s as one of %d nodes that are known to have it; the quota that is kept is %d", d.Node, set.spec.Hash, exposed, quota)
		}
		if !k.available(c, set, p) {
			continue
		}
		if b.down++; b.down > b.maxUnavailable {
			k.w.fail("R9: %s is available and is to be deleted; that makes %d down of at most %d", p.Name, b.down, b.maxUnavailable)
		}
	}
}

// has reports whether a pod of the revision is known on the node, in whatever state.
func (at *place) has(hash string) bool {
	for _, p := range at.pods {
		if p.Hash == hash {
			return true
		}
	}
	return false
}

// granted reports whether the node truly has the target of the release, or has nothing, because of the model
// controller. What the other controller has given a node is a leak.
func (k *checker) granted(n *node, hash string, r release) bool {
	if k.grants[grant{r, n.Name}] != n.UID {
		return false
	}
	has, alive := false, false
	k.w.api.on(n.Name, func(p *pod) {
		has, alive = has || p.Hash == hash, alive || live(&p.Pod)
	})
	return has || !alive && permits(&k.w.api.set.spec.Placement, &n.Node).run
}
