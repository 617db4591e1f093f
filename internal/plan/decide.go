package plan

import (
	"slices"
	"time"
)

// candidate is what a verdict's last write costs, if anything.
type candidate uint8

const (
	fixed   candidate = iota // nothing waits for Roll
	replace                  // the last delete, or the change, makes the node unavailable
	recycle                  // the last delete, or the change, takes a ready pod from a node that is down anyway
	surge                    // the last create makes the node hold two pods
	leave                    // the last delete takes an available pod from a node that should have none
	expose                   // all writes together give a node that is down the target of a release
	drop                     // all writes together take the pod from a node that the target is not for
	kinds                    // the number of kinds
)

// decision is what is done about a site: the steps that make up its verdict.
type decision struct {
	*site
	v *Verdict
}

// decide names the reason and the acts.
func (d decision) decide() {
	d.clear()
	if d.newer != nil {
		// It is not known what the node should have, so it is not known whether it may keep the pod.
		d.v.Reason, d.v.Detail = NewerTemplate, d.newer.Name
		return
	}
	if !d.fit.Keep {
		d.evict()
		return
	}
	if len(d.left) > 0 {
		d.v.Reason, d.v.Detail = NodeReplaced, d.left[0].Name
		return
	}
	if d.uncertain != nil {
		// The last write on this node may or may not have happened. Another write on top of it could leave two pods, or
		// none.
		d.v.Reason, d.v.Detail = Unconfirmed, d.uncertain.Name
		return
	}
	d.retire()
	switch {
	case d.live == 0:
		d.fill()
	case d.prune():
		d.v.Reason, d.v.Detail = Duplicate, d.v.Pod
	case d.old == nil:
		d.settle(d.cur)
	case d.cur != nil && !d.idle(d.cur):
		d.handOver()
	default:
		d.renew()
	}
}

// clear deletes the pods that an earlier node of this name has left. No kubelet will confirm that, so none is waited
// for. The node's own pod is created afterwards, since its kubelet would otherwise run the leftover pod.
func (d decision) clear() {
	for _, p := range slices.Backward(d.left) {
		if !p.Uncertain {
			d.remove(p, NodeReplaced)
			d.v.deletes[len(d.v.deletes)-1].Now = true
		}
	}
}

// evict deletes everything from a node that may not hold a pod (I3). It does not wait for budget or back-off: the pod
// does not belong there. Only the guard can hold a running pod.
func (d decision) evict() {
	d.v.Reason, d.v.Detail = d.fit.Reason, d.fit.Detail
	if d.guard(fixed) {
		d.v.Reason = HeldByGuard
	}
	for _, p := range slices.Backward(d.pods) {
		if p.Deleted.IsZero() && !p.Uncertain && !(d.v.guarded && d.runs(p)) {
			d.remove(p, d.fit.Reason)
		}
	}
}

// retire deletes pods that have ended, unless the back-off holds them. The back-off keeps a pod that fails at once from
// becoming a loop of creates and failures; an outdated pod cannot be part of such a loop.
func (d decision) retire() {
	until := d.backoff.ends()
	held := !d.backoff.Expired(d.in.Now) && until.After(d.in.Now)
	for _, p := range slices.Backward(d.pods) {
		switch {
		case !p.ended() || !p.Deleted.IsZero():
		case held && !(d.rolls() && !d.current(p)):
			d.v.wake(until, d.in.Now)
		default:
			d.remove(p, endReason(p))
		}
	}
}

func endReason(p *Pod) Reason {
	switch {
	case p.Phase == Succeeded:
		return PodSucceeded
	case p.Refused:
		return PodRefused
	default:
		return PodFailed
	}
}

func (s *site) rolls() bool  { return s.set.Strategy == RollingUpdate }
func (s *site) surges() bool { return s.set.Surges() }

// fill handles a node without a live pod. The successor of a pod that ended is created when that pod is deleted.
// Without surge, it also waits until a terminating pod is gone (I1); with surge, two pods side by side are allowed.
func (d decision) fill() {
	switch {
	case !d.fit.Run:
		d.v.Reason, d.v.Detail = d.fit.Reason, d.fit.Detail
	case d.ended != nil:
		d.await(d.ended)
	case d.ending != nil && !d.surges():
		d.v.Reason, d.v.Detail = WaitingForTermination, d.ending.Name
	case d.pauses():
	default:
		d.create(Missing)
		d.v.Reason = d.v.creates[0].Reason
	}
}

