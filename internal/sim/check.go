package sim

import (
	"slices"
	"time"

	"everynode/internal/plan"
)

// Report is what a run has seen.
type Report struct {
	Creates, Deletes, Changes, Forced, StatusWrites int // that have taken effect, by controllers
	// Doubles counts pods that were created beside another one while two controllers ran at once, or after a
	// late request. Names prevent most of them; the controller removes the rest once it sees them.
	Doubles int
	Updated int           // nodes with a current pod that is ready, after the last event
	Phase   string        // of the release, after the last event
	Killed  int           // nodes that a revision has killed
	Settled time.Duration // from the end of the events until nothing happened
	Steps   int
}

// written returns how many writes of controllers have taken effect.
func (r *Report) written() int { return r.Creates + r.Deletes + r.Changes + r.StatusWrites }

// checker checks the run against the invariants.
type checker struct {
	w      *world
	report Report
	// unsettled is the set of deletes whose outcome their process does not know, by pod UID and process.
	unsettled map[request]bool
	deletedBy map[string]int              // the process that deleted a pod
	ended     map[request]time.Duration   // when a process has deleted an ended pod of that name
	handed    map[string]handed           // nodes whose next pod is for the scheduler to place
	places    []place                     // space for a decision, reused
	spent     map[request][]time.Duration // when a process wrote to a node
	turned    map[request]uint64          // by process and node UID: the version in which a node truly turned not Ready, as the process has seen
	turnedAt  map[request]uint64          // the same: the version of the API when the process saw it
	sentIn    map[request]uint64          // by process and pod UID: the version of the API when its delete was sent
	newest    map[request]time.Time       // by process and node: the creation time of the newest pod that it has deleted
	reached   reachings
	quotas    map[release]int   // the largest quota that was kept, by release
	memos     map[int]*memo     // by process
	granting  map[granted]bool  // releases of which a state that allows grants was kept
	plainly   map[request]bool  // by node and revision: given outside any release
	grants    map[grant]string  // beside another controller: the UIDs of nodes that were given the target
	lost      map[string][]loss // by node: the losses that the guard has allowed
	permitted []permit          // the losses that people have allowed besides
	lax       bool              // a second pod on a node is counted, and is not an error
}

type request struct {
	process int
	name    string
}

func newChecker(w *world) *checker {
	return &checker{w: w, unsettled: map[request]bool{}, deletedBy: map[string]int{}, ended: map[request]time.Duration{}, spent: map[request][]time.Duration{},
		newest: map[request]time.Time{}, reached: reachings{}, plainly: map[request]bool{}, lost: map[string][]loss{}, quotas: map[release]int{}, granting: map[granted]bool{}, memos: map[int]*memo{}, grants: map[grant]string{}, handed: map[string]handed{}, turned: map[request]uint64{}, turnedAt: map[request]uint64{}, sentIn: map[request]uint64{}}
}

// sent and settled are the ends of the time in which a delete may or may not have happened, as far as its
// process knows.
func (k *checker) sent(c *controller, uid string) {
	at := request{c.process, uid}
	k.unsettled[at] = true
	if k.sentIn[at] == 0 {
		k.sentIn[at] = k.w.api.version
	}
}

func (k *checker) settled(c *controller, uid string) { delete(k.unsettled, request{c.process, uid}) }

// wrote counts a write that reaches the API (I10).
func (k *checker) wrote(what string) {
	if k.w.quiet {
		k.w.fail("I10: a %s is written although there is nothing to do", what)
	}
	if what == "status" {
		k.report.StatusWrites++
	}
}

// This is the limit of writes to one node in an hour. Growing pauses keep creates and deletes far below it,
// whoever undoes them; edits of the template reset the pauses. Three pods whose deletes are always refused
// cause the most writes: each is tried once a minute.
const mostAnHour = 240

// arrived counts a write to a pod that reaches the API, and checks that its process does not
// spend too many writes on one node (I14).
func (k *checker) arrived(what string, w *write) {
	k.wrote(what)
	key, hour := request{w.owner.process, w.node()}, k.w.now-time.Hour
	k.spent[key] = append(slices.DeleteFunc(k.spent[key], func(at time.Duration) bool { return at < hour }), k.w.now)
	if n := len(k.spent[key]); n > mostAnHour {
		k.w.fail("I14: %d writes to %s within an hour", n, w.node())
	}
}

// creating is called just before a pod is created (I1).
func (k *checker) creating(p *pod) {
	k.report.Creates++
	if k.w.sc.Assists {
		return // the other controller creates it
	}
	k.bound(p)
	surges := (p.made.set.spec.Strategy == plan.RollingUpdate || k.w.sc.Policy != nil) && p.made.set.spec.MaxSurge.Value > 0
	others := 0
	for _, o := range k.w.api.pods {
		if o.Node != p.Node || o.Forced && k.replaced(o) {
			continue // only its object is left, which a finalizer keeps
		}
		ends := !o.Deleted.IsZero()
		switch {
		case surges && o.renamed: // nobody could know
		case surges && !live(&o.Pod), ends && ended(&o.Pod):
		case ends:
			k.double("I1: %s is created on %s while %s has not ended", p.Name, p.Node, o.Name)
		case surges && o.Hash != p.Hash && others == 0:
			others++
		default:
			k.double("I1: %s is created on %s beside %s", p.Name, p.Node, o.Name)
		}
	}
	if at, is := k.ended[request{p.made.owner.process, p.Name}]; is && k.w.now-at < memory && !k.lax {
		k.w.fail("names: %s takes over the name of a pod that has ended", p.Name)
	}
}

