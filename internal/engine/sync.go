package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// worker decides DaemonSets until the queue is shut down.
func (e *engine) worker(ctx context.Context) {
	for {
		key, stop := e.queue.Get()
		if stop {
			return
		}
		if err := e.sync(ctx, key); err != nil {
			if ctx.Err() == nil {
				e.log.Warn("a DaemonSet could not be brought up to date; it is tried again", "daemonSet", key.String(), "error", err)
			}
			e.queue.AddRateLimited(key)
		} else {
			e.queue.Forget(key)
		}
		e.rest(key)
	}
}

// rest hands the key back to the queue. A DaemonSet that takes long to decide
// is decided at most a third of the time: what happens meanwhile is decided on
// together, and the others get their turn.
func (e *engine) rest(key types.NamespacedName) {
	e.mu.Lock()
	var busy time.Duration
	if st := e.states[key]; st != nil {
		busy = st.busy
	}
	e.mu.Unlock()
	if busy < time.Millisecond {
		e.queue.Done(key)
		return
	}
	time.AfterFunc(min(2*busy, 200*time.Millisecond), func() { e.queue.Done(key) })
}

// sync brings one DaemonSet up to date as far as can be done now. It never
// waits for the creates and deletes that it starts: their results put the
// DaemonSet into the queue again.
func (e *engine) sync(ctx context.Context, key types.NamespacedName) error {
	// 1. Gather. Nothing of this DaemonSet starts while it is decided on.
	e.apply.withdraw(key)
	set := e.index.set(key)
	if set == nil || set.spec.Halt == plan.SetDeleted {
		// The garbage collector does the rest: it deletes the pods, or takes
		// our owner reference off them.
		e.forget(key, set)
		return nil
	}
	ds, st := set.ds, e.stateOf(set.ds)
	if set.spec.Halt != plan.NoReason {
		e.halt(ds, st, &set.spec)
		return nil
	}

	// 2. Claim the pods and revisions that are or should be ours.
	if err := e.claim(ctx, ds, st); err != nil {
		return err
	}

	// 3. History: the revision that pods are made from.
	history, err := e.history(ctx, ds, st)
	if err != nil {
		return ignoreReplan(err)
	}

	// 4. Plan.
	e.decide(set, history.Hash, st)

	// 5. Apply.
	e.submit(ds, history.Hash, st)

	// 6. History that is no longer needed, and status.
	if err := e.prune(ctx, history); err != nil {
		return err
	}
	again, err := e.report(ctx, ds, st)
	e.wake(key, st, again)
	return err
}

// ignoreReplan: what needs another look is in the queue already.
func ignoreReplan(err error) error {
	if errors.Is(err, errReplan) {
		return nil
	}
	return err
}

// forget drops what was remembered of a DaemonSet that is gone or going.
func (e *engine) forget(key types.NamespacedName, set *setEntry) {
	e.apply.forget(key)
	if set == nil {
		e.mu.Lock()
		delete(e.states, key)
		e.mu.Unlock()
	}
}

// halt says, once for each generation, why nothing is done.
func (e *engine) halt(ds *appsv1.DaemonSet, st *state, spec *plan.Spec) {
	if st.halted == ds.Generation {
		return
	}
	st.halted = ds.Generation
	if spec.Halt == plan.SelectsAll {
		e.events.selectsAll(ds)
	}
	e.log.Warn("a DaemonSet is left alone", "daemonSet", keyOf(ds).String(), "reason", spec.Halt.String(),
		"why", spec.Halt.Sentence(), "detail", spec.HaltDetail)
}

// decide fills the input from the index and plans. Writes that are under way
// are laid over: their pods count as uncertain.
func (e *engine) decide(set *setEntry, hash string, st *state) {
	began := time.Now()
	in := &st.in
	in.Now, in.Set = began, set.spec
	in.Set.Hash = hash
	in.Nodes = e.index.nodeSlice()
	var pending []plan.Pod
	e.apply.underway(keyOf(set.ds), func(started []*write) {
		in.Pods = e.index.podsOf(string(set.ds.UID), in.Pods[:0])
		pending = overlay(in.Pods, started, began)
	})
	in.Gone, in.Pods = e.index.departedWith(in.Pods)
	in.Pods = append(in.Pods, pending...)
	if len(in.Gone) > 0 {
		// A node of the same name that has come since gets its pods when
		// those of the old one have left.
		in.Nodes = slices.DeleteFunc(slices.Clone(in.Nodes), func(n plan.Node) bool { return in.Gone[n.Name] })
	}
	in.Backoff = st.backoffs(in.Backoff, began)
	plan.Make(in, &st.out)
	discount(in, &st.out, pending)
	st.busy = time.Since(began)
}