// pauses reports whether no pod is created for a while, because the previous ones did not last.
func (d decision) pauses() bool {
	until := d.backoff.Remakes.ends(d.node)
	if !until.After(d.in.Now) {
		return false
	}
	d.v.Reason = PodsDoNotLast
	if by := d.backoff.Remakes.By; by != Unannounced {
		d.v.Detail = "by " + by.String()
	}
	d.v.wake(until, d.in.Now)
	return true
}

// await handles a pod that has ended: it is being deleted, or left for a while. Its successor is created after that.
func (d decision) await(p *Pod) {
	d.v.Reason, d.v.Detail = BackingOff, p.Name
	for _, gone := range d.v.deletes {
		if gone.Pod == p.Name {
			d.v.Reason = gone.Reason
		}
	}
}

// prune deletes surplus pods: all but the first of the node, or with surge all but the first old and the first current
// one. Updating waits until that is done.
func (d decision) prune() (pruned bool) {
	spare := d.old != nil && d.cur != nil && d.surges()
	if d.live == 1 || d.live == 2 && spare {
		return false
	}
	keep, also := d.old, d.cur
	if !spare {
		keep, also = d.first(), nil
	}
	for _, p := range slices.Backward(d.pods) {
		if p.live() && p != keep && p != also {
			d.remove(p, Duplicate)
		}
	}
	return true
}

// first is the live pod that comes first in keepOrder.
func (s *site) first() *Pod {
	if i := slices.IndexFunc(s.pods, (*Pod).live); i >= 0 {
		return s.pods[i]
	}
	return nil
}

// settle gives the reason for a node whose pod is of the current revision.
func (d decision) settle(p *Pod) {
	switch {
	case !d.fit.Run:
		d.keep(p)
	default:
		d.v.Reason = d.progress(p)
	}
}

// keep gives the reason for a pod that stays on a node which starts none.
func (d decision) keep(p *Pod) {
	d.v.Reason, d.v.Detail = TaintKeepsPod, d.fit.Detail
	if d.idle(p) {
		d.v.Reason = TaintNotTolerated
	}
}

// progress returns how far a live pod has come.
func (s *site) progress(p *Pod) Reason {
	switch {
	case s.available(p):
		return UpToDate
	case p.Ready && p.Changing:
		return ChangingInPlace
	case p.Ready:
		return MinReadyWait
	case !p.Bound:
		return WaitingForScheduler
	case p.WasReady:
		return NotReady
	default:
		return Starting
	}
}

// handOver handles an old pod beside a current one, with surge: the old pod goes when the current one is available, or
// when it does not serve itself.
func (d decision) handOver() {
	switch {
	case d.available(d.cur):
		d.v.Reason = Surged
		d.remove(d.old, Surged)
	case !d.old.Ready:
		d.v.Reason = d.progress(d.cur)
		d.remove(d.old, Outdated)
	default:
		d.v.Reason = d.progress(d.cur)
	}
}

