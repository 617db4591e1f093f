package engine

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// releaseID identifies a release of a DaemonSet. The zero value is not a release.
type releaseID struct {
	// keeper is the object that keeps its state; empty: there is none. Once that object is deleted, another process, which
	// has not known it, may begin a release under the same number.
	keeper types.UID
	number int
}

// goal is what a release gives to nodes. While no state can be saved, one number may stand for several targets.
type goal struct {
	release releaseID
	target  string
}

// goal returns what the write gives its node, if it reaches it.
func (w *write) goal() goal { return goal{w.reaches, w.edition} }

// reached is what the last active release has begun.
type reached struct {
	by goal
	// nodes has, by name, the nodes that it has begun to give its target, each with the writes that have begun: the UIDs
	// of the pods that are deleted or changed, an empty one for a create, and perhaps mayBeCreated.
	nodes map[string][]string
}

// mayBeCreated stands for a create that is not taken back. No pod has this UID.
const mayBeCreated = "?"

func (r *reached) begin(w *write) {
	if by := w.goal(); r.nodes == nil || r.by != by {
		*r = reached{by: by, nodes: map[string][]string{}}
	}
	_, uid := w.about()
	r.add(w.node(), uid)
}

func (r *reached) add(node, uid string) {
	if begun := r.nodes[node]; !slices.Contains(begun, uid) {
		r.nodes[node] = append(begun, uid)
	}
}

// takenBack reports whether a write has left its node as it was, with a pod: the release has then not reached the node. A node
// without one stays reached when a create is refused. It counts as failed if that does not end, and gives its place to no other.
func (w *write) takenBack(r *result) bool {
	if w.create == nil {
		return r.undone
	}
	return w.succeeds && r.fate.IsRefusal()
}

// putBack records that another object keeps the state of the release under way, as it was: what has begun still counts.
func putBack(s *state, from, to types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range []*releaseID{&s.reached.by.release, &s.refusals.by.release} {
		if id.keeper == from && from != "" && to != "" {
			id.keeper = to
		}
	}
}

// mayBe records that a create is not taken back, whatever becomes of later ones on the node.
func (r *reached) mayBe(w *write) {
	if r.by == w.goal() && len(r.nodes[w.node()]) > 0 {
		r.add(w.node(), mayBeCreated)
	}
}

// undo records that a write has had no effect: the node is as it was, and, unless another write has reached it, waits for
// its turn again.
func (r *reached) undo(w *write) {
	if r.by != w.goal() {
		return
	}
	_, undone := w.about()
	begun := slices.DeleteFunc(r.nodes[w.node()], func(uid string) bool { return uid == undone })
	if r.nodes[w.node()] = begun; len(begun) == 0 {
		delete(r.nodes, w.node())
	}
}
