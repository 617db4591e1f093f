package engine

import (
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// identity tells DaemonSets apart. One that is made again under the name of
// another is another: nothing that is under way or remembered of the first is
// the second's.
type identity struct {
	types.NamespacedName
	uid types.UID
}

func identityOf(ds *appsv1.DaemonSet) identity { return identity{keyOf(ds), ds.UID} }

// state is what is remembered of one DaemonSet from one decision to the next.
// The fields above mu belong to the worker that has the DaemonSet.
type state struct {
	id identity
	// looking is held while the ledger changes; who is not the worker reads it
	// under looking.
	looking sync.Mutex
	ledger  plan.Ledger
	set     *setEntry                  // that the ledger is for; nil: every node must be looked at
	hash    string                     // the same of the revision
	mold    func() (*view.Mold, error) // of the pods that set and hash ask for
	now     time.Time                  // of the last decision
	names   []string                   // room for it

	statusAt time.Time     // when the status was last written
	heldAt   time.Time     // since when a status waits for writes to end; zero: none does
	busy     time.Duration // how long the last decision took
	halted   int64         // the generation whose halt was announced
	binder   string        // what is wrong with who binds, as announced
	past     *past         // nil: the history must be worked out
	// foreign is the UIDs of pods whose template number says nothing of this
	// DaemonSet: see readNewer.
	foreign     map[string]bool
	course      course
	following   following // of the ledger
	searched    bool      // see searchOwn
	rolling     bool      // the last decision deletes or changes pods for being outdated
	inPlace     inPlace
	update      string    // what is wrong with how pods are to be updated, as announced
	confirmedAt time.Time // when the server last said that the DaemonSet is as known

	mu         sync.Mutex
	generation int64     // of the DaemonSet, when it was last decided on
	claimedAt  time.Time // when pods were last claimed, but for those that wait
	// retries and trial are of this generation.
	retries retries
	timers  timers // when to look at the nodes of retries; some are outdated
	backoff map[string]plan.Backoff
	found   map[string]bool // UIDs of ended pods that were announced
	// remakes is, by node name, the pods that were created lately, all of the
	// revision remadeOf.
	remakes  map[string]remade
	remadeOf string
	// reached is the nodes that the last release which gave any its target has begun to, each with what has begun: the UIDs of the
	// pods that are deleted or changed, or an empty one for a create.
	reached   map[string][]string
	reachedBy goal
	trial     trial
	unsettled map[string]unsettled // by node name: creates that may still arrive
	// class is the priority class that the API server has let a pod have.
	class string
}

// goal is what a release gives to nodes. While no state can be kept, one number may stand for several targets.
type goal struct {
	release int
	target  string
}

// goal is what the write gives its node, if it reaches it.
func (w *write) goal() goal { return goal{w.reaches, w.edition} }

// reach notes that a write has begun by which a release gives a node its target.
func (s *state) reach(w *write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by := w.goal(); s.reached == nil || s.reachedBy != by {
		s.reached, s.reachedBy = map[string][]string{}, by
	}
	_, uid := w.about()
	if begun := s.reached[w.node()]; !slices.Contains(begun, uid) {
		s.reached[w.node()] = append(begun, uid)
	}
}

// unreach notes that such a write, a delete, has done nothing: the node keeps that pod, and, unless another write has reached it,
// waits for its turn again.
func (s *state) unreach(w *write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reachedBy != w.goal() {
		return
	}
	_, undone := w.about()
	begun := slices.DeleteFunc(s.reached[w.node()], func(uid string) bool { return uid == undone })
	if s.reached[w.node()] = begun; len(begun) == 0 {
		delete(s.reached, w.node())
	}
}

// reachedWith is the release that has begun to give the node that target; zero: none.
func (s *state) reachedWith(node, target string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reached[node]) == 0 || s.reachedBy.target != target {
		return 0
	}
	return s.reachedBy.release
}

func newState(id identity) *state {
	return &state{id: id, retries: retries{}, backoff: map[string]plan.Backoff{}, found: map[string]bool{}}
}

// stateOf is the memory of this very DaemonSet; one of the same name that was
// deleted before has left none.
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

// waited records that a pod which was created at that time has gone, or could
// not be made, without being bound.
func (s *state) waited(node string, created, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backoff[node] = s.backoff[node].Waits(created, now)
}

// backoffOf is the back-off of a node; none when it is over.
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

// announce says whether this is the first time that the pod is found ended.
func (s *state) announce(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found[uid] {
		return false
	}
	s.found[uid] = true
	return true
}

// admit notes that a pod of that priority class was created; admitted says
// whether one was.
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