// renew handles a node with one live pod, which is outdated.
//
// A pod that is not ready is replaced at once: it is already down, so the budget counts it in any case, and waiting
// would let a bad update block the good one that follows it. A pod that is ready, but not yet for MinReady, also counts
// as down, yet it serves. It goes only while the budget allows (Roll). Otherwise all such pods would go at once when
// MinReady is raised, when all have just come back, or when an engine has just started and has not seen since when they
// are ready. For the same reason the successor of a ready pod takes a slot of MaxSurge, and a ready pod that has to
// leave does so only while others serve.
//
// A node that only keeps its pod is not updated: the successor would not be started, and NoSchedule lets running pods
// stay. With surge the pod leaves, since there an update must not reduce the number of available pods, but only while
// that costs no availability (Roll), and while no guard holds it.
func (d decision) renew() {
	p := d.old
	switch {
	case !d.rolls():
		d.v.Reason, d.v.Detail = WaitingForDeletion, p.Name
	case d.set.Patient && (!d.node.Ready || d.node.Leaving):
		d.v.Reason, d.v.Detail = AwaitsWave, "its node is not back yet"
	case !d.fit.Run && !d.surges():
		d.keep(p)
	case !d.fit.Run && p.Ready && d.guard(leave):
		d.v.Reason, d.v.Detail = d.held(TaintKeepsPod), d.fit.Detail
	case !d.fit.Run && !p.Ready && d.guard(fixed):
		d.v.Reason, d.v.Detail = HeldByGuard, d.fit.Detail
	case !d.fit.Run && p.Ready:
		d.v.Reason, d.v.Detail, d.v.candidate = TaintKeepsPod, d.fit.Detail, leave
		d.remove(p, TaintNotTolerated)
	case !d.fit.Run:
		d.v.Reason, d.v.Detail = TaintNotTolerated, d.fit.Detail
		d.remove(p, TaintNotTolerated)
	case d.surges() && d.failing != nil:
		d.await(d.failing) // it failed beside the old one
	case d.surges() && d.pauses():
	case d.surges():
		d.create(Surge)
		d.v.Reason = d.v.creates[0].Reason
		if p.Ready {
			d.v.Reason, d.v.candidate = BudgetSpent, surge
		}
	case d.available(p):
		d.revise(p)
		d.v.Reason, d.v.candidate = BudgetSpent, replace
	case p.Ready:
		d.revise(p)
		d.v.Reason, d.v.candidate = BudgetSpent, recycle
	default:
		d.revise(p)
	}
}

// revise makes the pod one of the current revision where it runs, or deletes it for one to come.
func (d decision) revise(p *Pod) {
	if at, doubtful := d.in.doubtEnds(p); doubtful {
		d.v.wake(at, d.in.Now)
	}
	if !d.changeable(p) {
		d.v.Reason = Outdated
		d.remove(p, Outdated)
		return
	}
	d.v.Reason = OutdatedInPlace
	d.v.changes = append(d.v.changes, Change{Node: d.v.Node, Pod: p.Name, UID: p.UID, From: p.Hash, Stable: d.set != &d.in.Set, Reason: OutdatedInPlace})
}

// changeable reports whether the pod can be changed in place to the current revision. Its kubelet must be reachable to do
// that: otherwise nothing would happen before the node is back, while a deleted pod shows whether the node's trouble is
// older than the update (I5). And no change may be under way: the kubelet may finish what it has begun for that change
// after the next one, and nobody could tell the two apart (P3).
func (s *site) changeable(p *Pod) bool {
	_, doubtful := s.in.doubtEnds(p)
	return s.set.InPlace[p.Hash] && s.node.Ready && p.Bound && p.Phase == Running && !p.Unchangeable && !doubtful
}

// doubtEnds reports whether a ready pod may still be ready because of its containers from before its last change, and until
// when; zero: not known.
func (in *Input) doubtEnds(p *Pod) (at time.Time, doubtful bool) {
	switch {
	case !p.Ready || !p.Changing:
		return time.Time{}, false
	case p.Settles <= 0 || p.ReadySince.IsZero():
		return time.Time{}, true
	}
	at = p.ReadySince.Add(p.Settles)
	return at, at.After(in.Now)
}

func (d decision) remove(p *Pod, why Reason) {
	gone := Delete{Node: d.v.Node, Pod: p.Name, UID: p.UID, Reason: why, Waited: !p.Bound, Hash: p.Hash, Created: p.Created, SeenCreated: p.SeenCreated}
	if d.current(p) {
		gone.Hash = d.set.Hash // by its generation, if not by its label
	}
	d.v.deletes = append(d.v.deletes, gone)
}

// create sets the pod's predecessor and who binds it. If the kubelet refused the last pod, or it was never bound, the
// next one would be refused as well. So it goes to the scheduler, which waits for what is missing. The engine binds
// again after the first pod that is bound there and not refused.
func (d decision) create(why Reason) {
	c := Create{Node: d.v.Node, NodeUID: d.node.UID, Reason: why, ByScheduler: d.set.Scheduled, Stable: d.set != &d.in.Set}
	b, p := &d.backoff, d.predecessor
	switch {
	case b.Pod != "" && (p == nil || !b.Created.Before(p.Created)):
		c.Predecessor = b.Pod
	case p != nil:
		c.Predecessor = p.UID
	}
	if !c.ByScheduler && b.handed(d.newest) {
		c.ByScheduler, c.Reason = true, PodRefused
	}
	d.v.creates = append(d.v.creates, c)
}
