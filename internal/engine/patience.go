package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/delivery"
)

// How long reads may take, and for how long requests of a kind still get more time after one that did not need it.
const (
	listTimeout = 30 * time.Second // of a page, at first
	calmAfter   = time.Minute
)

// kind groups requests that take about equally long: a webhook covers some verbs and resources, and often one
// namespace.
type kind struct{ what, namespace string }

// patience remembers which kinds of requests need more time than they were given.
type patience struct {
	mu   sync.Mutex
	slow map[kind]time.Time // until when they get it
}

func newPatience() *patience { return &patience{slow: map[kind]time.Time{}} }

// limit returns how long a request of that kind may take; first is the limit of kinds that are not known to need
// more.
func (p *patience) limit(k kind, first time.Duration, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.slow[k]) {
		return delivery.SlowTimeout
	}
	return first
}

// needs records that a request of that kind took too long.
func (p *patience) needs(k kind, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.slow, func(_ kind, until time.Time) bool { return !now.Before(until) })
	p.slow[k] = now.Add(delivery.PatienceFor)
}

// prompt records that a request of that kind stayed within the ordinary limit.
func (p *patience) prompt(k kind, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if calm := now.Add(calmAfter); calm.Before(p.slow[k]) {
		p.slow[k] = calm
	}
}

// slowRequest is the error of a request that took too long.
type slowRequest struct {
	limit time.Duration
	err   error
}

func (s *slowRequest) Error() string {
	return fmt.Sprintf("it took longer than %s: %v", s.limit, s.err)
}

func (s *slowRequest) Unwrap() error { return s.err }

// read sends a request that changes nothing.
func (a api) read(ctx context.Context, k kind, send func(context.Context) error) error {
	defer waits(ctx)()
	began := time.Now()
	err := a.timed(ctx, k, delivery.PromptTimeout, bounded(send))
	a.health.read(ctx, err, began)
	return err
}

// readPage is read for a page of a list.
func (a api) readPage(ctx context.Context, k kind, send func(context.Context) error) error {
	defer waits(ctx)()
	return a.timed(ctx, k, listTimeout, bounded(send))
}

// bounded gives requests a deadline.
func bounded(send func(context.Context) error) func(context.Context, time.Duration) error {
	return func(ctx context.Context, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return send(ctx)
	}
}

// write sends a request that changes something. Within a tenure it gets no more time than the lease covers; without
// one no other process depends on its end.
func (a api) write(ctx context.Context, k kind, send func(context.Context) error) error {
	defer waits(ctx)()
	began := time.Now()
	err := a.writeWithin(ctx, k, func(ctx context.Context, limit time.Duration) error { return outlast(ctx, limit, parting, send) })
	a.health.write(ctx, err, began)
	return err
}

func (a api) writeWithin(ctx context.Context, k kind, send func(context.Context, time.Duration) error) error {
	t := tenureOf(ctx)
	if t == nil {
		return a.timed(ctx, k, delivery.SlowTimeout, send)
	}
	slow := a.patience.limit(k, delivery.PromptTimeout, time.Now()) > delivery.PromptTimeout
	if slow {
		if err := t.extend(ctx); err != nil {
			return err
		}
		defer t.shorten()
	}
	began := time.Now()
	err := a.timed(ctx, k, delivery.PromptTimeout, send)
	if unanswered(err) {
		limit := delivery.PromptTimeout
		if slow {
			limit = delivery.SlowTimeout
		}
		t.leftOpen(began.Add(limit+delivery.Transit), errors.Is(err, errParted))
	}
	return err
}

// parting is how long a write that is under way may still take once the engine is told to stop.
const parting = 2 * time.Second

// errParted is why this process cancelled a write that was under way: the engine was told to stop, or may no longer
// lead.
var errParted = errors.New("engine: a write was cancelled before its answer, because the engine stops")

// outlast sends a request that may take up to limit, but only d once the engine was told to stop. A cancelled write may
// still take effect, beside the next leader, so its answer is worth waiting for, unless somebody else may already write.
func outlast(ctx context.Context, limit, d time.Duration, send func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(errParted, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	own, end := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer end()
	var parted atomic.Bool
	defer context.AfterFunc(ctx, func() {
		t := tenureOf(ctx)
		if others := t != nil && !t.holds(time.Now()); others || sleep(own, d) {
			parted.Store(own.Err() == nil)
			end()
		}
	})()
	err := send(own)
	if err != nil && parted.Load() {
		return errors.Join(errParted, err)
	}
	return err
}

// timed sends a request that may take as long as such requests have needed, and learns from it. send gets the limit.
func (a api) timed(ctx context.Context, k kind, first time.Duration, send func(context.Context, time.Duration) error) error {
	began := time.Now()
	limit := a.patience.limit(k, first, began)
	err := send(ctx, limit)
	now := time.Now()
	took := now.Sub(began)
	if err == nil && limit > first && took < first {
		a.patience.prompt(k, now)
	}
	// The server knows the deadline, and may be the first to notice it.
	if err == nil || ctx.Err() != nil || took < limit*3/4 || definite(err) {
		return err
	}
	a.patience.needs(k, now)
	return &slowRequest{limit, err}
}

// unanswered reports whether the API server may not have finished a request yet.
func unanswered(err error) bool {
	var status apierrors.APIStatus
	return err != nil && !errors.As(err, &status) && !errors.Is(err, errLapsed)
}
