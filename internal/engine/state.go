package engine

import (
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// identity identifies a DaemonSet. A DaemonSet that is recreated under the same name is a different one: nothing that
// is under way or remembered for the first belongs to the second.
type identity struct {
	types.NamespacedName
	uid types.UID
}

func identityOf(ds *appsv1.DaemonSet) identity { return identity{keyOf(ds), ds.UID} }

// state is what is remembered about one DaemonSet from one decision to the next. The fields above mu belong to the
// worker that has the DaemonSet.
type state struct {
	id identity
	// looking guards the ledger. The worker holds it while it changes the ledger; everyone else must hold it to read.
	looking sync.Mutex
	ledger  plan.Ledger
	set     *setEntry                  // that the ledger is for; nil: every node must be looked at
	hash    string                     // the revision that the ledger is for
	mold    func() (*view.Mold, error) // of the pods that set and hash ask for
	now     time.Time                  // of the last decision
	names   []string                   // reused memory

	statusAt time.Time     // when the status was last written
	heldAt   time.Time     // since when a status waits for writes to end; zero: none waits
	busy     time.Duration // how long the last decision took
	halted   int64         // the generation whose halt was announced
	binder   string        // the error about who binds, as announced
	past     *past         // nil: the history must be computed
	// foreign is the set of UIDs of pods whose template number says nothing about this DaemonSet: see readNewer.
	foreign     map[string]bool
	course      course
	following   following // of the ledger
	searched    bool      // see searchOwn
	rolling     bool      // the last decision deletes or changes pods for being outdated
	inPlace     inPlace
	update      string    // the error about how pods are updated, as announced
	confirmedAt time.Time // when the server last said that the DaemonSet is as known

	mu         sync.Mutex
	generation int64     // of the DaemonSet, when it was last decided on
	claimedAt  time.Time // when pods were last claimed, except those that wait
	// retries and trial are of this generation.
	retries retries
	backoff map[string]plan.Backoff
	found   map[string]bool // UIDs of ended pods that were announced
	// remakes has, by node name, the pods that were created recently, all of the revision remadeOf.
	remakes   map[string]remade
	remadeOf  string
	reached   reached
	refusals  refusedNodes
	trial     trial
	unsettled map[string]unsettled // by node name: creates that may still take effect
	// class is the priority class that the API server has admitted for a pod.
	class string
}

// reach records that a write has begun by which a release gives a node its target.
func (s *state) reach(w *write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached.begin(w)
}

// reachEnds records how such a write has ended. A write that reaches no node changes nothing.
func (s *state) reachEnds(w *write, r *result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case w.takenBack(r):
		s.reached.undo(w)
	case w.create != nil:
		s.reached.mayBe(w)
	}
}

// reachedWith returns the number of the release that has begun to give the node that target, if its state is still kept
// by the same object; zero: none.
func (s *state) reachedWith(node, target string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by := s.reached.by; len(s.reached.nodes[node]) > 0 && by.target == target && by.release.keeper == s.course.keeper() {
		return by.release.number
	}
	return 0
}

func newState(id identity) *state {
	return &state{id: id, backoff: map[string]plan.Backoff{}, found: map[string]bool{}}
}

// stateOf returns the memory of exactly this DaemonSet; an earlier one of the same name has left none.
func (e *engine) stateOf(ds *appsv1.DaemonSet) *state {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := keyOf(ds)
	if s := e.states[key]; s != nil && s.id.uid == ds.UID {
		return s
	}
	s := newState(identityOf(ds))
	e.states[key] = s
	return s
}

// ended records that a pod that had failed or succeeded was deleted.
func (s *state) ended(d plan.Delete, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backoff[d.Node] = s.backoff[d.Node].After(d, now)
	delete(s.found, d.UID)
}

// waited records that a pod created at that time has gone without being bound, or could not be created.
func (s *state) waited(node string, created, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backoff[node] = s.backoff[node].Waits(created, now)
}

// backoffOf returns the back-off of a node; none when it is over.
func (s *state) backoffOf(node string, now time.Time) plan.Backoff {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, known := s.backoff[node]
	if known && b.Expired(now) {
		delete(s.backoff, node)
		b = plan.Backoff{}
	}
	if r, known := s.remakes[node]; known && r.Expired(now) {
		delete(s.remakes, node)
	} else {
		b.Remakes = r.Remakes
	}
	return b
}

// announce reports whether the pod is found ended for the first time.
func (s *state) announce(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found[uid] {
		return false
	}
	s.found[uid] = true
	return true
}

// admit records that a pod of that priority class was created; admitted reports whether one was.
func (s *state) admit(class string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.class = class
}

func (s *state) admitted(class string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.class == class
}
