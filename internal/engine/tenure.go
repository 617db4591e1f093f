package engine

// What happens when the lease is lost: the tenure is over. Writes that are not sent yet are
// refused (guard), the work ends, and the lease is not touched (tenureLock.write). Writes that
// were sent have ended by then: the deadlines are in leader.go. The process stands by, and lead
// tries to win the lease again. The reasons are in docs/design/the-fence.md.

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"everynode/internal/delivery"
)

// errLapsed is why a write was not sent: the process may no longer lead.
var errLapsed = errors.New("engine: the lease was not renewed in time, and another process may hold it now; writing nothing until it is won again")

// errOpen is why a lease was not released.
var errOpen = errors.New("engine: a write got no answer and may still take effect; leaving the lease to expire")

// tenure is one stretch of leadership. It lasts until delivery.RenewDeadline after the last
// renewal was sent, or until somebody else is seen to hold the lease, and then it is over for
// good. Every write checks it right before it is sent.
//
// The elector alone is not enough. It gives up delivery.RenewDeadline after its first failed try,
// and a process that was frozen, or whose machine was suspended, begins to try when it wakes up:
// it would write for ten seconds beside its successor. Then it would release a lease that is no
// longer its own.
//
// A tenure also sets the term of the lease. A write that may take delivery.SlowTimeout first has
// the lease renewed for delivery.SlowLeaseTerm, and keeps that term until it is answered or can
// no longer take effect.
type tenure struct {
	mu      sync.Mutex
	renewed time.Time     // when the last successful renewal was sent; zero: none yet
	term    time.Duration // the shortest term of all renewals that may be in force
	over    bool
	stop    func()        // ends the work
	changed chan struct{} // closed, and replaced, when one of these changes

	slow int // writes that may take delivery.SlowTimeout, or wait for a lease that allows it
	// Until when writes without an answer may take effect: those that we cancelled ourselves,
	// which the server was told, and others.
	ended, open time.Time
}

func newTenure() *tenure { return &tenure{changed: make(chan struct{})} }

// begin sets how to end the work.
func (t *tenure) begin(stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop = stop
	if t.over {
		stop()
	}
}

// holds reports whether nobody else can lead at that time.
func (t *tenure) holds(now time.Time) bool { return t.allows(now) > 0 }

// allows returns how long a write sent at that time may take, so that it has ended before anybody
// else can lead; zero: none may be sent.
func (t *tenure) allows(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.covered(now)
}

func (t *tenure) covered(now time.Time) time.Duration {
	if !t.renewed.IsZero() && elapsed(t.renewed, now) > delivery.RenewDeadline {
		t.end()
	}
	if t.over {
		return 0
	}
	return max(t.term, delivery.LeaseTerm) - delivery.RenewDeadline - delivery.Transit
}

// extend returns when the lease lets a write take delivery.SlowTimeout. It stays so until
// shorten is called.
func (t *tenure) extend(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slow++
	for t.covered(time.Now()) < delivery.SlowTimeout {
		changed := t.changed
		if t.over {
			t.slow--
			return errLapsed
		}
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			t.slow--
			return ctx.Err()
		}
	}
	return nil
}

func (t *tenure) shorten() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slow--
}

// leftOpen records that a write got no answer and can take effect until then. ended says that
// this process cancelled it.
func (t *tenure) leftOpen(until time.Time, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := &t.open
	if ended {
		at = &t.ended
	}
	if until.After(*at) {
		*at = until
	}
}

// openUntil returns when no write of this tenure can still take effect; without all, it leaves out writes
// that this process cancelled.
func (t *tenure) openUntil(all bool) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all && t.ended.After(t.open) {
		return t.ended
	}
	return t.open
}

// renews is called before a renewal is sent, and returns its term. A term that is shorter than
// the last counts from now on: it may be in force even if its answer is never seen.
func (t *tenure) renews(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	term := delivery.LeaseTerm
	left := max(t.open.Sub(now), t.ended.Sub(now))
	if t.slow > 0 || left > delivery.LeaseTerm-delivery.RenewDeadline {
		term = delivery.SlowLeaseTerm
	}
	t.term = min(t.term, term)
	return term
}

