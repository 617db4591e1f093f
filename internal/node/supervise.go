package node

import (
	"context"
	"log/slog"
	"time"
)

const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
	// healthyAfter is how long a child must have run for its next failure to
	// count as the first.
	healthyAfter = time.Minute
)

// service is something the agent keeps running: a child, or a loop of its own.
type service struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// supervise keeps run going, with a growing pause between attempts, until the
// returned service is stopped. The end of ctx does not stop it: the agent stops
// its services itself, in order.
func supervise(ctx context.Context, name string, log *slog.Logger, run func(context.Context) error) *service {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &service{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		keepRunning(ctx, name, log, run)
	}()
	return s
}

// stop ends the service and waits until it is gone. A service that was never
// started is nil, and stopped already.
func (s *service) stop() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.done
}

func keepRunning(ctx context.Context, name string, log *slog.Logger, run func(context.Context) error) {
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		started := time.Now()
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) >= healthyAfter {
			pause = minBackoff
		}
		log.Error(name+" ended; restarting it", "in", pause, "ran", time.Since(started).Round(time.Millisecond), "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
