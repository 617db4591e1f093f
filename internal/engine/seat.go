package engine

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// A decision takes a seat while it works. Seats limit how many decisions compute at once, not how
// many requests are waited for: a decision whose request is not answered soon gives its seat to
// another one, and takes one again afterwards. So DaemonSets whose writes hang hold up no others.

// seatPatience is how long a request may keep a seat.
const seatPatience = 100 * time.Millisecond

// maxAway is how many decisions of a namespace may be without a seat. Its other decisions come
// later.
const (
	maxAway   = 8
	awayPause = time.Second
)

// seats are the seats of an engine.
type seats struct {
	free chan struct{}

	mu    sync.Mutex
	taken map[*seat]struct{}
	away  map[string]int // by namespace
}

func newSeats(n int) *seats {
	return &seats{free: make(chan struct{}, n), taken: map[*seat]struct{}{}, away: map[string]int{}}
}

// seat is the seat of one decision.
type seat struct {
	of        *seats
	namespace string

	mu      sync.Mutex
	waiting int         // requests that it waits for
	timer   *time.Timer // gives the seat away
	away    bool
	seated  chan struct{} // closes when a seat is taken again; nil: nobody is about to take one
	since   time.Time     // when it began, or had its last answer
}

func (s *seats) take() { s.free <- struct{}{} }
func (s *seats) give() { <-s.free }

// crowded reports whether enough decisions of the namespace wait for answers.
func (s *seats) crowded(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away[namespace] >= maxAway
}

// sit assigns the taken seat to a decision, until it stands up.
func (s *seats) sit(namespace string) *seat {
	st := &seat{of: s, namespace: namespace, since: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[st] = struct{}{}
	return st
}

func (s *seats) stand(st *seat) {
	s.mu.Lock()
	delete(s.taken, st)
	s.mu.Unlock()
	s.give()
}

// longest returns the longest time for which a decision under way has made no progress.
func (s *seats) longest() (d time.Duration) {
	s.mu.Lock()
	taken := slices.Collect(maps.Keys(s.taken))
	s.mu.Unlock()
	for _, st := range taken {
		st.mu.Lock()
		d = max(d, time.Since(st.since))
		st.mu.Unlock()
	}
	return d
}

type seatKey struct{}

// seated returns a context whose requests may give the seat away.
func seated(ctx context.Context, st *seat) context.Context {
	return context.WithValue(ctx, seatKey{}, st)
}

// waits is called before a request; call the returned function after it.
func waits(ctx context.Context) (done func()) {
	st, ok := ctx.Value(seatKey{}).(*seat)
	if !ok {
		return func() {}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.waiting++; st.waiting == 1 {
		st.timer = time.AfterFunc(seatPatience, st.leave)
	}
	return st.back
}

// leave gives the seat away if a request is still being waited for.
func (st *seat) leave() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.waiting == 0 || st.away {
		return
	}
	st.away = true
	st.of.move(st.namespace, 1)
	st.of.give()
}

// back takes a seat again when the last request has been answered, and returns when the decision has one. It does not
// keep the lock while it waits: another request of the decision may begin meanwhile.
func (st *seat) back() {
	seated, take := st.answered()
	if take {
		st.of.take()
		st.returned()
	} else if seated != nil {
		<-seated
	}
}

// answered counts an answer. If a seat is needed, seated closes when the decision has it, and take says that the
// caller must take it.
func (st *seat) answered() (seated <-chan struct{}, take bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.since = time.Now()
	if st.waiting--; st.waiting > 0 {
		return nil, false
	}
	st.timer.Stop()
	if !st.away {
		return nil, false
	}
	if take = st.seated == nil; take {
		st.seated = make(chan struct{})
	}
	return st.seated, take
}

// returned records that the seat is taken again.
func (st *seat) returned() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.away = false
	st.of.move(st.namespace, -1)
	close(st.seated)
	st.seated = nil
	if st.waiting > 0 { // for a request that has begun meanwhile, and whose timer found no seat to give away
		st.timer.Reset(seatPatience)
	}
}

func (s *seats) move(namespace string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away[namespace] += by; s.away[namespace] == 0 {
		delete(s.away, namespace)
	}
}
