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

// How long the first reading may take before a page is told: if a request has failed, and if there is just no answer yet,
// as in a large cluster.
const (
	failingAfter = 3 * time.Second
	slowAfter    = 30 * time.Second
)

// Watch follows the fleet and calls show with each new State until ctx ends, which is not an error. While nothing was
// read yet, it calls failing with the reason. An error says why nothing more can be seen.
func (f *Fleet) Watch(ctx context.Context, show func(*fleetview.State), failing func(why string)) error {
	following, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { f.Follow(following) })
	defer all.Wait()
	defer end()
	said := ""
	for {
		began := time.Now()
		s, wake, err := f.See(began)
		if err != nil {
			return err
		}
		if s == nil {
			var why string
			if why, wake = f.unreadSince(began); why != said {
				failing(why)
				said = why
			}
		} else {
			show(s)
			rest(ctx, max(fleetview.Pace*time.Millisecond, viewRests*time.Since(began)))
		}
		if !f.await(ctx, wake) {
			return nil
		}
	}
}

// unreadSince returns why nothing was read yet, once that takes long. Until then it is "", and due is when it may be time.
func (f *Fleet) unreadSince(now time.Time) (why string, due time.Time) {
	u := f.Unread()
	due = u.Since.Add(slowAfter)
	if u.Failed {
		due = u.Since.Add(failingAfter)
	}
	if now.Before(due) {
		return "", due
	}
	return u.Text, time.Time{}
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
