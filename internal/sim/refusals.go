package sim

import (
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// refusals are the nodes on which the API server refuses the pods of one release, as package engine's refusals.go has them.
type refusals struct {
	by    granted
	nodes map[string]refusal
}

// refusal is when the server has refused the node's pod first and last, and how long it asked to wait.
type refusal struct{ first, last, asked time.Duration }

// fared records how a create of a release's target has ended.
func (r *refusals) fared(w *write, o *delivery.Outcome, now time.Duration) {
	fate := o.Fate
	if w.create == nil || w.release == (release{}) {
		return
	}
	switch by := w.goal(); {
	case by.keeper == r.by.keeper && by.number < r.by.number:
		return
	case r.by != by:
		*r = refusals{by, map[string]refusal{}}
	}
	last, known := r.nodes[w.node()]
	switch {
	case fate == delivery.OK:
		delete(r.nodes, w.node())
	case fate == delivery.Throttled && !w.owner.w.api.choked[w.node()]: // a busy server, not admission
	case fate == delivery.OverQuota && w.succeeds:
	case fate.IsRefusal():
		if row := last.row(w.owner); !known || !row.Continues(w.owner.clock(), last.asked) {
			last.first = now
		}
		r.nodes[w.node()] = refusal{last.first, now, o.Wait}
	}
}

// notice forgets a node that has a pod of the release.
func (r *refusals) notice(node string, pods []*plan.Pod) {
	if slices.ContainsFunc(pods, func(p *plan.Pod) bool { return p.Hash == r.by.target && !p.Assumed && live(p) }) {
		delete(r.nodes, node)
	}
}

// row returns what the planner reads of it.
func (r refusal) row(c *controller) plan.Refusal {
	return plan.Refusal{For: r.last - r.first, Last: c.clock().Add(r.last - c.w.now)}
}

// known returns what the planner is told of the release under way, by node.
func (r *refusals) known(c *controller) map[string]plan.Refusal {
	of := c.course.release
	if of == nil || of.Back || r.by != (granted{c.course.releaseID(), c.index.set.spec.Hash}) {
		return nil
	}
	all := make(map[string]plan.Refusal, len(r.nodes))
	for node, n := range r.nodes {
		all[node] = n.row(c)
	}
	return all
}
