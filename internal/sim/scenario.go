package sim

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Scenario is a cluster and what happens to it. Its text is a txtar archive;
// see Parse.
type Scenario struct {
	Comment string
	Seed    uint64
	Set     Set
	// Policy is how releases are rolled out; nil: as apps/v1 does it.
	Policy *rollout.Policy
	// Revisions are the templates that events can name, and how their pods behave. The DaemonSet starts with the first
	// one by name.
	Revisions map[string]Behaviour
	// Places are the pools that templates ask for, if they differ from that of the Set. One is a node selector, several
	// with | between them are an affinity, and * is any. A + after them means that the template tolerates every taint.
	Places map[string]string
	Nodes  []Node
	Events []Event
	// Expect is what must hold for the Report: lines such as "creates = 3".
	Expect []string

	Finalizers    bool // something keeps pods for a while after they have ended
	TaintNotReady bool // nodes that are not ready get a NoSchedule taint
	KeepDead      bool // nodes that are dead at the end stay so
	EndsAborted   bool // when everything is repaired, the release is taken back instead of approved
	Assists       bool // the DaemonSet controller of the cluster makes the pods: see builtin
	InPlace       bool // pods may be changed where they run, from any revision to any other: see changes.go
}

// Set is the DaemonSet.
type Set struct {
	OnDelete                 bool
	MaxUnavailable, MaxSurge string // a number, or a percentage
	MinReady                 time.Duration
	Pool                     string // nodes must have this label value; empty: any
	Tolerate                 bool   // every taint
	Scheduled                bool   // only the scheduler places its pods
}

// Node is a node at the beginning.
type Node struct {
	Name, Pool string
	Zone       string // empty: it has no such label
	Taints     []plan.Taint
}

// Event is something that happens: see Scenario.happen.
type Event struct {
	At   time.Duration
	Op   string
	Args []string
}

func (sc *Scenario) spec(hash string) plan.Spec {
	s := &sc.Set
	spec := plan.Spec{Hash: hash, MinReady: s.MinReady, Scheduled: s.Scheduled, Placement: sc.placement(hash),
		MaxUnavailable: amount(s.MaxUnavailable), MaxSurge: amount(s.MaxSurge)}
	if s.OnDelete {
		spec.Strategy = plan.OnDelete
	}
	return spec
}

// place returns the pools that the template of a revision asks for, as Places has them; empty: any.
func (sc *Scenario) place(hash string) string {
	if place, its := sc.Places[hash]; its {
		return place
	}
	return sc.Set.Pool
}

// placement returns where pods of a revision may run.
func (sc *Scenario) placement(hash string) (p plan.Placement) {
	place, tolerates := strings.CutSuffix(sc.place(hash), "+")
	switch pools := strings.Split(place, "|"); {
	case place == "" || place == "*":
	case len(pools) == 1:
		p.Selector = map[string]string{"pool": place}
	default:
		p.Terms = []plan.Term{{Labels: []plan.Requirement{{Key: "pool", Operator: plan.In, Values: pools}}}}
	}
	if sc.Set.Tolerate || tolerates {
		p.Tolerations = []plan.Toleration{{Exists: true}}
	}
	return p
}

// amount reads an amount that Parse has checked.
func amount(s string) plan.Amount {
	digits, percent := strings.CutSuffix(s, "%")
	n, _ := strconv.Atoi(digits)
	return plan.Amount{Value: n, Percent: percent}
}

// Run plays the scenario; the error says which invariant was broken, and when.
func Run(sc *Scenario) error {
	_, err := Play(sc, NoBug, nil)
	return err
}

// The times of a run after its last event.
const (
	healTime  = 10 * time.Second // the last faults play out
	settling  = 2 * time.Hour    // at most; back-off alone may take a quarter of an hour
	quietTime = 10 * time.Minute
)

// Play is Run with a planted bug. It calls trace, unless nil, with what happens.
func Play(sc *Scenario, bug Bug, trace func(string)) (Report, error) {
	w := begin(sc, bug, trace)
	var end time.Duration
	for _, e := range sc.Events {
		w.after(e.At, func() { w.happen(e) })
		end = max(end, e.At)
	}
	w.play(end)
	w.now = max(w.now, end)
	w.check.report.Updated = w.updated()
	if o := w.api.keeper; o != nil {
		w.check.report.Phase = o.state.Phase.String()
	}
	w.heal()
	w.play(end + settling)
	w.check.report.Steps = int(w.seq)
	if w.err == nil {
		w.check.report.Settled = w.now - end
		w.settle()
	}
	if w.err == nil {
		w.expect()
	}
	return w.check.report, w.err
}

// begin returns the cluster before anything has happened to it.
func begin(sc *Scenario, bug Bug, trace func(string)) *world {
	w := &world{rng: rand.New(rand.NewPCG(sc.Seed, sc.Seed)), sc: sc, bug: bug, trace: trace, faults: calm(), clocks: clocks{}}
	w.api, w.check, w.kubelets = newAPI(w), newChecker(w), newKubelets(w)
	w.check.lax = slices.ContainsFunc(sc.Events, func(e Event) bool {
		return e.Op == "overlap" || e.Op == "faults" && slices.ContainsFunc(e.Args, func(a string) bool { return strings.HasPrefix(a, "late=") })
	})
	w.api.set = &daemonSet{uid: "set", generation: 1, spec: sc.spec(sc.first())}
	w.api.set.spec.Generation = 1
	w.api.putSet(func(*daemonSet) {})
	for _, n := range sc.Nodes {
		w.kubelets.join(n.Name, labels(n.Pool, n.Zone), n.Taints)
	}
	w.begins(sc.Policy)
	w.employ()
	w.launch()
	return w
}

