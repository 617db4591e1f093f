package plan

// Totals are sums over verdicts. Add and Remove maintain them, so that a change of one verdict does not
// require a look at the others.
type Totals struct {
	Status Status
	// Counted is the size of B, Down the number of its nodes without an available pod (I4), Surging the
	// number of nodes that hold an old pod beside one that is not available yet.
	Counted, Down, Surging int
	// Guarded nodes would lose their pods without the guard.
	Guarded int
	// Exposure is all zero without a release.
	Exposure Exposure
}

// Add adds a verdict.
func (t *Totals) Add(v *Verdict) { t.apply(v, 1) }

// Remove subtracts a verdict that was added.
func (t *Totals) Remove(v *Verdict) { t.apply(v, -1) }

func (t *Totals) apply(v *Verdict, sign int) {
	t.Status.apply(v, sign)
	count(&t.Counted, v.counted, sign)
	count(&t.Down, v.down, sign)
	count(&t.Surging, v.surging, sign)
	count(&t.Guarded, v.guarded, sign)
	t.Exposure.apply(v, sign)
}

func count(n *int, is bool, sign int) {
	if is {
		*n += sign
	}
}

// Budget scales the amounts of the strategy by the number of nodes that should run a pod. With both zero an
// update would never finish, so that means one. A percentage of no node is zero: a release may be for nodes that the stable
// revision is not for.
func (set *Spec) Budget(desired int) (maxUnavailable, maxSurge int) {
	if set.Strategy != RollingUpdate {
		return 0, 0
	}
	maxUnavailable, maxSurge = set.MaxUnavailable.Of(desired), set.MaxSurge.Of(desired)
	switch {
	case maxUnavailable > 0 || maxSurge > 0:
	case set.Surges():
		maxSurge = 1
	default:
		maxUnavailable = 1
	}
	return maxUnavailable, maxSurge
}

// Candidate reports whether the verdict has a write that waits for Roll.
func (v *Verdict) Candidate() bool { return v.candidate != fixed }

// HoldsBudget reports whether the node takes a part of the rollout's budget: it is down or surging, or Roll
// has just let it move.
func (v *Verdict) HoldsBudget() bool {
	return v.down || v.surging || v.granted && (v.candidate == replace || v.candidate == surge)
}

// Roll decides which candidates move now: of each kind the first ones in the order given, which is by rank
// and node name. It may be called again on the same verdicts with other totals; by then the writes of
// earlier calls must be part of the input.
//
// Pods that are not ready never come here, unless a release in waves is under way: they always go first.
// Taking the pod of a node that is already down does not make things worse, so it uses no budget, but the
// budget must not be exceeded.
func Roll(in *Input, t *Totals, candidates []*Verdict) {
	var of [kinds]int
	for _, v := range candidates {
		of[v.candidate]++
	}
	rooms := in.rooms(t)
	for _, kind := range inTurn() {
		of[kind] = rooms.take(kind, of[kind])
	}
	for _, v := range candidates {
		v.granted = of[v.candidate] > 0
		of[v.candidate]--
		v.Reason = v.moves(in)
	}
}

// moves returns the reason of a candidate, depending on whether it moves.
func (v *Verdict) moves(in *Input) Reason {
	switch {
	case v.candidate == leave && v.granted:
		return TaintNotTolerated
	case v.candidate == leave:
		return TaintKeepsPod
	case !v.granted && in.Release != nil && !in.Release.Back && !in.Release.Grants:
		return AwaitsWave
	case !v.granted:
		return BudgetSpent
	case len(v.creates) > 0:
		return v.creates[len(v.creates)-1].Reason
	case len(v.changes) > 0:
		return v.changes[0].Reason
	default:
		return v.deletes[len(v.deletes)-1].Reason
	}
}

// Deletes returns the pods to delete on this node, the newer first. Writes that a candidate still waits for
// are left out. The slice is valid until the verdict is classified again.
func (v *Verdict) Deletes() []Delete {
	if v.holdsAll() {
		return nil
	}
	if v.keepsPod() && len(v.changes) == 0 {
		return v.deletes[:len(v.deletes)-1]
	}
	return v.deletes
}

// Changes returns the pod to change in place on this node, if any, in the same way as Deletes.
func (v *Verdict) Changes() []Change {
	if v.holdsAll() || v.keepsPod() {
		return nil
	}
	return v.changes
}

// keepsPod reports whether the candidate waits with the write that removes or changes its pod.
func (v *Verdict) keepsPod() bool {
	return (v.candidate == replace || v.candidate == recycle || v.candidate == leave) && !v.granted
}

// Creates returns the pods to create on this node, in the same way as Deletes.
func (v *Verdict) Creates() []Create {
	if v.holdsAll() {
		return nil
	}
	if v.candidate == surge && !v.granted {
		return v.creates[:len(v.creates)-1]
	}
	return v.creates
}

// holdsAll reports whether the candidate waits with all its writes, not only with the last one.
func (v *Verdict) holdsAll() bool {
	return (v.candidate == expose || v.candidate == drop) && !v.granted
}
