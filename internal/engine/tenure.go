package engine

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// errLapsed is why a write of a process that may lead no more was not sent.
var errLapsed = errors.New("engine: the lease was not renewed in time, and may be another's by now; nothing is written until it is won again")

// tenure is one stretch of leadership. It lasts until renewDeadline after the
// last renewal was sent, or until somebody else is seen to hold the lease, and
// then it is over for good. Every write asks it right before it is sent.
//
// The elector alone would not do. It gives up renewDeadline after it has begun
// to try, and a process that was frozen, or whose machine was suspended, begins
// to try when it wakes up: it would write for ten seconds beside its successor.
// Then it would release the lease that is not its own any more.
type tenure struct {
	mu      sync.Mutex
	renewed time.Time // when the last renewal that succeeded was sent; zero: none has yet
	over    bool
	stop    func() // ends the work
}

// begin says how to end the work.
func (t *tenure) begin(stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop = stop
	if t.over {
		stop()
	}
}

// holds says that nobody else can lead at that time, nor until a request that
// is sent then has ended.
func (t *tenure) holds(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.renewed.IsZero() && elapsed(t.renewed, now) > renewDeadline {
		t.end()
	}
	return !t.over
}

// renew notes a renewal that has succeeded, by the time when it was sent.
func (t *tenure) renew(sent time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewed = sent
}

// lose notes that somebody else holds the lease.
func (t *tenure) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.renewed.IsZero() {
		t.end()
	}
}

func (t *tenure) end() {
	t.over = true
	if t.stop != nil {
		t.stop()
	}
}

// elapsed is the time that has passed for the world: the clock that counts on
// stands still while a machine is suspended, and the one on the wall is set.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

type tenureKey struct{}

// during returns a context whose writes are sent only while t lasts.
func (t *tenure) during(ctx context.Context) context.Context {
	return context.WithValue(ctx, tenureKey{}, t)
}

// guardWrites makes a client refuse writes when the tenure that their context
// belongs to is over.
func guardWrites(c *rest.Config) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return guard{next} })
}

type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	t, ok := req.Context().Value(tenureKey{}).(*tenure)
	if !ok || req.Method == http.MethodGet || t.holds(time.Now()) {
		return g.next.RoundTrip(req)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, errLapsed
}

// tenureLock tells the tenure what becomes of the lease. A lease that may be
// another's is neither renewed nor released.
type tenureLock struct {
	resourcelock.Interface
	tenure *tenure
	// won remembers that the election was won, which the elector tells nobody
	// but a goroutine that may not have run yet when the election is over.
	won bool
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
	sent := time.Now()
	if !l.tenure.holds(sent) {
		return errLapsed
	}
	err := do(ctx, record)
	if err == nil && record.HolderIdentity == l.Identity() {
		l.tenure.renew(sent)
	}
	return err
}
