package sim

// The guard of the model controller, as package engine's guard.go has it.

import (
	"reflect"
	"strconv"
	"time"

	"everynode/internal/rollout"
)

// step is how far a release gets in one look.
type step struct {
	state  rollout.State
	heeded rollout.Requests
	guard  rollout.Guard
	lets   []string // nodes whose held pods may go now
	moved  bool     // something has changed other than counts
}

// removing works out what may go now.
func (c *controller) removing(next *step) {
	if c.w.sc.Assists {
		return
	}
	var p *rollout.Policy
	if c.index.policy != nil && c.index.policy.wrong == rollout.NoReason {
		p = &c.index.policy.is
	}
	var allowed rollout.Allowance
	if c.index.keeper != nil {
		allowed = c.index.keeper.allowance
	}
	guard, lets, wake := c.course.removals.Judge(p, &c.ledger.kept, allowed, c.clock())
	next.guard, next.lets = guard, lets
	if !wake.IsZero() {
		c.wake(wake.Sub(c.clock()) + c.w.now)
	}
}

// goesBack reports whether the pod is on a node that only the target has a place on, in a release that goes back.
func goesBack(c *controller, p *pod) bool {
	r := c.course.release
	if r == nil || !r.Back || p == nil || p.Hash != c.index.set.spec.Hash || c.index.node(p.Node) == nil {
		return false
	}
	n := &c.index.node(p.Node).Node
	own, other := permits(new(c.w.sc.placement(p.Hash)), n), permits(new(c.w.sc.placement(r.Stable.Hash)), n)
	return own.run && !other.run || own.keep && !other.keep
}

func sameGuard(a, b rollout.Guard) bool { return reflect.DeepEqual(a, b) }

// permit is a person's permission for nodes to lose their pods.
func (w *world) permit(nodes string, d time.Duration) {
	if w.api.keeper == nil {
		return
	}
	n, _ := strconv.Atoi(nodes)
	w.check.permits(n, d)
	w.api.putKeeper(func(o *keeper) { o.allowance = rollout.Allowance{Nodes: n, Before: w.clock().Add(d)} })
}

// permitAll is a person's permission for everything that is held, given when everything
// is repaired.
func (w *world) permitAll() {
	const all, long = 1000, 1000 * time.Hour
	if o := w.api.keeper; o != nil && o.allowance.Nodes < all {
		w.permit(strconv.Itoa(all), long)
	}
}

// nodesEver returns how many nodes there are at most.
func (sc *Scenario) nodesEver() int {
	n := len(sc.Nodes)
	for _, e := range sc.Events {
		if e.Op == "join" {
			n++
		}
	}
	return n
}

// relabelAll gives every node the same pool.
func (w *world) relabelAll(pool string) {
	for _, n := range w.api.nodes {
		w.nodeEvent(Event{Op: "label", Args: []string{n.Name, pool}}, n.Name)
	}
}
