package plan

// What one node means to its DaemonSet. The function account decides whether it is down, and so
// takes a part of an update's budget: it is down if no pod there is available, unless its trouble
// is older than the update (excused). Whether a node is Ready is decided elsewhere, by the
// kubelet and the node lifecycle controller.

import (
	"cmp"
	"slices"
	"time"
)

// Classify decides for one node: what runs there, what is to be done, and what the node adds to
// the status and to the totals of a rollout. It reads all of the input except Nodes and Pods, and
// sorts pods in place.
//
// name is the node's; node is nil when there is no such node. pods are those whose Pod.Node is
// name. Classify overwrites the verdict and reuses its memory. A verdict that could cost budget
// is a Candidate: its write waits for Roll.
func Classify(in *Input, name string, node *Node, pods []*Pod, v *Verdict) {
	*v = Verdict{Node: name, deletes: v.deletes[:0], creates: v.creates[:0], changes: v.changes[:0]}
	if node == nil {
		slices.SortFunc(pods, elder)
		classifyUnknown(in, pods, v)
	} else {
		slices.SortFunc(pods, in.keepOrder)
		in.classifyKnown(node, pods, v)
	}
	in.putOff(v)
	if in.Set.Halt != NoReason {
		v.Reason, v.Detail = in.Set.Halt, in.Set.HaltDetail
		v.surging, v.guarded, v.spared = false, false, false
		v.rest()
	}
}

func (in *Input) classifyKnown(node *Node, pods []*Pod, v *Verdict) {
	target := survey(in, &in.Set, node, pods)
	d := decision{&target, v}
	switch r := in.Release; {
	case in.Set.Assists:
		exposure{d}.assist()
	case r == nil:
		target.account(v)
		d.decide()
	case r.Back:
		stable := survey(in, &r.Stable, node, pods)
		stable.account(v)
		decision{&stable, v}.decide()
		exposure{d}.takeBack(&stable)
	case target.exposed():
		target.account(v)
		d.decide()
		exposure{d}.expose()
	default:
		stable := survey(in, &r.Stable, node, pods)
		stable.account(v)
		decision{&stable, v}.decide()
		exposure{d}.awaitTurn(&stable)
	}
}

// keepOrder sorts the pods of one node so that, of two, the first is kept (I1).
func (in *Input) keepOrder(a, b *Pod) int {
	return cmp.Or(first(in.available(a), in.available(b)), first(a.serves(), b.serves()), elder(a, b))
}

// serves reports whether the pod says that it serves its node, however short the time.
func (p *Pod) serves() bool { return p.live() && p.Ready && !p.Uncertain }

