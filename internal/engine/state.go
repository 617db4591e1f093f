package engine

import (
	"maps"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
)

// The pauses of a slot whose write failed.
const (
	firstRetry = 250 * time.Millisecond
	maxRetry   = time.Minute
)

// state is what is remembered of one DaemonSet from one decision to the next.
// The fields above mu belong to the worker that has the DaemonSet.
type state struct {
	uid      string
	in       plan.Input
	out      plan.Plan
	statusAt time.Time     // when the status was last written
	heldAt   time.Time     // since when a status waits for writes to end; zero: none does
	busy     time.Duration // how long the last decision took
	halted   int64         // the generation whose halt was announced
	past     *past         // nil: the history must be worked out

	mu      sync.Mutex
	retries map[string]retry // by node name
	backoff map[string]plan.Backoff
	found   map[string]bool // UIDs of ended pods that were announced
}

// retry is when a slot that failed may be tried again.
type retry struct {
	at    time.Time
	delay time.Duration
}

func newState(uid string) *state {
	return &state{uid: uid, retries: map[string]retry{}, backoff: map[string]plan.Backoff{}, found: map[string]bool{}}
}

// stateOf is the memory of this very DaemonSet; one of the same name that was
// deleted before has left none.
func (e *engine) stateOf(ds *appsv1.DaemonSet) *state {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := keyOf(ds)
	if s := e.states[key]; s != nil && s.uid == string(ds.UID) {
		return s
	}
	s := newState(string(ds.UID))
	e.states[key] = s
	return s
}

// failed puts a slot off, twice as long each time.
func (s *state) failed(node string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delay := min(max(2*s.retries[node].delay, firstRetry), maxRetry)
	s.retries[node] = retry{at: now.Add(delay), delay: delay}
}

// worked clears the slot's failures.
func (s *state) worked(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.retries, node)
}

// putOff keeps a slot from being tried before at.
func (s *state) putOff(node string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.retries[node]
	if at.After(r.at) {
		s.retries[node] = retry{at: at, delay: r.delay}
	}
}

// waits says that the slot failed and its time has not come.
func (s *state) waits(node string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retries[node].at.After(now)
}

// nextRetry is when the first such slot may be tried again; zero when none
// waits. Slots long past their pause are forgotten.
func (s *state) nextRetry(now time.Time) (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, r := range s.retries {
		switch {
		case r.at.After(now):
			if at.IsZero() || r.at.Before(at) {
				at = r.at
			}
		case now.Sub(r.at) > 2*maxRetry:
			delete(s.retries, node)
		}
	}
	return at
}

// ended records that a pod that had failed or succeeded was deleted.
func (s *state) ended(d plan.Delete, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backoff[d.Node] = s.backoff[d.Node].After(d, now)
	delete(s.found, d.UID)
}

// backoffs copies the back-offs, without those that are over, into into.
func (s *state) backoffs(into map[string]plan.Backoff, now time.Time) map[string]plan.Backoff {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.backoff, func(_ string, b plan.Backoff) bool { return b.Expired(now) })
	if into == nil {
		into = map[string]plan.Backoff{}
	}
	clear(into)
	maps.Copy(into, s.backoff)
	return into
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
