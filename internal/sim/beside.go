package sim

// Two processes that lead at the same time know about each other's writes only what their watches show. So each is judged by what
// it knows, and by what was kept. Whoever writes the kept state writes it over the version that it has read.

// release identifies a release: by its number, and by the UID of the object that keeps its state. If that is deleted, another
// process, which has not known it, may begin a release under the same number. The zero value is not a release.
type release struct {
	keeper uint64
	number int
}

func (o *keeper) release() release { return release{o.uid, o.state.Release} }

// granted is a release in which nodes may be given the target.
type granted struct {
	release
	target string
}

// startsBeside is starts for when two processes may lead at the same time: the state under which a process grants must have been
// kept before, by it or by the other (R4, R15).
func (k *checker) startsBeside(w *write) {
	c, hash := w.owner, w.set.spec.Hash
	r := c.course.release
	if r == nil || hash == r.Stable.Hash {
		return
	}
	has := w.create != nil && (w.had || k.had(c, w.node(), hash))
	k.reached.begin(w)
	switch {
	case has:
	case !k.granting[granted{c.course.releaseID(), hash}]:
		k.w.fail("R15: %s is to get %s in release %d; no state was kept by which it may", w.node(), hash, r.Number)
	case !r.Grants:
		k.w.fail("R4: %s is to get %s in release %d, which grants nothing", w.node(), hash, r.Number)
	case r.Quota > k.quotas[c.course.releaseID()]:
		k.w.fail("R15: %s is to get %s in release %d by a quota of %d; at most %d was kept", w.node(), hash, r.Number, r.Quota, k.quotas[c.course.releaseID()])
	}
}

// knows is called when a decision is about to be carried out while two processes may lead at the same time (R1): the nodes that
// the process knows to have the target, and those that get it, are within the quota.
func (k *checker) knows(c *controller, gives []string) {
	r, hash := c.course.releaseID(), c.index.set.spec.Hash
	has := map[string]bool{}
	for _, p := range c.index.pods {
		if p.Hash == hash && !c.index.leftBehind(p) && c.index.node(p.Node) != nil {
			has[p.Node] = true
		}
	}
	for _, name := range gives {
		has[name] = true
	}
	if n := len(has); n > k.quotas[r] {
		k.w.fail("R1: %s is to get %s, and %d nodes are known to have it then; the quota that is kept is %d", gives[0], hash, n, k.quotas[r])
	}
}
