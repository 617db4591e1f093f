package engine

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// lingerAfter is how long an own write may be ahead of the watch before the pod
// is read directly. The watch of a healthy server lags by milliseconds.
const lingerAfter = 5 * time.Second

// assume lays a pod that the server has just returned, from a write or a live
// read, over what the watch has shown. A watch that is past that version
// already knows better: the pod may have gone since.
func (ix *index) assume(pod *corev1.Pod) {
	e, err := compactPod(pod)
	if err != nil {
		return // the mirror refuses such a server before any write
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if e.version <= ix.podVersion {
		return
	}
	ix.putPod(e, 0)
	if ix.pods[e.UID] == e {
		ix.ahead[e.UID] = time.Now()
	}
}

// bury forgets a pod that a live read or an acknowledged delete has shown to be
// gone, and keeps older events from bringing it back.
func (ix *index) bury(uid string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if e := ix.pods[uid]; e != nil {
		ix.dropPod(e)
		ix.buried[uid] = time.Now()
	}
}

// lingering is the pods whose last own write the watch should have shown long
// ago. Those that it has shown meanwhile are no longer ahead.
func (ix *index) lingering(now time.Time) []*podEntry {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	var late []*podEntry
	for uid, since := range ix.ahead {
		e := ix.pods[uid]
		if e == nil || e.version <= ix.podVersion {
			delete(ix.ahead, uid)
		} else if now.Sub(since) >= lingerAfter {
			late = append(late, e)
		}
	}
	return late
}

// settleLingering reads such pods directly, so that a stalled watch does not
// stall the pods that the engine itself has changed.
func (e *engine) settleLingering(ctx context.Context) {
	tick := time.NewTicker(lingerAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range e.index.lingering(time.Now()) {
			if ctx.Err() != nil {
				return
			}
			e.refresh(ctx, p)
		}
	}
}

// refresh reads a pod past the watch and puts what it finds into the index. It
// reports whether the read gave an answer.
func (e *engine) refresh(ctx context.Context, p *podEntry) bool {
	live, err := e.api.getPod(ctx, p.namespace, p.Name)
	switch {
	case apierrors.IsNotFound(err), err == nil && string(live.UID) != p.UID:
		e.index.bury(p.UID)
	case err != nil:
		return false
	default:
		e.index.assume(live)
	}
	return true
}
