package engine

import (
	"context"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	corev1 "k8s.io/api/core/v1"
)

// assume puts a pod that the server has just returned, from a write or a live read, over what the
// watch has shown. If the watch is already past that version, it is better informed: the pod may
// be gone since.
func (ix *index) assume(pod *corev1.Pod) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.lay(pod, ix.order.heard)
}

// acknowledge is assume for a pod that our own write has created or deleted.
func (ix *index) acknowledge(pod *corev1.Pod, w *write) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.lay(pod, w.began)
	if e := ix.pods[string(pod.UID)]; e != nil {
		e.acknowledged(w)
	}
}

func (ix *index) lay(pod *corev1.Pod, at plan.Moment) {
	e, err := ix.families.compact(pod)
	if err != nil {
		return // the mirror refuses such a server before any write
	}
	if e.version > ix.podVersion || ix.outOfSight(e) {
		ix.put(e, at)
	}
}

func (ix *index) put(e *podEntry, at plan.Moment) {
	ix.putPod(e, 0, at)
	if ix.pods[e.UID] == e {
		ix.ahead[e.UID] = time.Now()
	}
}

// found is assume for a live read that began at asked. If the pod was buried before then, and the
// watch has not shown it to be gone, it was buried by mistake.
func (ix *index) found(pod *corev1.Pod, asked time.Time) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	e, err := ix.families.compact(pod)
	if err != nil {
		return
	}
	b, buried := ix.buried[e.UID]
	switch {
	case buried && b.at.Before(asked):
		delete(ix.buried, e.UID)
		ix.put(e, ix.order.heard)
	case e.version > ix.podVersion, ix.outOfSight(e):
		ix.put(e, ix.order.heard)
	}
}

// burial is a pod that is known to be gone, and since when. The watch normally confirms this
// within milliseconds; until it does, the pod is read again now and then.
type burial struct {
	pod       *podEntry
	at, check time.Time
}

// bury forgets a pod that a live read or an acknowledged delete has shown to be
// gone, and keeps older events from bringing it back.
func (ix *index) bury(uid string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if e := ix.pods[uid]; e != nil {
		ix.dropPod(e)
		now := time.Now()
		ix.buried[uid] = burial{pod: e, at: now, check: now.Add(delivery.LingerAfter)}
	}
}

// lingering returns the pods whose last own write, or end, the watch should have shown long ago.
// Pods that it has shown meanwhile are no longer ahead.
func (ix *index) lingering(now time.Time) []*podEntry {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	var late []*podEntry
	for uid, since := range ix.ahead {
		e := ix.pods[uid]
		if e == nil || e.version <= ix.podVersion {
			delete(ix.ahead, uid)
		} else if now.Sub(since) >= delivery.LingerAfter {
			late = append(late, e)
		}
	}
	for uid, b := range ix.buried {
		if !b.check.After(now) {
			late = append(late, b.pod)
			b.check = now.Add(now.Sub(b.at)) // after twice the time
			ix.buried[uid] = b
		}
	}
	return late
}

// settleLingering reads such pods directly, so that a stalled watch does not hold up pods that
// the engine itself has changed.
func (e *engine) settleLingering(ctx context.Context) {
	for _, p := range e.index.lingering(time.Now()) {
		if ctx.Err() != nil {
			return
		}
		e.refresh(ctx, p)
	}
}

// refresh reads a pod directly and puts the result into the index. It reports whether the read
// gave an answer.
func (e *engine) refresh(ctx context.Context, p *podEntry) bool {
	asked := time.Now()
	live, err := e.api.getPod(ctx, p.namespace, p.Name)
	switch {
	case missing(err, p.Name), err == nil && string(live.UID) != p.UID:
		e.index.bury(p.UID)
	case err != nil:
		return false
	default:
		e.index.found(live, asked)
	}
	return true
}
