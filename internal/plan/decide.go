package plan

import (
	"slices"
	"time"
)

// candidate says what a verdict's last act costs, if anything.
type candidate uint8

const (
	fixed   candidate = iota // nothing waits for Roll
	replace                  // the last delete, or the change, makes the node unavailable
	recycle                  // the last delete, or the change, takes a ready pod from a node that is down all the same
	surge                    // the last create makes the node hold two pods
	leave                    // the last delete takes an available pod from a node that should have none
	expose                   // all acts together give a node that is down the target of a release
	drop                     // all acts together take the pod from a node that the target is not for
	kinds                    // how many there are
)

// decide names the reason and the acts.
func (s *site) decide(v *Verdict) {
	s.clear(v)
	if s.newer != nil {
		// What the node should have is not known, so neither is whether it
		// may keep the pod.
		v.Reason, v.Detail = NewerTemplate, s.newer.Name
		return
	}
	if !s.fit.Keep {
		s.evict(v)
		return
	}
	if len(s.left) > 0 {
		v.Reason, v.Detail = NodeReplaced, s.left[0].Name
		return
	}
	if s.uncertain != nil {
		// Whatever was asked of this node may have happened or not. One more
		// write on top could make it two pods, or none.
		v.Reason, v.Detail = Unconfirmed, s.uncertain.Name
		return
	}
	s.retire(v)
	switch {
	case s.live == 0:
		s.fill(v)
	case s.prune(v):
		v.Reason, v.Detail = Duplicate, v.Pod
	case s.old == nil:
		s.settle(v, s.cur)
	case s.cur != nil && !s.idle(s.cur):
		s.handOver(v)
	default:
		s.renew(v)
	}
}

// clear deletes what an earlier node of this name has left. No kubelet will
// confirm that, so none is waited for; and the node's own pod comes after that,
// since its kubelet would take the other for one to run.
func (s *site) clear(v *Verdict) {
	for _, p := range slices.Backward(s.left) {
		if !p.Uncertain {
			s.remove(v, p, NodeReplaced)
			v.deletes[len(v.deletes)-1].Now = true
		}
	}
}

// evict deletes everything from a node that may not hold a pod (I3). It does
// not wait for budget or back-off: the pod has no business there. Only the guard
// holds what runs.
func (s *site) evict(v *Verdict) {
	v.Reason, v.Detail = s.fit.Reason, s.fit.Detail
	if s.guard(v) {
		v.Reason = HeldByGuard
	}
	for _, p := range slices.Backward(s.pods) {
		if p.Deleted.IsZero() && !p.Uncertain && !(v.guarded && s.runs(p)) {
			s.remove(v, p, s.fit.Reason)
		}
	}
}

