package engine

import (
	"slices"

	"everynode/internal/plan"
)

// touchForNode marks the DaemonSets that the change from old to new (nil: absent) can affect: those whose
// eligibility changes, and, when readiness or presence changes, those that have a pod there or should have
// one.
func (ix *index) touchForNode(old, new *plan.Node) {
	if !ix.begun {
		return
	}
	c := ix.nodeChange(old, new)
	for uid := range ix.releases.under {
		ix.mark(ix.owned[uid], c.name)
	}
	if !c.placement && !c.health {
		return
	}
	for _, s := range ix.sets {
		o := ix.owned[string(s.ds.UID)]
		if s.heavy || c.concerns(&s.spec.Placement, o.first[c.name] != nil) {
			ix.mark(o, c.name)
		}
	}
}

// nodeChange is how a node has changed; nil: absent.
type nodeChange struct {
	name     string
	old, new *plan.Node
	// placement: something has changed that a placement asks for; health: the node's
	// presence or readiness, or that it leaves.
	placement, health bool
}

func (ix *index) nodeChange(old, new *plan.Node) nodeChange {
	switch {
	case old == nil:
		return nodeChange{new.Name, old, new, true, true}
	case new == nil:
		return nodeChange{old.Name, old, new, true, true}
	}
	return nodeChange{new.Name, old, new,
		!slices.Equal(old.Taints, new.Taints) || ix.relabelled(old.Labels, new.Labels),
		old.UID != new.UID || old.Ready != new.Ready || old.Leaving != new.Leaving || !old.ReadyChanged.Equal(new.ReadyChanged)}
}

// concerns reports whether the change can affect a DaemonSet with that placement; there says that the
// DaemonSet has a pod on the node. Placements are evaluated last and as rarely as possible: anybody may
// write long ones, and the index is locked.
func (c *nodeChange) concerns(p *plan.Placement, there bool) bool {
	if c.health && there {
		return true
	}
	after := admits(p, c.new)
	switch {
	case c.health && after.Run:
		return true
	case !c.placement:
		return false
	}
	before := admits(p, c.old)
	return before.Run != after.Run || before.Keep != after.Keep || before != after && (after.Run || there)
}

// A heavy placement has more than heavy requirements; a term counts as one, even if it is empty. Whether a
// change of a node matters to it is left to the DaemonSet's own decision, in its namespace's turn, which
// looks at few nodes while the index is locked.
const heavy = 100

func isHeavy(p *plan.Placement) bool {
	questions := len(p.Selector) + len(p.Tolerations) + len(p.Terms)
	for i := range p.Terms {
		for _, asked := range [][]plan.Requirement{p.Terms[i].Labels, p.Terms[i].Names} {
			for _, r := range asked {
				questions += 1 + len(r.Values)
			}
		}
	}
	return questions > heavy
}

// relabelled reports whether a label has changed that a placement uses. It goes through the node's labels,
// because the labels in use may be many more.
func (ix *index) relabelled(old, new map[string]string) bool {
	for key, was := range old {
		if is, has := new[key]; (!has || is != was) && ix.asked[key] > 0 {
			return true
		}
	}
	for key := range new {
		if _, had := old[key]; !had && ix.asked[key] > 0 {
			return true
		}
	}
	return false
}

func admits(p *plan.Placement, n *plan.Node) plan.Eligibility {
	if n == nil {
		return plan.Eligibility{}
	}
	return p.Admits(n)
}