// replaced reports whether the node that the pod ran on is gone.
func (k *checker) replaced(p *pod) bool {
	n := k.w.api.node(p.Node)
	return n == nil || n.UID != p.nodeUID
}

// inTerm is called just before a write takes effect. No other process may have started since the write was
// sent.
func (k *checker) inTerm(c *controller) {
	if c.process < k.w.processes && !k.lax {
		k.w.fail("lease: a write of process %d takes effect after process %d has begun", c.process, k.w.processes)
	}
}

func (k *checker) double(format string, args ...any) {
	if k.lax {
		k.report.Doubles++
		return
	}
	k.w.fail(format, args...)
}

// deleting is called just before a controller's delete takes effect.
func (k *checker) deleting(p *pod, w *write) {
	k.report.Deletes++
	k.handOver(p, w)
	if !w.read {
		// The process cannot know about a replacement that comes later: it has seen that the pod exists.
		k.deletedBy[p.UID] = w.owner.process
	}
	if r := w.remove.Reason; r == plan.PodFailed || r == plan.PodSucceeded || r == plan.PodRefused {
		k.ended[request{w.owner.process, p.Name}] = k.w.now
	}
	if w.remove.Now {
		k.report.Forced++
		if !k.replaced(p) {
			k.w.fail("gone: %s is deleted by force on %s, which is there", p.Name, p.Node)
		}
	}
	if p.Generation > w.set.spec.Generation && w.remove.Reason != plan.NodeGone {
		k.w.fail("I13: %s is deleted (%s) by template %d; it was made from %d", p.Name, w.remove.Reason, w.set.spec.Generation, p.Generation)
	}
	if w.remove.Reason == plan.Outdated && w.ready && p.Hash == w.hash {
		k.w.fail("premise: %s is deleted as outdated; it is of revision %s", p.Name, p.Hash)
	}
}

// isCurrent reports whether the pod is of the current revision.
func isCurrent(spec *plan.Spec, p *pod) bool {
	return p.Hash == spec.Hash || p.Generation == spec.Generation
}

func ended(p *plan.Pod) bool { return p.Phase == plan.Failed || p.Phase == plan.Succeeded }
func live(p *plan.Pod) bool  { return p.Deleted.IsZero() && !ended(p) }

// fit is whether a node should run a pod, and whether it may keep one.
type fit struct{ run, keep bool }

// permits returns the eligibility of a node, as far as a scenario can influence it.
func permits(p *plan.Placement, n *plan.Node) fit {
	for key, want := range p.Selector {
		if n.Labels[key] != want {
			return fit{}
		}
	}
	in := func(r plan.Requirement) bool { return slices.Contains(r.Values, n.Labels[r.Key]) }
	if len(p.Terms) > 0 && !slices.ContainsFunc(p.Terms, func(t plan.Term) bool { return slices.ContainsFunc(t.Labels, in) }) {
		return fit{}
	}
	f := fit{true, true}
	for _, t := range n.Taints {
		tolerated := t.Effect == plan.PreferNoSchedule
		for _, o := range p.Tolerations {
			tolerated = tolerated || o.Exists && (o.Key == "" || o.Key == t.Key)
		}
		if !tolerated {
			f.run = false
			f.keep = f.keep && t.Effect == plan.NoSchedule
		}
	}
	return f
}

// final checks the state that the whole cluster must reach in the end.
func (k *checker) final() {
	a := k.w.api
	spec := k.w.endsAt()
	want := plan.Status{}
	wedged := k.wedged()
	for _, n := range a.nodes {
		f := permits(&spec.Placement, &n.Node)
		alive, current, available := 0, 0, 0
		a.on(n.Name, func(p *pod) {
			alive++
			if isCurrent(spec, p) {
				current++
			}
			if live(&p.Pod) && p.Ready && p.fresh() && p.readyAt+spec.MinReady <= k.w.now {
				available++
			}
		})
		switch {
		case !n.alive || wedged && alive == 1:
			continue
		case f.run && (alive != 1 || available != 1 || current != 1):
			k.w.fail("liveness: node %s has %d pods, %d of them available and %d current; want one", n.Name, alive, available, current)
		case !f.keep && alive > 0, alive > 1:
			k.w.fail("liveness: node %s has %d pods, of which it may keep %d", n.Name, alive, f.count(f.keep))
		}
		want.Desired += f.count(f.run)
		want.Misscheduled += f.count(!f.run && alive > 0)
	}
	want.Current, want.Ready, want.Updated, want.Available = want.Desired, want.Desired, want.Desired, want.Desired
	if spec.Hash != a.set.spec.Hash {
		want.Updated = a.set.status.Updated // it counts the target, which was taken back
	}
	for _, p := range a.pods {
		if a.node(p.Node) == nil {
			k.w.fail("liveness: %s is left on %s, which does not exist", p.Name, p.Node)
		}
	}
	if !wedged && !k.w.anyDead() && !k.w.sc.Assists && (a.set.status != want || a.set.observed != a.set.generation) {
		k.w.fail("I9: the status is %+v for generation %d, want %+v for %d", a.set.status, a.set.observed, want, a.set.generation)
	}
}

// wedged reports whether nodes rightly use up the budget: dead ones that have died under the current
// revision, or while their pod was terminating (I5).
func (k *checker) wedged() bool {
	k.survey(k.w.controllers[0], k.w.api.set)
	b := k.balance(k.w.controllers[0], k.w.api.set, k.mayExcuse)
	return k.w.anyDead() && (!b.surges && b.down >= b.maxUnavailable || b.surges && b.surging >= b.maxSurge)
}

func (fit) count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (w *world) anyDead() bool {
	for _, n := range w.api.nodes {
		if !n.alive {
			return true
		}
	}
	return false
}
