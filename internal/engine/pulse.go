package engine

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/rollout"
)

// pulseEvery is how often the API server is asked for something small while a release proceeds: more often than is needed
// to judge its health (rollout.Health). While a wave soaks the engine hardly asks for anything else, and the harm that a
// new revision does to the server may only be that all answers come late.
const pulseEvery = 2 * time.Second

// pulse keeps the health of the API server known while a release proceeds. Otherwise it asks for nothing, and sleeps.
type pulse struct {
	api  api
	more chan struct{} // tells run that a release proceeds

	mu       sync.Mutex
	proceeds map[types.UID]types.NamespacedName // the DaemonSets
}

func newPulse(a api) *pulse {
	return &pulse{api: a, more: make(chan struct{}, 1), proceeds: map[types.UID]types.NamespacedName{}}
}

// needed reports whether a release in that phase may go on by itself, depending on the server's health.
func needed(p rollout.Phase) bool { return p == rollout.Rolling || p == rollout.Soaking }

// follow sets whether the release of a DaemonSet proceeds.
func (p *pulse) follow(uid types.UID, key types.NamespacedName, proceeds bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !proceeds {
		delete(p.proceeds, uid)
		return
	}
	p.proceeds[uid] = key
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// any returns a DaemonSet whose release proceeds.
func (p *pulse) any() (key types.NamespacedName, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key = range p.proceeds {
		return key, true
	}
	return key, false
}

// run asks until ctx ends. It does not wait for one answer before it asks again: slow answers would come too seldom to
// prove anything. The deadline of each request bounds how many there are.
func (p *pulse) run(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.more:
		}
		for key, is := p.any(); is && ctx.Err() == nil; key, is = p.any() {
			asked.Go(func() { _, _ = p.api.getSet(ctx, key.Namespace, key.Name) }) // api.read notes in health how it was answered
			sleep(ctx, pulseEvery)
		}
	}
}
