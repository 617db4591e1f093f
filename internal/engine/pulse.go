package engine

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// pulseEvery is how often the API server is asked for something small while a release is under way: more often than the
// server's health needs to be judged by (rollout.Health). While a wave soaks the engine hardly asks for anything else,
// and the harm that a new revision does to the server may only be that all answers come late.
const pulseEvery = 2 * time.Second

// pulse keeps the health of the API server known while a release is under way. Otherwise it asks for nothing.
type pulse struct {
	api   api
	index *index
}

// run asks until ctx ends. It does not wait for one answer before it asks again: slow answers would come too seldom to
// prove anything. The deadline of each request bounds how many there are.
func (p pulse) run(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if key, is := underRelease(p.index); is {
			asked.Go(func() { _, _ = p.api.getSet(ctx, key.Namespace, key.Name) }) // its health takes the outcome
		}
	}
}

// underRelease returns a DaemonSet whose release is under way.
func underRelease(ix *index) (types.NamespacedName, bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for uid := range ix.releases.under {
		if o := ix.owned[uid]; o != nil && o.set != nil {
			return o.key, true
		}
	}
	return types.NamespacedName{}, false
}