// first returns the revision that the DaemonSet begins with.
func (sc *Scenario) first() string {
	first := ""
	for r := range sc.Revisions {
		if first == "" || r < first {
			first = r
		}
	}
	return first
}

// fixed is a revision that always works.
const fixed = "fixed"

// heal ends every fault. It repairs what the scenario leaves broken, including the template: otherwise there is no
// final state.
func (w *world) heal() {
	w.tracef("healing")
	w.healed = true
	w.faults = calm()
	if w.builtin != nil {
		w.builtin.still = 0
	}
	w.api.quota, w.api.terminating, w.api.unscheduled = -1, false, false
	clear(w.api.banned)
	clear(w.api.choked)
	clear(w.kubelets.evicts)
	clear(w.api.guarded)
	for _, s := range w.api.streams {
		s.stalled = 0
		s.cut(false)
	}
	for i, c := range slices.Clone(w.controllers) {
		c.crash = noCrash
		if i < len(w.controllers)-1 && !c.lost {
			c.die()
		}
	}
	w.succeed(delivery.LeaseTerm)
	for _, n := range slices.Clone(w.api.nodes) {
		if !w.sc.KeepDead {
			w.kubelets.mendNode(n.Name)
		}
		w.api.putNode(n.Name, func(n *node) { n.full, n.misfit, n.forbids, n.Leaving = false, false, false, false })
		w.kubelets.kick(n.Name)
	}
	w.after(healTime, func() {
		if w.sc.KeepDead || !w.works(w.api.set.spec.Hash) {
			w.release(fixed)
		}
	})
	w.approve()
	// A write that was slow when the faults ended may arrive after the user's first round, with the template of its
	// time. So there is a second round.
	for _, round := range []time.Duration{3 * healTime, delivery.SlowTimeout + healTime} {
		w.after(round, w.deleteOutdated)
	}
}

// deleteOutdated does what a user of OnDelete does to update.
func (w *world) deleteOutdated() {
	for _, p := range slices.Clone(w.api.pods) {
		if w.api.set.spec.Strategy == plan.OnDelete && !w.sc.Assists && p.Hash != w.api.set.spec.Hash {
			w.api.mark(p, false, 0)
		}
	}
}

// settle checks the end, and that nothing is written after it.
func (w *world) settle() {
	if len(w.queue) > 0 {
		w.fail("liveness: no end after %v", settling)
		return
	}
	w.check.final()
	w.quiet = true
	for _, n := range slices.Clone(w.api.nodes) {
		w.heartbeat(n.Name)
	}
	for _, s := range w.api.streams {
		s.cut(false)
	}
	for _, c := range w.controllers {
		c.touch()
	}
	w.play(w.now + quietTime)
}

// updated returns how many nodes have a pod of the current revision that is ready.
func (w *world) updated() (n int) {
	for _, p := range w.api.pods {
		if live(&p.Pod) && p.Ready && isCurrent(&w.api.set.spec, p) {
			n++
		}
	}
	return n
}

// heartbeat is a change of a node that does not matter.
func (w *world) heartbeat(name string) { w.api.putNode(name, func(*node) {}) }

// expect compares the report with what the scenario expects.
func (w *world) expect() {
	r := &w.check.report
	got := map[string]int{"creates": r.Creates, "deletes": r.Deletes, "forced": r.Forced, "doubles": r.Doubles, "killed": r.Killed, "updated": r.Updated, "changes": r.Changes}
	for _, line := range w.sc.Expect {
		words := strings.Fields(line)
		if words[0] == "phase" {
			if w.check.report.Phase != words[2] {
				w.fail("expected %s, it is %s", line, w.check.report.Phase)
			}
			continue
		}
		want, _ := strconv.Atoi(words[2])
		have := got[words[0]]
		if good := map[string]bool{"=": have == want, "<=": have <= want, ">=": have >= want}[words[1]]; !good {
			w.fail("expected %s, got %d", line, have)
		}
	}
}

// release gives the DaemonSet the template of a revision.
func (w *world) release(hash string) {
	w.edit(func(s *plan.Spec) { s.Hash, s.Placement = hash, w.sc.placement(hash) })
}

// edit changes the DaemonSet's specification.
func (w *world) edit(change func(*plan.Spec)) {
	w.api.putSet(func(s *daemonSet) {
		template := s.spec.Hash
		change(&s.spec)
		s.generation++
		if s.spec.Hash != template {
			s.spec.Generation++ // as the API server counts templates
			clear(w.check.spent)
		}
	})
	w.tracef("user     edits: revision %s, maxUnavailable %v, maxSurge %v", w.api.set.spec.Hash, w.api.set.spec.MaxUnavailable, w.api.set.spec.MaxSurge)
}

func (e Event) String() string {
	return strings.Join(append([]string{e.At.String(), e.Op}, e.Args...), " ")
}
