package ui

import (
	"context"
	"sync"
	"time"

	"everynode/internal/fleetview"
)

// hub follows a Source while somebody looks.
type hub struct {
	source        Source
	linger, retry time.Duration

	mu      sync.Mutex
	viewers int
	seen    scene
	changed chan struct{} // closed when there is a new scene
	counted chan struct{} // has an element if viewers has changed
}

// scene is the latest view of the fleet. Run is the number of the Source.Follow call: places of nodes are only
// comparable within one call.
type scene struct {
	state *fleetview.State // nil: nothing yet
	run   int
	error string // why nothing can be seen
}

// When a page is reloaded, the fleet is still being followed. Failures are retried.
const (
	lingers = 15 * time.Second
	retries = 3 * time.Second
	// longRetries is the longest pause, as a multiple of the first.
	longRetries = 20
)

func newHub(source Source) *hub {
	return &hub{source: source, linger: lingers, retry: retries, changed: make(chan struct{}), counted: make(chan struct{}, 1)}
}

// join and leave count the viewers.
func (h *hub) join() { h.count(1) }

func (h *hub) leave() { h.count(-1) }

func (h *hub) count(more int) {
	h.mu.Lock()
	h.viewers += more
	h.mu.Unlock()
	select {
	case h.counted <- struct{}{}:
	default:
	}
}

func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.viewers > 0
}

// now returns the current scene, and a channel that is closed when there is a new one.
func (h *hub) now() (scene, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen, h.changed
}

func (h *hub) set(change func(*scene)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.seen)
	close(h.changed)
	h.changed = make(chan struct{})
}

// run follows the source whenever somebody looks, until ctx ends. The pause doubles with each further failure, because
// every start reads everything.
func (h *hub) run(ctx context.Context) {
	pause := h.retry
	for ctx.Err() == nil {
		if !h.watched() {
			select {
			case <-ctx.Done():
			case <-h.counted:
			}
			continue
		}
		began := time.Now()
		err := h.follow(ctx)
		if time.Since(began) > longRetries*h.retry {
			pause = h.retry
		}
		if err != nil {
			h.set(func(s *scene) { s.state, s.error = nil, err.Error() })
			wait(ctx, pause)
			pause = min(2*pause, longRetries*h.retry)
		}
	}
}

// follow returns when nobody has looked for a while, or when there is nothing more to see.
func (h *hub) follow(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	run := h.begin()
	ended := make(chan error, 1)
	tell := func(state *fleetview.State, why string) {
		h.set(func(s *scene) {
			if s.run == run { // otherwise it was stopped meanwhile
				s.state, s.error = state, why
			}
		})
	}
	go func() {
		ended <- h.source.Follow(ctx, func(state *fleetview.State) { tell(state, "") }, func(why string) { tell(nil, why) })
	}()
	for {
		var alone <-chan time.Time
		if !h.watched() {
			alone = time.After(h.linger)
		}
		select {
		case err := <-ended:
			return err
		case <-h.counted:
		case <-alone:
			h.begin() // a viewer that joins now must not get the old state
			stop()
			<-ended // it was stopped, so its result does not matter
			return nil
		}
	}
}

// begin forgets the last scene, because places of nodes are only valid within one run, and returns the number of the
// next run.
func (h *hub) begin() (run int) {
	h.set(func(s *scene) {
		s.state, s.run = nil, s.run+1
		run = s.run
	})
	return run
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