// retire deletes pods that have ended, unless the back-off holds them. It is
// there so that a pod which fails at once does not turn into a loop of creates
// and failures; an outdated pod cannot be part of such a loop.
func (s *site) retire(v *Verdict) {
	until := s.backoff.ends()
	held := !s.backoff.Expired(s.in.Now) && until.After(s.in.Now)
	for _, p := range slices.Backward(s.pods) {
		switch {
		case !p.ended() || !p.Deleted.IsZero():
		case held && !(s.rolls() && !s.current(p)):
			v.wake(until, s.in.Now)
		default:
			s.remove(v, p, endReason(p))
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

// fill is for a node without a live pod. The successor of one that ended comes
// when that one is deleted. Without surge, it also waits until a terminating
// pod is gone (I1); with surge, two side by side is what was asked for.
func (s *site) fill(v *Verdict) {
	switch {
	case !s.fit.Run:
		v.Reason, v.Detail = s.fit.Reason, s.fit.Detail
	case s.ended != nil:
		s.await(v, s.ended)
	case s.ending != nil && !s.surges():
		v.Reason, v.Detail = WaitingForTermination, s.ending.Name
	case s.pauses(v):
	default:
		s.create(v, Missing)
		v.Reason = v.creates[0].Reason
	}
}

// pauses says that no pod is created for a while, since those before it did not
// last.
func (s *site) pauses(v *Verdict) bool {
	until := s.backoff.Remakes.ends(s.node)
	if !until.After(s.in.Now) {
		return false
	}
	v.Reason = PodsDoNotLast
	if by := s.backoff.Remakes.By; by != Unannounced {
		v.Detail = "by " + by.String()
	}
	v.wake(until, s.in.Now)
	return true
}

// await is for a pod that has ended: it is deleted just now, or left for a
// while. Its successor comes after that.
func (s *site) await(v *Verdict, p *Pod) {
	v.Reason, v.Detail = BackingOff, p.Name
	for _, d := range v.deletes {
		if d.Pod == p.Name {
			v.Reason = d.Reason
		}
	}
}

// prune deletes the pods that are too many: all but the first of the node, or
// with surge all but the first old and the first current one. Updating waits
// until that is done.
func (s *site) prune(v *Verdict) (pruned bool) {
	spare := s.old != nil && s.cur != nil && s.surges()
	if s.live == 1 || s.live == 2 && spare {
		return false
	}
	keep, also := s.old, s.cur
	if !spare {
		keep, also = s.first(), nil
	}
	for _, p := range slices.Backward(s.pods) {
		if p.live() && p != keep && p != also {
			s.remove(v, p, Duplicate)
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
func (s *site) settle(v *Verdict, p *Pod) {
	switch {
	case !s.fit.Run:
		s.keep(v, p)
	default:
		v.Reason = s.progress(p)
	}
}

// keep gives the reason for a pod that stays on a node which starts none.
func (s *site) keep(v *Verdict, p *Pod) {
	v.Reason, v.Detail = TaintKeepsPod, s.fit.Detail
	if s.idle(p) {
		v.Reason = TaintNotTolerated
	}
}

// progress is how far a live pod has come.
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

// handOver is for an old pod beside a current one, with surge: the old one
// goes when the current one is available, or when it serves nobody itself.
func (s *site) handOver(v *Verdict) {
	switch {
	case s.available(s.cur):
		v.Reason = Surged
		s.remove(v, s.old, Surged)
	case !s.old.Ready:
		v.Reason = s.progress(s.cur)
		s.remove(v, s.old, Outdated)
	default:
		v.Reason = s.progress(s.cur)
	}
}

// renew is for a node with one live pod, an outdated one.
//
// A pod that is not ready is replaced at once: it is down already, so the
// budget counts it in any case, and waiting would let a bad update block the
// good one that follows it. One that is ready, but not yet for MinReady, is
// down as well, yet it serves: it goes only while the budget holds (Roll), or
// all would go at once when MinReady is raised, when all have just come back, or
// when an engine has just started that has not seen since when they are ready. For
// the same reason the successor of one that is ready takes a slot of MaxSurge, and
// one that is to leave does so only while others serve.
//
// A node that only keeps its pod is not updated: its successor would not be
// started, and NoSchedule keeps what runs. With surge the pod leaves, since
// there an update ends with more pods available rather than fewer, but only
// while that costs no availability (Roll).
func (s *site) renew(v *Verdict) {
	p := s.old
	switch {
	case !s.rolls():
		v.Reason, v.Detail = WaitingForDeletion, p.Name
	case s.set.Patient && (!s.node.Ready || s.node.Leaving):
		v.Reason, v.Detail = AwaitsWave, "its node is not back yet"
	case !s.fit.Run && !s.surges():
		s.keep(v, p)
	case !s.fit.Run && p.Ready:
		v.Reason, v.Detail, v.candidate = TaintKeepsPod, s.fit.Detail, leave
		s.remove(v, p, TaintNotTolerated)
	case !s.fit.Run:
		v.Reason, v.Detail = TaintNotTolerated, s.fit.Detail
		s.remove(v, p, TaintNotTolerated)
	case s.surges() && s.failing != nil:
		s.await(v, s.failing) // it failed beside the old one
	case s.surges() && s.pauses(v):
	case s.surges():
		s.create(v, Surge)
		v.Reason = v.creates[0].Reason
		if p.Ready {
			v.Reason, v.candidate = BudgetSpent, surge
		}
	case s.available(p):
		s.revise(v, p)
		v.Reason, v.candidate = BudgetSpent, replace
	case p.Ready:
		s.revise(v, p)
		v.Reason, v.candidate = BudgetSpent, recycle
	default:
		s.revise(v, p)
	}
}

// revise makes the pod one of the current revision where it runs, or deletes it for one to come.
func (s *site) revise(v *Verdict, p *Pod) {
	if at, doubtful := s.in.doubtEnds(p); doubtful {
		v.wake(at, s.in.Now)
	}
	if !s.changeable(p) {
		v.Reason = Outdated
		s.remove(v, p, Outdated)
		return
	}
	v.Reason = OutdatedInPlace
	v.changes = append(v.changes, Change{Node: v.Node, Pod: p.Name, UID: p.UID, From: p.Hash, Stable: s.set != &s.in.Set, Reason: OutdatedInPlace})
}

// changeable says that the pod can become one of the current revision where it runs. Its kubelet must be
// there to do that: else nothing would come of it before the node is back, and a pod that was deleted
// tells whether the node's trouble is older than the update (I5). Nor may a change be under way: what the kubelet has begun
// for that one it may finish after the next, and nobody could tell the two apart (P3).
func (s *site) changeable(p *Pod) bool {
	_, doubtful := s.in.doubtEnds(p)
	return s.set.InPlace[p.Hash] && s.node.Ready && p.Bound && p.Phase == Running && !p.Unchangeable && !doubtful
}

// doubtEnds says that a pod which is ready may still be so by what it was before its last change, and until when; zero: nobody
// knows.
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

func (s *site) remove(v *Verdict, p *Pod, why Reason) {
	d := Delete{Node: v.Node, Pod: p.Name, UID: p.UID, Reason: why, Waited: !p.Bound, Hash: p.Hash, Created: p.Created, SeenCreated: p.SeenCreated}
	if s.current(p) {
		d.Hash = s.set.Hash // by its generation, if not by its label
	}
	v.deletes = append(v.deletes, d)
}

// create names the pod's predecessor and who binds it. Where the last pod was
// refused by the kubelet, or was never bound, we would have the next one refused
// as well: it goes to the scheduler, which waits for what is missing. The node
// comes back to us with the first pod that is bound there and not refused.
func (s *site) create(v *Verdict, why Reason) {
	c := Create{Node: v.Node, NodeUID: s.node.UID, Reason: why, ByScheduler: s.set.Scheduled, Stable: s.set != &s.in.Set}
	b, p := &s.backoff, s.predecessor
	switch {
	case b.Pod != "" && (p == nil || !b.Created.Before(p.Created)):
		c.Predecessor = b.Pod
	case p != nil:
		c.Predecessor = p.UID
	}
	if !c.ByScheduler && b.handed(s.newest) {
		c.ByScheduler, c.Reason = true, PodRefused
	}
	v.creates = append(v.creates, c)
}
