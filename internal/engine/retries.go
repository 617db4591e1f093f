package engine

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A slot is one kind of write on one node. When it fails, it alone is retried, after a pause that
// grows with each failure, whatever the cause; other writes on the node are tried meanwhile.

// forgetRetry is how long a pause is remembered after its end, so that the next one grows.
const forgetRetry = 2 * delivery.MaxRetry

// retries holds the slots that have failed.
type retries struct {
	slots  map[string][]retry // by node name
	timers timers             // when to look at their nodes; some entries are outdated
}

// retry is when a failed slot may be retried, and what has failed.
type retry struct {
	act   plan.Act
	at    time.Time
	delay time.Duration
	what  string
}

// of returns what is remembered about a slot; the zero value: nothing.
func (r *retries) of(node string, act plan.Act) retry {
	if i := slices.IndexFunc(r.slots[node], func(o retry) bool { return o.act == act }); i >= 0 {
		return r.slots[node][i]
	}
	return retry{act: act}
}

// drop forgets the slots of a node that is selects.
func (r *retries) drop(node string, is func(retry) bool) {
	if left := slices.DeleteFunc(r.slots[node], is); len(left) > 0 {
		r.slots[node] = left
	} else {
		delete(r.slots, node)
	}
}

// forget forgets one slot.
func (r *retries) forget(node string, act plan.Act) {
	r.drop(node, func(o retry) bool { return o.act == act })
}

// failed postpones a slot, longer each time.
func (r *retries) failed(node string, act plan.Act, at delivery.Pace, now time.Time, what string) {
	delay := at.Next(r.of(node, act).delay)
	r.put(node, retry{act: act, at: now.Add(delay), delay: delay, what: what})
}

// put postpones a slot.
func (r *retries) put(node string, o retry) {
	r.forget(node, o.act)
	if r.slots == nil {
		r.slots = map[string][]retry{}
	}
	r.slots[node] = append(r.slots[node], o)
	heap.Push(&r.timers, timer{at: o.at, node: node})
}

// failed postpones a slot.
func (s *state) failed(node string, act plan.Act, at delivery.Pace, now time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.failed(node, act, at, now, what)
}

// putOff postpones an untried slot until at.
func (s *state) putOff(node string, act plan.Act, at time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.retries.of(node, act); at.After(r.at) {
		s.retries.put(node, retry{act: act, at: at, delay: r.delay, what: what})
	}
}

// worked clears the slot's failures.
func (s *state) worked(node string, act plan.Act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.forget(node, act)
}

// pauseOf returns how long the slot's last pause was; zero if it has not failed recently.
func (s *state) pauseOf(node string, act plan.Act) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retries.of(node, act).delay
}

// waits reports whether the slot failed and its time has not come.
func (s *state) waits(node string, act plan.Act, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, refused := s.trial.refused[node]
	return refused && act.Kind == plan.Creating || s.retries.of(node, act).at.After(now)
}

// waitsOf returns what waits on a node.
func (s *state) waitsOf(node string, now time.Time) (waits []plan.Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if what, refused := s.trial.refused[node]; refused {
		waits = append(waits, plan.Wait{What: what})
	}
	for _, r := range s.retries.slots[node] {
		until := r.at
		if !isWrite(r) && r.at.After(s.claimedAt) && !r.at.After(now) {
			until = now.Add(delivery.FirstRetry) // it was not due when pods were claimed for this decision
		}
		if until.After(now) {
			waits = append(waits, plan.Wait{Act: r.act, Until: until, What: r.what})
		}
	}
	return waits
}

// afresh forgets refusals from before the last edit, because the edit may end the trouble:
// Kubernetes' controller also tries at once. It reports whether there was an edit.
func (s *state) afresh(generation int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.generation
	s.generation = generation
	if before == 0 || before == generation {
		return false
	}
	// Continuous edits must not cause a try on all nodes each time.
	calm := s.trial.passed && len(s.retries.slots)+len(s.trial.refused) == 0
	s.retries, s.trial, s.refusals = retries{}, trial{passed: calm}, refusedNodes{}
	return true
}

// isWrite reports whether the slot is that of a write in a plan.
func isWrite(r retry) bool { return r.act.Kind != plan.Claiming }

// renewed forgets what was refused on an earlier node of that name, that its pods did not last, and that a release has
// reached it. The back-off of failed pods stays: Kubernetes' controller also keeps it by name. But these pods say nothing
// about a revision on the new node. Failed claims stay as well: until a pod is claimed it is not known what the node has,
// and a decision may be under way.
func (e *engine) renewed(node string) {
	e.mu.Lock()
	states := slices.Collect(maps.Values(e.states))
	e.mu.Unlock()
	for _, s := range states {
		s.renewed(node)
	}
}

func (s *state) renewed(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.drop(node, isWrite)
	delete(s.trial.refused, node)
	delete(s.refusals.nodes, node)
	delete(s.remakes, node)
	delete(s.reached.nodes, node)
	if b, known := s.backoff[node]; known {
		b.Hash = ""
		s.backoff[node] = b
	}
}

// retryable appends to into the nodes with slots that may be retried, and returns when the next
// one may be; zero when none waits. Each is returned once, however late the call. The length of a
// slot's pause is remembered for a while longer.
func (s *state) retryable(now time.Time, into []string) ([]string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.retries.timers) > 0 && !s.retries.timers[0].at.After(now) {
		t := heap.Pop(&s.retries.timers).(timer)
		if slices.ContainsFunc(s.retries.slots[t.node], func(r retry) bool { return t.at.Equal(r.at) }) {
			into = append(into, t.node)
			heap.Push(&s.retries.timers, timer{at: t.at.Add(forgetRetry), node: t.node})
		}
		s.retries.drop(t.node, func(r retry) bool { return t.at.Equal(r.at.Add(forgetRetry)) })
	}
	if len(s.retries.timers) == 0 {
		return into, time.Time{}
	}
	return into, s.retries.timers[0].at
}

// timer is when to look at a node again.
type timer struct {
	at   time.Time
	node string
}

// timers is a heap for package container/heap, the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push and Pop are for package container/heap.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}
