package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// sweepEvery is how often temporary memories are checked. Most of them go when their node is
// decided on again, but that never happens for a deleted node.
const sweepEvery = time.Minute

// housekeeping does what nobody waits for: it checks own writes that the watch does not show, and
// drops expired memories.
func (e *engine) housekeeping(ctx context.Context) {
	linger, sweep := time.NewTicker(delivery.LingerAfter), time.NewTicker(sweepEvery)
	defer linger.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-linger.C:
			e.settleLingering(ctx)
		case <-sweep.C:
			e.sweep(time.Now())
		}
	}
}

// sweep drops memories about nodes, pods and DaemonSets that can no longer matter.
func (e *engine) sweep(now time.Time) {
	e.mu.Lock()
	states := maps.Clone(e.states)
	e.mu.Unlock()
	alive := make(map[types.UID]bool, len(states))
	for _, s := range states {
		s.sweep(now, e.index)
		alive[s.id.uid] = true
	}
	e.events.sweep(alive)
}

// sweep asks the index before it locks the state: a decision uses the two in the other order.
func (s *state) sweep(now time.Time, ix *index) {
	gone := map[string]bool{}
	for _, uid := range s.announced() {
		gone[uid] = ix.pod(uid) == nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backoff = without(s.backoff, func(_ string, b plan.Backoff) bool { return b.Expired(now) })
	s.remakes = without(s.remakes, func(_ string, r remade) bool { return r.Expired(now) })
	s.unsettled = without(s.unsettled, func(_ string, n unsettled) bool { return now.After(n.until) })
	s.found = without(s.found, func(uid string, _ bool) bool { return gone[uid] })
	if len(s.retries.slots) == 0 {
		s.retries.slots = nil // retryable deletes them, once it has said that they are due
	}
	if len(s.retries.timers) == 0 {
		s.retries.timers = nil
	}
}

// announced returns the UIDs of the ended pods that were announced.
func (s *state) announced() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.found))
}

// without deletes what is over. A map keeps the memory of everything it ever held, so an empty
// one is replaced.
func without[K comparable, V any](m map[K]V, over func(K, V) bool) map[K]V {
	n := len(m)
	maps.DeleteFunc(m, over)
	if n > 0 && len(m) == 0 {
		return map[K]V{}
	}
	return m
}

// sweep drops the allowances of DaemonSets that are gone: an event may have come after the rest
// was forgotten.
func (r *recorder) sweep(alive map[types.UID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := func(uid types.UID, _ flowcontrol.PassiveRateLimiter) bool { return !alive[uid] }
	maps.DeleteFunc(r.allowances, gone)
	maps.DeleteFunc(r.lookUps, gone)
}
