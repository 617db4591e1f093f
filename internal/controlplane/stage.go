package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stage owns goroutines that start one after another and stop together. Its
// context does not end with its parent: stages are stopped in order.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	failed chan<- error // buffered; only the first failure matters
}

func newStage(parent context.Context, failed chan<- error) *stage {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	return &stage{ctx: ctx, cancel: cancel, failed: failed}
}

// start runs work, which must go on until its context ends. Ending before that
// fails the whole control plane.
func (s *stage) start(name string, work func(context.Context) error) {
	s.group.Go(func() {
		err := work(s.ctx)
		if s.ctx.Err() != nil {
			return // it was asked to stop, so its error does not matter
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		select {
		case s.failed <- fmt.Errorf("%s failed: %w", name, err):
		default:
		}
	})
}

// stop ends the stage's work and waits for it, at most for limit.
func (s *stage) stop(limit time.Duration) error {
	s.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.group.Wait()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("not all parts stopped within %s", limit)
	}
}
