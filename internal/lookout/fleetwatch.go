package lookout

import (
	"context"
	"sync"
	"time"

	"everynode/internal/fleetview"
)

// viewRests is the length of the pause after each State, as a multiple of the time that the State took: making States
// takes at most a quarter of the time.
const viewRests = 3

// Watch follows the fleet and calls show with each new State until ctx ends, which is not an error. An error says why
// nothing more can be seen.
func (f *Fleet) Watch(ctx context.Context, show func(*fleetview.State)) error {
	following, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { f.Follow(following) })
	defer all.Wait()
	defer end()
	for {
		began := time.Now()
		s, wake, err := f.See(began)
		if err != nil {
			return err
		}
		if s != nil {
			show(s)
			rest(ctx, max(fleetview.Pace*time.Millisecond, viewRests*time.Since(began)))
		}
		if !f.await(ctx, wake) {
			return nil
		}
	}
}

// await waits for something new, or for the time wake. It returns false if ctx has ended.
func (f *Fleet) await(ctx context.Context, wake time.Time) bool {
	var due <-chan time.Time
	if !wake.IsZero() {
		timer := time.NewTimer(time.Until(wake))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-f.changed:
	case <-due:
	}
	return true
}