// renew records a successful renewal, with the time when it was sent.
func (t *tenure) renew(sent time.Time, term time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewed, t.term = sent, term
	t.tell()
}

// lose records that somebody else holds the lease.
func (t *tenure) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.renewed.IsZero() {
		t.end()
	}
}

func (t *tenure) end() {
	if t.over {
		return
	}
	t.over = true
	t.tell()
	if t.stop != nil {
		t.stop()
	}
}

func (t *tenure) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// elapsed returns the larger of monotonic and wall-clock time: the monotonic clock stops while a
// machine is suspended, and the wall clock can be set.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

type tenureKey struct{}

// during returns a context whose writes are sent only while t lasts.
func (t *tenure) during(ctx context.Context) context.Context {
	return context.WithValue(ctx, tenureKey{}, t)
}

func tenureOf(ctx context.Context) *tenure {
	t, _ := ctx.Value(tenureKey{}).(*tenure)
	return t
}

// guardWrites makes a client refuse writes when the tenure of their context is over, and tell the
// API server how long the others may take: the server does not notice when it is cut off from
// their sender.
func guardWrites(c *rest.Config) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return guard{next} })
}

type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet {
		return g.next.RoundTrip(req)
	}
	now, limit := time.Now(), time.Duration(0)
	if deadline, limited := req.Context().Deadline(); limited {
		limit = max(deadline.Sub(now), time.Millisecond)
	}
	if t := tenureOf(req.Context()); t != nil {
		allowed := t.allows(now)
		if allowed <= 0 {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, errLapsed
		}
		if limit == 0 || limit > allowed {
			limit = allowed
		}
	}
	if limit > 0 {
		req = within(req, limit)
	}
	return g.next.RoundTrip(req)
}

// within returns the request with a deadline for the server.
func within(req *http.Request, limit time.Duration) *http.Request {
	told, query := *req.URL, req.URL.Query()
	query.Set("timeout", limit.Round(time.Millisecond).String())
	told.RawQuery = query.Encode()
	req = req.WithContext(req.Context())
	req.URL = &told
	return req
}

// tenureLock keeps the tenure informed about the lease. It neither renews nor releases a lease
// that may belong to another process.
type tenureLock struct {
	resourcelock.Interface
	tenure *tenure
	// won remembers that the election was won: the elector reports that only to a goroutine that
	// may not have run yet when the election is over.
	won bool
	// asks: a try to win the lease is under way.
	asks atomic.Bool
}

func (l *tenureLock) RecordEvent(what string) {
	l.won = l.won || what == "became leader"
	l.Interface.RecordEvent(what)
}

func (l *tenureLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err == nil && record.HolderIdentity != l.Identity() {
		l.tenure.lose()
	}
	return record, raw, err
}

func (l *tenureLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Create)
}

func (l *tenureLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Update)
}

func (l *tenureLock) write(ctx context.Context, record resourcelock.LeaderElectionRecord,
	do func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	if record.HolderIdentity != l.Identity() { // the lease is released
		if !sleep(ctx, time.Until(l.tenure.openUntil(false))) {
			return errOpen
		}
	}
	sent := time.Now()
	if !l.tenure.holds(sent) {
		return errLapsed
	}
	if record.HolderIdentity != l.Identity() {
		return do(ctx, record)
	}
	term := l.tenure.renews(sent)
	record.LeaseDurationSeconds = int(term / time.Second)
	if !l.won {
		// Wait for the answer even if the election ends meanwhile: otherwise the server could
		// give the lease to a process that does not know it and would not release it. The client
		// has its own deadline.
		ctx = context.WithoutCancel(ctx)
		l.asks.Store(true)
		defer l.asks.Store(false)
	}
	err := do(ctx, record)
	if err == nil {
		l.tenure.renew(sent, term)
	}
	return err
}
