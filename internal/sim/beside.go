package sim

// Two processes that lead at once know about each other's writes only what their watches show. So each is judged by
// what it knows, and by what was kept. The kept state is written over the version that was read, whoever writes it.

// release is a release that nodes may be granted by.
type release struct {
	number int
	target string
}

// startsBeside is starts where two processes may lead at once: what a process grants by was kept before, by it or by the other (R4, R15).
func (k *checker) startsBeside(w *write) {
	c, hash := w.owner, w.set.spec.Hash
	r := c.course.release
	if r == nil || hash == r.Stable.Hash {
		return
	}
	has := w.create != nil && (w.had || k.had(c, w.node(), hash))
	k.reached[reaching(c, w.node(), hash, r.Number)] = true
	switch {
	case has:
	case !k.granting[release{r.Number, hash}]:
		k.w.fail("R15: %s is to get %s in release %d; no state was kept by which it may", w.node(), hash, r.Number)
	case !r.Grants:
		k.w.fail("R4: %s is to get %s in release %d, which grants nothing", w.node(), hash, r.Number)
	case r.Quota > k.quotas[r.Number]:
		k.w.fail("R15: %s is to get %s in release %d by a quota of %d; at most %d was kept", w.node(), hash, r.Number, r.Quota, k.quotas[r.Number])
	}
}

// knows is called when what was decided is about to be done, where two processes may lead at once (R1): the nodes of which the process knows
// that they have the target, and those that get it, are within the quota.
func (k *checker) knows(c *controller, gives []string) {
	r, hash := c.course.release, c.index.set.spec.Hash
	has := map[string]bool{}
	for _, p := range c.index.pods {
		if p.Hash == hash && !c.index.leftBehind(p) && c.index.node(p.Node) != nil {
			has[p.Node] = true
		}
	}
	for _, name := range gives {
		has[name] = true
	}
	if n := len(has); n > k.quotas[r.Number] {
		k.w.fail("R1: %s is to get %s, and %d nodes are known to have it then; the quota that is kept is %d", gives[0], hash, n, k.quotas[r.Number])
	}
}
