package plan

// What one node means to a release in waves: whether it has the target, how well it works with it, and whether its
// turn has come. Package rollout decides how far a release may go.

import (
	"math"
	"sort"
	"time"
)

// Release is how far the release of a new revision, the target, may go. Input.Set is then the target, and Stable the
// last good revision. Each node has one of the two, and everything that is said about a node's current revision
// refers to that one.
type Release struct {
	// Number identifies the release among those of a DaemonSet.
	Number int
	// Stable differs from Set only in the revision: Hash, Generation, Placement, Scheduled.
	Stable Spec
	// Ranks are the positions of nodes in the order in which the release reaches them, from 0. A node without a rank
	// comes after all others. The map is shared, and must not be modified meanwhile.
	Ranks map[string]int
	// Steps are how many nodes have been reached at the end of each step, ascending. Quota is that of
	// the open step: nodes of a lower rank may be granted the target.
	Steps []int
	Quota int
	// Grants means that nodes may be granted the target now.
	Grants bool
	// Forgiven is how many nodes may be under way beyond the budget of the strategy.
	Forgiven int
	// Back means that all nodes get the stable revision.
	Back bool
	// StartWithin is how long a pod of the target may be down before its node counts as failed, and Restarts how many
	// restarts make it fail.
	StartWithin time.Duration
	Restarts    int
}

// Exposure is how far a release has got on the nodes of a DaemonSet.
type Exposure struct {
	// Exposed nodes have a pod of the target, or are about to get one; also nodes that should no longer have a pod,
	// once it is gone. Well are those whose pod of the target is available. UnderWay are those that are neither well
	// nor excused (I5) nor Leaving, and Failed those of them that have failed, and those that are Refused.
	Exposed, Well, UnderWay, Failed int
	// Refused nodes keep a pod of another revision because the API server keeps refusing the target's. They are Exposed
	// only while another try has no answer yet.
	Refused int
	// Stranded nodes have the target in a release that goes back, and are down: they go back when they are up.
	Stranded int
	// Other nodes have a live pod of neither revision.
	Other int
	// Leaked nodes are exposed but have not been reached: another controller has given them the target
	// (Spec.Assists).
	Leaked int
	// Reachable is, for each of Release.Steps, how many of its nodes are up and could be granted the target if any
	// number of nodes could be under way. Steps after the last that has any are left out. It is valid until the
	// totals change.
	Reachable []int
}

func (e *Exposure) apply(v *Verdict, sign int) {
	s := &v.release
	count(&e.Exposed, s.Exposed, sign)
	count(&e.Well, s.Well, sign)
	count(&e.UnderWay, s.UnderWay, sign)
	count(&e.Failed, s.Failure != Unfailed, sign)
	count(&e.Refused, s.Refused, sign)
	count(&e.Other, s.Other, sign)
	count(&e.Stranded, s.Stranded, sign)
	count(&e.Leaked, s.Leaked, sign)
	if s.Reachable {
		for len(e.Reachable) <= int(s.Step) {
			e.Reachable = append(e.Reachable, 0)
		}
		e.Reachable[s.Step] += sign
		for n := len(e.Reachable); n > 0 && e.Reachable[n-1] == 0; n-- {
			e.Reachable = e.Reachable[:n-1]
		}
	}
}

// standing is what one node adds to an Exposure.
type standing struct {
	Exposed, Well, UnderWay, Refused, Other, Reachable, Stranded, Leaked bool
	Failure                                                              Failure
	Step                                                                 int32 // of Release.Steps, while reachable
}

// Failure is why a node counts as failed.
type Failure uint8

// The failures.
const (
	Unfailed       Failure = iota
	NotStarted             // its pod was not available within Release.StartWithin
	Restarting             // its pod has restarted Release.Restarts times, or has ended as often
	CannotStart            // its pod cannot start without a change of the template
	StoppedServing         // its pod was available, and has not been for Release.StartWithin
	NodeBroke              // the node is no longer Ready
	NotAdmitted            // the API server keeps refusing its pod
)

// String is the failure's name, as in the status of a release.
func (f Failure) String() string {
	return [...]string{"", "NotStarted", "Restarting", "CannotStart", "StoppedServing", "NodeBroke", "NotAdmitted"}[f]
}

// Failure returns why the node has failed in the release; Unfailed if it has not.
func (v *Verdict) Failure() Failure { return v.release.Failure }

// Exposed reports whether the node has the target of the release, or is about to get it.
func (v *Verdict) Exposed() bool { return v.release.Exposed }

// work returns the Spec whose pods show whether a node's trouble is older than the update (I5).
func (in *Input) work() *Spec {
	if in.Release != nil && in.Release.Back && !in.Set.Assists {
		return &in.Release.Stable
	}
	return &in.Set
}

