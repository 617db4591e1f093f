package engine

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A slot is one act on one node. When it fails it is tried again by itself, after a
// pause that grows with each failure, whatever the cause; other acts on the node are
// tried meanwhile.

// forgetRetry is how long after its time a pause is remembered, so that the next
// one grows.
const forgetRetry = 2 * delivery.MaxRetry

// retries is the slots that have failed, by node name.
type retries map[string][]retry

// retry is when a slot that failed may be tried again, and what has failed.
type retry struct {
	act   plan.Act
	at    time.Time
	delay time.Duration
	what  string
}

// of is what is remembered of a slot; the zero value: nothing.
func (r retries) of(node string, act plan.Act) retry {
	if i := slices.IndexFunc(r[node], func(o retry) bool { return o.act == act }); i >= 0 {
		return r[node][i]
	}
	return retry{act: act}
}

// drop forgets the slots of a node that is picks.
func (r retries) drop(node string, is func(retry) bool) {
	if left := slices.DeleteFunc(r[node], is); len(left) > 0 {
		r[node] = left
	} else {
		delete(r, node)
	}
}

// forget forgets one slot.
func (r retries) forget(node string, act plan.Act) {
	r.drop(node, func(o retry) bool { return o.act == act })
}

// failed puts a slot off.
func (s *state) failed(node string, act plan.Act, at delivery.Pace, now time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putOffFor(node, act, at, now, what)
}

func (s *state) putOffFor(node string, act plan.Act, at delivery.Pace, now time.Time, what string) {
	delay := at.Next(s.retries.of(node, act).delay)
	s.retry(node, retry{act: act, at: now.Add(delay), delay: delay, what: what})
}

// putOff keeps a slot that was not tried from being tried before at.
func (s *state) putOff(node string, act plan.Act, at time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.retries.of(node, act); at.After(r.at) {
		s.retry(node, retry{act: act, at: at, delay: r.delay, what: what})
	}
}

func (s *state) retry(node string, r retry) {
	s.retries.forget(node, r.act)
	s.retries[node] = append(s.retries[node], r)
	heap.Push(&s.timers, timer{at: r.at, node: node})
}

// worked clears the slot's failures.
func (s *state) worked(node string, act plan.Act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.forget(node, act)
}

// pauseOf is how long the slot's last pause was; zero when it has not failed lately.
func (s *state) pauseOf(node string, act plan.Act) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retries.of(node, act).delay
}

// waits says that the slot failed and its time has not come.
func (s *state) waits(node string, act plan.Act, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, refused := s.trial.refused[node]
	return refused && act.Kind == plan.Creating || s.retries.of(node, act).at.After(now)
}

// waitsOf is what waits on a node.
func (s *state) waitsOf(node string, now time.Time) (waits []plan.Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if what, refused := s.trial.refused[node]; refused {
		waits = append(waits, plan.Wait{What: what})
	}
	for _, r := range s.retries[node] {
		until := r.at
		if !isWrite(r) && r.at.After(s.claimedAt) && !r.at.After(now) {
			until = now.Add(delivery.FirstRetry) // it was not due when pods were claimed for this decision
		}
		if until.After(now) {
			waits = append(waits, plan.Wait{Act: r.act, Until: until, What: r.what, Pause: r.delay})
		}
	}
	return waits
}

// afresh forgets what was refused before the last edit, which may be what ends the trouble:
// Kubernetes' controller tries at once, too. It says whether there was one.
func (s *state) afresh(generation int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.generation
	s.generation = generation
	if before == 0 || before == generation {
		return false
	}
	// Whoever edits all the time does not have all nodes tried each time.
	calm := s.trial.passed && len(s.retries)+len(s.trial.refused) == 0
	s.retries, s.timers, s.trial = retries{}, nil, trial{passed: calm}
	return true
}

// isWrite says that the slot is that of an act of a plan.
func isWrite(r retry) bool { return r.act.Kind != plan.Claiming }

// renewed forgets what was refused on an earlier node of that name, and that its pods did
// not last. The back-off of pods that fail stays: Kubernetes' controller, too, keeps it
// by name. So does that a pod could not be claimed: what the node has is not known until
// it is, and a decision may be under way.
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
	delete(s.remakes, node)
}

// retryable appends the nodes with slots that may be tried again to into, and says
// when the next one may; zero when none waits. Each is said once, however late this
// is asked. How long a slot had to wait is remembered for a while longer.
func (s *state) retryable(now time.Time, into []string) ([]string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		t := heap.Pop(&s.timers).(timer)
		if slices.ContainsFunc(s.retries[t.node], func(r retry) bool { return t.at.Equal(r.at) }) {
			into = append(into, t.node)
			heap.Push(&s.timers, timer{at: t.at.Add(forgetRetry), node: t.node})
		}
		s.retries.drop(t.node, func(r retry) bool { return t.at.Equal(r.at.Add(forgetRetry)) })
	}
	if len(s.timers) == 0 {
		return into, time.Time{}
	}
	return into, s.timers[0].at
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

// Push and Pop serve package container/heap.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}