// elder is the part of keepOrder that does not depend on time. It is a total order (I8).
func elder(a, b *Pod) int {
	return cmp.Or(first(a.Bound, b.Bound), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

// first orders true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// classifyUnknown handles pods that name a node which does not exist. No counter includes them.
// If the node is known to be gone, no kubelet will ever confirm a deletion, so none is waited
// for. Nobody else handles a pod that was never bound either. A bound pod is left to the pod
// garbage collector, because the node may only be unknown to us yet.
func classifyUnknown(in *Input, pods []*Pod, v *Verdict) {
	v.Reason = NodeGone
	v.Pod = pods[0].Name
	for _, p := range slices.Backward(pods) {
		gone := in.Gone[v.Node]
		switch {
		case p.Uncertain, in.Set.Assists:
		case gone && !p.Forced, !gone && !p.Bound && p.Deleted.IsZero():
			v.deletes = append(v.deletes, Delete{Node: v.Node, Pod: p.Name, UID: p.UID, Now: gone, Reason: NodeGone})
		}
	}
}

// site is one node and a summary of its pods.
type site struct {
	in      *Input
	set     *Spec // with the revision that the node is checked against: the current one
	node    *Node
	pods    []*Pod // in keepOrder
	left    []*Pod // of an earlier node of this name, as far as they may still run
	backoff Backoff
	fit     Eligibility

	old, cur    *Pod // the first live pod of older revisions, of the current one
	live        int  // pods that are neither ended nor deleted
	ending      *Pod // a pod that is deleted and has not ended yet
	ended       *Pod // a pod that has ended and is not deleted
	failing     *Pod // the same, of the current revision
	uncertain   *Pod
	newer       *Pod
	predecessor *Pod // the newest pod of the current revision that is no longer live
	newest      *Pod // of all
	best        *Pod // the one that the status is taken from; nil when all are deleted
	present     bool // there is a pod that counts as scheduled
	served      bool // there is one that is ready, however short the time
}

func survey(in *Input, set *Spec, node *Node, pods []*Pod) site {
	s := site{in: in, set: set, node: node, backoff: in.Backoff[node.Name], fit: set.Placement.Admits(node)}
	if s.pods = pods; !set.Assists { // else the other controller takes them for the new node's pods, and so does its kubelet
		s.pods, s.left = sortOut(pods)
	}
	for _, p := range s.pods {
		s.add(p)
	}
	return s
}

// sortOut separates a node's pods from those left by an earlier node of its name. If such a leftover is
// already being deleted without a grace period, it runs nothing and blocks nothing, whatever finalizer keeps
// it. So it is in neither result.
func sortOut(pods []*Pod) (own, left []*Pod) {
	if !slices.ContainsFunc(pods, func(p *Pod) bool { return p.Left }) {
		return pods, nil
	}
	for _, p := range pods {
		switch {
		case !p.Left:
			own = append(own, p)
		case !p.Forced:
			left = append(left, p)
		}
	}
	return own, left
}

func (s *site) add(p *Pod) {
	current := s.current(p)
	if s.newest == nil || p.Created.After(s.newest.Created) {
		s.newest = p
	}
	s.served = s.served || p.serves()
	if p.Uncertain && s.uncertain == nil {
		s.uncertain = p
	}
	if p.Newer && s.newer == nil {
		s.newer = p
	}
	if p.live() {
		s.live++
		if current && s.cur == nil {
			s.cur = p
		}
		if !current && s.old == nil {
			s.old = p
		}
	} else if current && (s.predecessor == nil || !p.Created.Before(s.predecessor.Created)) {
		s.predecessor = p
	}
	switch {
	case p.Assumed:
	case p.Deleted.IsZero():
		s.present = true
		if p.ended() && s.ended == nil {
			s.ended = p
		}
		if p.ended() && current && s.failing == nil {
			s.failing = p
		}
		if s.best == nil || s.better(p, s.best) {
			s.best = p
		}
	case !p.ended():
		s.present = true
		if s.ending == nil {
			s.ending = p
		}
	}
	// A pod that has ended and is being deleted only waits for a finalizer. It runs nothing and
	// blocks nothing.
}

// ended reports whether no container runs or will run again.
func (p *Pod) ended() bool { return p.Phase == Failed || p.Phase == Succeeded }

// live reports whether the pod runs, or will run.
func (p *Pod) live() bool { return p.Deleted.IsZero() && !p.ended() }

// current reports whether the pod has the current revision: by hash, or by the template
// generation that older DaemonSets carry.
func (s *site) current(p *Pod) bool { return s.set.made(p) }

// made reports whether the pod has the revision of the Spec.
func (set *Spec) made(p *Pod) bool {
	return set.Hash != "" && p.Hash == set.Hash || set.Generation != 0 && p.Generation == set.Generation
}

func (s *site) available(p *Pod) bool { return s.in.available(p) }

// available reports whether the pod counts (I6). A pod whose last write has an unknown outcome
// may already be gone.
func (in *Input) available(p *Pod) bool {
	if !p.live() || !p.Ready || p.Uncertain {
		return false
	}
	at, known := in.availableAt(p)
	return known && !at.After(in.Now)
}

// availableAt returns when a ready pod becomes available if it stays ready. Without MinReady the
// time does not matter, and need not be known. A pod whose containers may still be those of the
// previous revision is not available until that is settled, or has lasted long enough.
func (in *Input) availableAt(p *Pod) (at time.Time, known bool) {
	wait := in.Set.MinReady
	switch {
	case p.Changing && p.Settles <= 0:
		return time.Time{}, false
	case p.Changing:
		wait = max(wait, p.Settles)
	case wait <= 0:
		return time.Time{}, true
	}
	return p.ReadySince.Add(wait), !p.ReadySince.IsZero()
}

// idle reports whether the pod is not bound and its node starts no pods: it does not run and,
// while that lasts, never will (I3).
func (s *site) idle(p *Pod) bool { return !s.fit.Run && !p.Bound }

// better orders the pods that are not being deleted, for the status. Ready, available and updated
// then refer to the same pod: with surge, a node counts as updated only when its new pod is the
// one that serves, or when none does.
func (s *site) better(p, q *Pod) bool {
	for _, has := range [...]func(*Pod) bool{(*Pod).live, s.available, s.current, (*Pod).ready} {
		if has(p) != has(q) {
			return has(p)
		}
	}
	return false // q comes first in keepOrder
}

func (p *Pod) ready() bool { return p.Ready }

// account fills what the node adds to the status and to the totals.
func (s *site) account(v *Verdict) {
	v.Desired = s.fit.Run
	v.Current = s.fit.Run && s.present
	v.Misscheduled = !s.fit.Run && s.present
	serves := s.best != nil && s.available(s.best)
	if s.best != nil {
		v.Pod = s.best.Name
		v.Ready = s.fit.Run && s.best.live() && s.best.Ready
		v.Available = s.fit.Run && serves
		v.Updated = s.fit.Run && s.in.Set.made(s.best)
	} else if s.ending != nil {
		v.Pod = s.ending.Name
	}
	// A node that only keeps its pod is not updated, so a pod there that does not serve, and is
	// outdated or was never bound, is not worth waiting for.
	holds := s.fit.Run || s.fit.Keep && (serves || s.cur != nil && s.cur.Bound)
	v.counted = holds && (s.served || !s.excused(v))
	v.down = v.counted && !serves
	// A current pod that failed still takes its place: a revision whose pods
	// fail must not walk from node to node.
	v.surging = s.surges() && s.old != nil && !s.idle(s.old) && (s.failing != nil || s.cur != nil && !s.idle(s.cur) && !s.available(s.cur))
	for _, p := range s.pods {
		if at, known := s.in.availableAt(p); known && p.live() && p.Ready {
			v.wake(at, s.in.Now)
		}
	}
}

// wake makes sure that the verdict is looked at again at that instant, if it is in the future.
func (v *Verdict) wake(at, now time.Time) {
	if at.After(now) && (v.Until.IsZero() || at.Before(v.Until)) {
		v.Until = at
	}
}

// excused reports whether the node's trouble is older than the rollout's work on it (I5). If that
// cannot be determined, the node counts as down.
//
// Pods of the current revision that failed here and were deleted count like existing ones, for as
// long as the back-off remembers them: they may have been here before the trouble began.
func (s *site) excused(v *Verdict) bool {
	n, b := s.node, &s.backoff
	switch {
	case n.Ready:
		return false
	case n.NeverReady:
		return true
	case s.in.Left[n.Name]:
		return false
	}
	work := s.in.work()
	for _, p := range s.pods {
		current := work.made(p)
		if current && !n.DownBefore(p.SeenCreated, p.Created) {
			return false
		}
		if !current && (p.Uncertain || !p.Deleted.IsZero()) && !n.DownBefore(p.SeenDeleted, p.Deleted) {
			return false
		}
	}
	if b.Hash == work.Hash && !b.Expired(s.in.Now) && !n.DownBefore(b.FirstSeen, b.First) {
		v.wake(b.forgotten(), s.in.Now)
		return false
	}
	return true
}

// DownBefore reports whether the node was not Ready when something was done to its pods. Events
// that this process has seen, or caused itself, have an order. For events from before it watched
// there are only times by different clocks.
func (n *Node) DownBefore(seen Moment, written time.Time) bool {
	if n.Down == 0 && seen == 0 {
		return !n.ReadyChanged.IsZero() && n.ReadyChanged.Add(ClockMargin).Before(written)
	}
	return n.Down < seen
}