// exposed reports whether the node has a pod of the target, in whatever state; or had one or was granted one, and
// nothing else has taken its place; or can still get one by a write that is under way. A node that should have no
// pod of the target, and has none, needs no grant to stay like that.
func (s *site) exposed() bool {
	for _, p := range s.pods {
		if s.current(p) {
			return true
		}
	}
	r, in := s.in.Release, s.in
	switch {
	case s.uncertain != nil && in.Reached[s.node.Name] == r.Number:
		return true
	case s.live > 0:
		return false
	case in.Set.Assists:
		return s.fit.Run // what comes next is of the target
	case in.Reached[s.node.Name] == r.Number, s.backoff.Hash == s.set.Hash && !s.backoff.Expired(in.Now):
		return true
	}
	return len(s.pods) == 0 && !s.fit.Run && r.Stable.Placement.Admits(s.node).Run && r.rank(s.node.Name) < r.Quota
}

// rank is the node's place in the order of the release.
func (r *Release) rank(node string) int {
	if rank, ok := r.Ranks[node]; ok {
		return rank
	}
	return math.MaxInt32
}

// exposure is how a node counts in a release, and what becomes of it when its turn comes.
type exposure struct{ decision }

// takeBack sets how a node counts in a release that goes back. A node that is down, or whose pod a taint keeps in
// place, does not count as exposed: it goes back when it can, which may be at any time.
func (e exposure) takeBack(stable *site) {
	if e.cur == nil && e.failing == nil && e.predecessor == nil {
		e.v.release.Other = e.old != nil && !stable.set.made(e.old)
		return
	}
	e.expose()
	w := &e.v.release
	if w.Stranded = !e.node.Ready || e.node.Leaving; w.Stranded || stable.fit.Keep && !stable.fit.Run {
		w.Exposed, w.Well, w.UnderWay = false, false, false
	}
}

// expose sets how a node works with the target.
func (e exposure) expose() {
	r := e.in.Release
	e.v.rank = int32(r.rank(e.v.Node))
	w := &e.v.release
	w.Exposed = true
	if b := &e.backoff; b.Hash == e.set.Hash && !b.Expired(e.in.Now) {
		e.v.wake(b.forgotten(), e.in.Now)
	}
	w.Well = e.cur != nil && e.available(e.cur)
	if !e.fit.Run || e.node.Leaving || !e.served && e.excused(e.v) {
		return
	}
	if w.Failure = e.failure(); w.Failure != Unfailed {
		w.Well = false
	}
	w.Refused = w.Failure == NotAdmitted && e.cur != nil && e.old != nil
	w.UnderWay = !w.Well
}

// failure returns whether and why the node has failed with the target. Its trouble is not older than the target.
func (e exposure) failure() Failure {
	r, p, b := e.in.Release, e.cur, &e.backoff
	switch {
	case !e.node.Ready:
		return NodeBroke
	case p != nil && int(p.Restarts) >= r.Restarts:
		return Restarting
	case b.Hash == e.set.Hash && !b.Expired(e.in.Now) && b.Delay >= firstBackoff<<min(r.Restarts-1, 10):
		return Restarting
	case (p == nil || p.Assumed) && e.in.Refused[e.v.Node].lasts(): // Assumed: it is tried again
		return NotAdmitted
	case p == nil || e.available(p):
		return Unfailed
	case p.Stuck:
		return CannotStart
	}
	since, why := p.began(), NotStarted
	switch {
	case p.Changing && p.Ready: // possibly by its old containers
	case p.Ready: // though not for MinReady
		return Unfailed
	case p.WasReady && !p.ReadySince.IsZero():
		since, why = p.ReadySince, StoppedServing
	}
	if at := since.Add(r.StartWithin); at.After(e.in.Now) {
		e.v.wake(at, e.in.Now)
		return Unfailed
	}
	return why
}

// began returns when the pod got its revision.
func (p *Pod) began() time.Time {
	if p.Changed.After(p.Created) {
		return p.Changed
	}
	return p.Created
}

// RefusedFor is how long the API server must have refused a node's pod for the node to count as failed: a webhook that is
// being replaced answers sooner.
const RefusedFor = 30 * time.Second

// Continues reports whether another such answer belongs to the row. Until the node has failed, tries follow one another after
// pauses that double; each is also as long as the last answer asked for. If nothing was tried for much longer, the node may
// just have met two short outages.
func (r Refusal) Continues(at time.Time, asked time.Duration) bool {
	return r.lasts() || at.Sub(r.Last) <= 2*(r.For+asked)+5*time.Second
}

// refusedRest is how long a release that has nothing else to do leaves such a node alone.
const refusedRest = 5 * time.Minute

// lasts reports whether the API server keeps refusing the pod.
func (r Refusal) lasts() bool { return r.For >= RefusedFor }

