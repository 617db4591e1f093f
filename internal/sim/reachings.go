package sim

import (
	"fmt"

	"everynode/internal/delivery"
)

// reachings has the writes that have begun to give nodes a target, for the checker: the UIDs of their pods, by what reaching
// returns.
type reachings map[request]map[string]bool

// reaching returns the key for a node to which a process has begun to give a target, in that release, which may not be kept yet.
// A node that has taken the name of another one has been given nothing.
func reaching(c *controller, node, target string, r release) request {
	uid := ""
	if n := c.index.node(node); n != nil {
		uid = n.UID
	}
	return request{c.process, fmt.Sprintf("%s %s %s %d %d", node, uid, target, r.keeper, r.number)}
}

func (r reachings) has(as request) bool { return len(r[as]) > 0 }

// begin records that a write has begun.
func (r reachings) begin(w *write) {
	w.begun.as = reaching(w.owner, w.node(), w.set.spec.Hash, w.owner.course.releaseID())
	if r[w.begun.as] == nil {
		r[w.begun.as] = map[string]bool{}
	}
	r[w.begun.as][w.uid()] = true
}

// end records how a write has ended. What another write has begun on the node stays.
func (r reachings) end(w *write, o *delivery.Outcome) {
	switch {
	case w.takenBack(o):
		delete(r[w.begun.as], w.uid())
	case w.create != nil:
		r[w.begun.as][mayBeCreated] = true
	}
}
