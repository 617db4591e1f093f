package sim

// What came first is judged by the versions of the API, which are its true order, whatever times and moments say.

// sawNode is called with what a process is shown of a node. No process can know that a node was Ready between two versions that
// it was shown.
func (k *checker) sawNode(c *controller, n *node) {
	at := request{c.process, n.UID}
	if _, known := k.turned[at]; n.Ready {
		delete(k.turned, at)
	} else if !known {
		k.turned[at], k.turnedAt[at] = n.turned, k.w.api.version
	}
}

// excused is I5, for a node without an available pod: false where the process must know that the node has turned not Ready after
// something was done to its pods.
func (k *checker) excused(c *controller, set *daemonSet, at *place) bool {
	n := at.node
	if n.Ready {
		return false
	}
	if !n.wasReady || n.NeverReady || k.lax {
		// By chance two clocks may agree on a node's first seconds: to a process that starts then, and to one that was shown the
		// node's deletion though it was there, and then the node again.
		return true
	}
	turned := k.turned[request{c.process, n.UID}]
	for _, p := range at.pods {
		current := isCurrent(&set.spec, p)
		switch {
		case current && p.createdIn < turned && (p.made.owner == c || p.createdIn <= c.index.first):
			return false
		case !current && p.deletedIn != 0 && p.deletedIn < turned && (p.doomed == c.process || p.deletedIn <= c.index.first):
			return false
		}
	}
	return true
}

// mayExcuse is the same, but false wherever the process cannot know that the node was in trouble before. It may have seen the
// trouble later than it began its own work, and the acts of others at any time; of what came before its watch it has only
// written times.
func (k *checker) mayExcuse(c *controller, set *daemonSet, at *place) bool {
	n := at.node
	if n.Ready || !n.wasReady {
		return !n.Ready
	}
	turned := k.turnedAt[request{c.process, n.UID}]
	for _, p := range at.pods {
		current := isCurrent(&set.spec, p)
		switch {
		case current && (p.made.owner != c || p.heir || p.made.startedIn <= turned):
			return false
		case !current && p.deletedIn != 0 && (p.doomed != c.process || k.sentIn[request{c.process, p.UID}] <= turned):
			return false
		}
	}
	return true
}

// judgeAvailable checks I6: a node counts as available only if its pod has truly been ready for long enough.
func (k *checker) judgeAvailable(c *controller) {
	for i := range c.out.Verdicts {
		v := &c.out.Verdicts[i]
		if at := k.place(v.Node); v.Available && (at == nil || at.available == 0) {
			k.w.fail("I6: %s counts as available", v.Node)
		}
	}
}