// awaitTurn handles a node that does not have the target. v is what the stable revision asks for, and that comes
// first, except for an update: from a third revision a node goes straight to the target. When the node's turn has
// come, the writes for the target wait to be granted.
func (e exposure) awaitTurn(stable *site) {
	e.v.release.Other = stable.old != nil
	if e.v.candidate != fixed {
		e.v.forgo()
	}
	if e.v.Reason == UpToDate || e.v.Reason == BudgetSpent {
		e.v.Reason = AwaitsWave
	}
	if stable.fit.Keep && !e.fit.Keep && e.guard(drop) && e.v.Reason == AwaitsWave {
		e.v.Reason, e.v.Detail = e.held(AwaitsWave), e.fit.Detail
	}
	e.v.early = e.v.goes != fixed
	wanted := e.fit.Run || !e.fit.Keep && stable.fit.Keep && (stable.fit.Run || len(e.pods) > 0)
	if !wanted || !e.node.Ready || e.node.Leaving {
		return
	}
	if e.turn() && !e.v.acts() {
		e.takeTurn()
		e.refused()
	}
}

// refused fails a node whose turn has come, and that keeps its pod because the API server refuses the one of the target
// beside it. No other node gets its turn instead, and the step waits for it only now and then.
func (e exposure) refused() {
	by := e.in.Refused[e.v.Node]
	if len(e.v.creates) == 0 || e.live == 0 || !by.lasts() {
		return
	}
	again := by.Last.Add(refusedRest)
	e.v.wake(again, e.in.Now)
	e.v.release.Failure, e.v.release.Refused = NotAdmitted, true
	e.v.release.Reachable = e.v.release.Reachable && !again.After(e.in.Now)
}

// turn sets the position of a node that could be granted the target, and reports whether its turn has come.
func (e exposure) turn() (come bool) {
	r := e.in.Release
	rank := r.rank(e.v.Node)
	e.v.rank = int32(rank)
	e.v.release.Step = int32(sort.SearchInts(r.Steps, rank+1))
	e.v.release.Reachable = int(e.v.release.Step) < len(r.Steps)
	return rank < r.Quota
}

// forgo removes a write that costs budget.
func (v *Verdict) forgo() {
	switch {
	case v.candidate == surge:
		v.creates = v.creates[:len(v.creates)-1]
	case len(v.changes) > 0:
		v.changes = v.changes[:0]
	default:
		v.deletes = v.deletes[:len(v.deletes)-1]
	}
	v.candidate, v.Reason, v.Detail = fixed, AwaitsWave, ""
}

// takeTurn decides for the target. All its writes wait to be granted.
func (e exposure) takeTurn() {
	reason, detail := e.v.Reason, e.v.Detail
	e.decide()
	if e.v.guarded && !e.fit.Keep && e.v.goes == fixed { // evict has held the pod that would be dropped now
		e.v.goes, e.v.early = drop, false
	}
	reaching := e.v.deletes
	switch {
	case !e.v.acts():
		e.v.Reason, e.v.Detail = reason, detail
	case e.v.candidate == leave || e.v.candidate == fixed && !e.fit.Run:
		e.v.candidate = drop
	case e.v.candidate == fixed:
		e.v.candidate = expose
	case e.v.candidate == surge, len(e.v.changes) > 0 && e.v.candidate != expose:
		reaching = nil // the create or the change does it
	default:
		reaching = e.v.deletes[len(e.v.deletes)-1:] // those before it go in any case, and leave a pod where it is
	}
	for i := range reaching {
		reaching[i].Reaches = true
	}
	for i := range e.v.changes {
		e.v.changes[i].Reaches = true
	}
}

// rooms is how many candidates of each kind may move, how many more nodes may be under way, and how many more may be
// granted the target.
type rooms struct {
	each             [kinds]int
	underWay, grants int
}

// take returns how many of the given number of candidates of a kind move. Pods that a taint drives away are on nodes
// that have the target.
func (r *rooms) take(kind candidate, of int) int {
	n := max(min(r.each[kind], of), 0)
	if kind != leave {
		n = max(min(n, r.grants), 0)
	}
	if kind != leave && kind != drop {
		n = max(min(n, r.underWay), 0)
		r.underWay -= n
	}
	if kind != leave {
		r.grants -= n
	}
	return n
}

// inTurn returns the kinds of candidates in the order in which they may move: those that cost no availability come
// first.
func inTurn() [kinds - 1]candidate {
	return [...]candidate{expose, recycle, replace, surge, leave, drop}
}

// rooms computes the rooms. More nodes may be down than the budget allows, without our doing: then no candidate may
// move. Recycling uses no budget, but needs some to be left.
func (in *Input) rooms(t *Totals) (r rooms) {
	maxUnavailable, maxSurge := in.Set.Budget(t.Status.Desired)
	r.underWay, r.grants = math.MaxInt, math.MaxInt
	if w := in.Release; w != nil && !w.Back {
		if !w.Grants {
			return rooms{}
		}
		r.grants = w.Quota - t.Exposure.Exposed
		r.underWay = max(maxUnavailable, maxSurge) + max(w.Forgiven-t.Exposure.Refused, 0) - t.Exposure.UnderWay
	}
	r.each = [kinds]int{
		replace: maxUnavailable - t.Down,
		surge:   maxSurge - t.Surging,
		leave:   t.Counted - t.Down - t.Status.Desired,
		expose:  math.MaxInt,
		drop:    math.MaxInt,
	}
	if t.Down <= maxUnavailable {
		r.each[recycle] = math.MaxInt
	}
	return r
}
