package sim

import (
	"time"

	"everynode/internal/plan"
)

// handed records when a process deleted a node's newest pod, because it had been refused or was never bound:
// the next one is for the scheduler to place.
type handed struct {
	process int
	at      time.Duration
}

// memory is how long a process must remember this, with a margin for the time that its deletes take.
const memory = 25 * time.Minute

// handOver is called just before a controller's delete takes effect.
func (k *checker) handOver(p *pod, w *write) {
	of := request{w.owner.process, p.Node}
	if p.Created.Before(k.newest[of]) {
		return // what is known about a newer pod counts, even if that was gone earlier
	}
	k.newest[of] = p.Created
	if w.remove.Reason != plan.PodRefused && !w.remove.Waited {
		return
	}
	for _, o := range k.w.api.pods {
		if o.Node == p.Node && o.UID != p.UID && !o.Created.Before(p.Created) {
			return // what is known about that one counts
		}
	}
	k.handed[p.Node] = handed{w.owner.process, k.w.now}
}

// bound is called just before a pod is created: a process must not bind a pod to a node when it knows that
// the node would refuse it.
func (k *checker) bound(p *pod) {
	h, is := k.handed[p.Node]
	delete(k.handed, p.Node)
	if is && h.process == p.made.owner.process && k.w.now-h.at < memory && !p.made.create.ByScheduler && !k.lax {
		k.w.fail("who binds: %s is bound to %s, whose last pod was refused or waited", p.Name, p.Node)
	}
}