// overlay marks the pods that a delete is under way for, and returns a pod for
// each create under way that the index does not show yet.
func overlay(pods []plan.Pod, started []*write, now time.Time) (pending []plan.Pod) {
	if len(started) == 0 {
		return nil
	}
	deletes, creates := map[string]bool{}, map[string]*write{}
	for _, w := range started {
		if w.remove != nil {
			deletes[w.remove.UID] = true
		} else {
			creates[w.create.Node] = w
		}
	}
	for i := range pods {
		p := &pods[i]
		if deletes[p.UID] {
			p.Uncertain = p.Deleted.IsZero()
		}
		if w := creates[p.Node]; w != nil && slices.Contains(w.names, p.Name) {
			p.Uncertain = true
			delete(creates, p.Node)
		}
	}
	for node, w := range creates {
		name := ""
		if n := len(w.names); n > 0 {
			name = w.names[n-1]
		}
		pending = append(pending, plan.Pod{Name: name, Node: node, Bound: !w.create.ByScheduler,
			Hash: w.hash, Created: now, Uncertain: true})
	}
	return pending
}

// discount takes out of the status the pods that only may exist: it says what
// is, and would go back and forth with a create that is refused again and again.
func discount(in *plan.Input, out *plan.Plan, pending []plan.Pod) {
	if len(pending) == 0 {
		return
	}
	others := map[string]bool{}
	for i := range in.Pods[:len(in.Pods)-len(pending)] {
		others[in.Pods[i].Node] = true
	}
	maybe := map[string]bool{}
	for i := range pending {
		maybe[pending[i].Node] = true
	}
	for i := range out.Verdicts {
		v := &out.Verdicts[i]
		if !maybe[v.Node] || others[v.Node] {
			continue
		}
		if v.Current {
			out.Status.Current--
		}
		if v.Misscheduled {
			out.Status.Misscheduled--
		}
		if v.Updated {
			out.Status.Updated--
		}
	}
}

// submit hands the plan to the applier, without the slots that have failed and
// whose time has not come.
func (e *engine) submit(ds *appsv1.DaemonSet, hash string, st *state) {
	key, now := keyOf(ds), st.in.Now
	writes := make([]*write, 0, len(st.out.Deletes)+len(st.out.Creates))
	for _, d := range st.out.Deletes {
		if d.UID != "" && !st.waits(d.Node, now) {
			writes = append(writes, &write{key: key, ds: ds, state: st, hash: hash, remove: &d, version: e.premise(d)})
		}
	}
	known := beside(st.in.Pods, st.out.Creates)
	for _, c := range st.out.Creates {
		if !st.waits(c.Node, now) {
			writes = append(writes, &write{key: key, ds: ds, state: st, hash: hash, create: &c, known: known[c.Node]})
		}
	}
	e.apply.submit(key, writes)
}

// premise is the version that a pod must still have when it is deleted. A
// rollout rests on its being as we know it: one that spends budget on a ready
// pod, and one that replaces a pod for not being ready, which it may be by now.
// For the others the UID is enough.
func (e *engine) premise(d plan.Delete) string {
	if d.Reason != plan.Outdated && d.Reason != plan.Surged && d.Reason != plan.TaintNotTolerated {
		return ""
	}
	p := e.index.pod(d.UID)
	if p == nil {
		return ""
	}
	return formatVersion(p.version)
}

// beside is the UIDs of the pods on the nodes that get another one.
func beside(pods []plan.Pod, creates []plan.Create) map[string][]string {
	if len(creates) == 0 {
		return nil
	}
	known := make(map[string][]string, len(creates))
	for i := range creates {
		known[creates[i].Node] = nil
	}
	for i := range pods {
		if uids, ok := known[pods[i].Node]; ok {
			known[pods[i].Node] = append(uids, pods[i].UID)
		}
	}
	return known
}

// wake queues the DaemonSet for when time alone changes something: the plan, a
// slot that may be tried again, or a status that is held back.
func (e *engine) wake(key types.NamespacedName, st *state, status time.Time) {
	for _, at := range [...]time.Time{st.out.WakeAt, st.nextRetry(st.in.Now), status} {
		if !at.IsZero() {
			e.queue.AddAfter(key, max(time.Until(at), time.Millisecond))
		}
	}
}
