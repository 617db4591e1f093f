package sim

// The guard of the model controller, as package engine's guard.go has it.

import (
	"maps"
	"reflect"
	"strconv"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// removals is what a process knows of the pods that the guard holds.
type removals struct {
	kept    rollout.Guard
	guard   *plan.Guard // nil: nothing is held
	since   time.Time   // when the first of those were allowed that it lets go
	pending int         // at the last look
	grew    time.Time
}

// watch says whether there is a guard.
func (r *removals) watch(is bool) {
	switch {
	case !is:
		r.guard = nil
	case r.guard == nil:
		r.guard = &plan.Guard{}
	}
}

// allow lets nodes lose their pods in this term, besides those that are let already.
func (r *removals) allow(nodes []string, now time.Time) {
	allowed := map[string]bool{}
	if r.guard != nil {
		maps.Copy(allowed, r.guard.Allowed)
	}
	if len(allowed) == 0 {
		r.since = now
	}
	for _, name := range nodes {
		allowed[name] = true
	}
	r.guard = &plan.Guard{Allowed: allowed}
}

// tidy takes back what a node was allowed once its pod has gone or may stay after all, or has not gone for long.
func (r *removals) tidy(l *plan.Ledger, now time.Time) {
	if r.guard == nil || len(r.guard.Allowed) == 0 {
		return
	}
	if now.Sub(r.since) > rollout.LetsFor {
		r.guard = &plan.Guard{}
		return
	}
	left := maps.Clone(r.guard.Allowed)
	maps.DeleteFunc(left, func(name string, _ bool) bool {
		v := l.Verdict(name)
		return v == nil || !v.Spared()
	})
	if len(left) < len(r.guard.Allowed) {
		r.guard = &plan.Guard{Allowed: left}
	}
}

// step is how far a release goes by one look.
type step struct {
	state rollout.State
	guard rollout.Guard
	held  []string // nodes
	lets  bool     // what is held may go
	moved bool     // more has changed than what is counted
}

// removing works out what may go now.
func (c *controller) removing(next *step) {
	r := &c.course.removals
	r.tidy(&c.ledger.kept, c.clock())
	next.guard = r.kept
	if r.guard == nil {
		return
	}
	if c.out.Guarded > r.pending {
		r.grew = c.clock()
	}
	r.pending = c.out.Guarded
	p := *c.policy()
	if c.index.policy == nil {
		p.Removals = plan.Amount{}
	}
	in := rollout.Removals{Running: c.out.Status.Current + c.out.Status.Misscheduled, Pending: c.out.Guarded, Grew: r.grew}
	if c.index.keeper != nil {
		in.Allowed = c.index.keeper.allowance
	}
	guard, lets, wake := p.Guard(r.kept, &in, c.clock())
	next.guard, next.lets = guard, lets
	for i := range c.out.Verdicts {
		if v := &c.out.Verdicts[i]; v.Guarded() {
			next.held = append(next.held, v.Node)
		}
	}
	if !wake.IsZero() {
		c.wake(wake.Sub(c.clock()) + c.w.now)
	}
}

func sameGuard(a, b rollout.Guard) bool { return reflect.DeepEqual(a, b) }

// permit is a person who lets nodes lose their pods.
func (w *world) permit(nodes string, d time.Duration) {
	if w.api.keeper == nil {
		return
	}
	n, _ := strconv.Atoi(nodes)
	w.check.permits(n, d)
	w.api.putKeeper(func(o *keeper) { o.allowance = rollout.Allowance{Nodes: n, Before: w.clock().Add(d)} })
}

// permitAll is the yes of a person to everything that is held when all is mended.
func (w *world) permitAll() {
	const all, long = 1000, 1000 * time.Hour
	if o := w.api.keeper; o != nil && o.allowance.Nodes < all {
		w.permit(strconv.Itoa(all), long)
	}
}

// nodesEver is how many nodes there are at most.
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
