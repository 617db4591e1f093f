package engine

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// worker decides DaemonSets until the queue is shut down.
func (e *engine) worker(ctx context.Context, deciding *atomic.Int64) {
	for {
		key, stop := e.queue.Get()
		if stop {
			return
		}
		began := time.Now()
		deciding.Store(began.UnixNano())
		err := e.sync(ctx, key)
		deciding.Store(0)
		e.cfg.Monitor.decided(time.Since(began), err)
		if err != nil {
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

// crowdRest is how long a DaemonSet rests after a decision while a crowd of its
// writes is under way: each of them brings several events, and what they call for
// waits behind the writes anyway.
const (
	crowd     = firstWindow
	crowdRest = 20 * time.Millisecond
)

// rest hands the key back to the queue. A DaemonSet that takes long to decide
// is decided at most a third of the time: what happens meanwhile is decided on
// together, and the others get their turn.
func (e *engine) rest(key types.NamespacedName) {
	e.mu.Lock()
	var pause time.Duration
	if st := e.states[key]; st != nil && st.busy >= time.Millisecond {
		pause = min(2*st.busy, 200*time.Millisecond)
	}
	e.mu.Unlock()
	if e.apply.busy(key) >= crowd {
		pause = max(pause, crowdRest)
	}
	if pause == 0 {
		e.queue.Done(key)
		return
	}
	time.AfterFunc(pause, func() { e.queue.Done(key) })
}

// sync brings one DaemonSet up to date as far as can be done now. It never
// waits for the creates and deletes that it starts: their results put the
// DaemonSet into the queue again.
func (e *engine) sync(ctx context.Context, key types.NamespacedName) error {
	// 1. Nothing of this DaemonSet starts while it is decided on.
	e.apply.hold(key)
	defer e.apply.release(key)
	set := e.index.set(key)
	if mine, err := e.guard(ctx, key, set); mine {
		return err
	}
	if set == nil || set.spec.Halt == plan.SetDeleted {
		// The garbage collector does the rest: it deletes the pods, or takes
		// our owner reference off them.
		e.forget(key, set)
		return nil
	}
	ds, st := set.ds, e.stateOf(set.ds)
	e.tellBinder(set, st)
	if set.spec.Halt != plan.NoReason {
		e.halt(ds, st, &set.spec)
		return nil
	}

	// 2. Claim the pods and revisions that are or should be ours, and make
	// sure that the template is the newest and has its revision.
	history, err := e.prepare(ctx, ds, st)
	if err != nil {
		e.undecided(key, st)
		return ignoreReplan(err)
	}

	// 3. Plan, and act.
	retry := e.decide(set, history.Hash, st)
	if e.cfg.decided != nil {
		e.cfg.decided(e, set, st)
	}
	if err := e.confirm(ctx, ds, st); err != nil {
		e.undecided(key, st)
		return ignoreReplan(err)
	}
	e.apply.release(key)

	// 4. History that is no longer needed, and status.
	if err := e.prune(ctx, history); err != nil {
		return err
	}
	again, err := e.report(ctx, ds, st)
	e.wake(key, st.ledger.WakeAt(), retry, again)
	return err
}

func (e *engine) prepare(ctx context.Context, ds *appsv1.DaemonSet, st *state) (*view.HistoryPlan, error) {
	if err := e.readNewer(ctx, ds, st); err != nil {
		return nil, err
	}
	if err := e.claim(ctx, ds, st); err != nil {
		return nil, err
	}
	return e.history(ctx, ds, st)
}

// undecided takes back what an older decision wanted: it may not be so any
// more. The next decision looks at everything.
func (e *engine) undecided(key types.NamespacedName, st *state) {
	e.apply.withdraw(key)
	st.set = nil
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
		defer e.mu.Unlock()
		if st := e.states[key]; st != nil {
			e.events.forget(types.UID(st.uid))
		}
		delete(e.states, key)
	}
}

// halt says, once for each generation, why nothing is done.
func (e *engine) halt(ds *appsv1.DaemonSet, st *state, spec *plan.Spec) {
	if st.halted == ds.Generation {
		return
	}
	st.halted = ds.Generation
	e.undecided(keyOf(ds), st)
	if spec.Halt == plan.SelectsAll {
		e.events.selectsAll(ds)
	}
	e.log.Warn("a DaemonSet is left alone", "daemonSet", keyOf(ds).String(), "reason", spec.Halt.String(),
		"why", spec.Halt.Sentence(), "detail", spec.HaltDetail)
}

// lookAtOnce is how many nodes are looked at while no write can end.
const lookAtOnce = 256

// decide looks at the nodes that something has happened to, or at all, and
// hands what is to be done there to the applier. Writes that are under way are
// laid over: their pods count as uncertain. It returns when a slot that has
// failed may be tried again.
func (e *engine) decide(set *setEntry, hash string, st *state) (retry time.Time) {
	st.looking.Lock()
	defer st.looking.Unlock()
	key, uid := keyOf(set.ds), string(set.ds.UID)
	st.now = time.Now()
	names, retry := st.retryable(st.now, st.names[:0])
	if e.begins(set, hash, st) {
		e.apply.withdraw(key)
		spec := set.spec
		spec.Hash = hash
		st.ledger.Reset(spec)
		names = e.index.everywhere(uid)
		st.allInSight()
	} else {
		var since time.Time
		names, since = e.index.takeMarked(uid, names)
		e.cfg.Monitor.waited(since, st.now)
		names = st.ledger.Due(st.now, names)
	}
	room := st.room(e.apply.pending(key))
	names, late := st.takeLate(room, st.now, names)
	for some := range slices.Chunk(names, lookAtOnce) {
		e.apply.underway(key, func(l *lane) {
			e.index.look(uid, some, func(s *plan.Sight) {
				overlay(s, l.startedOn(s.Name), st.now)
				st.tellNewer(s)
				st.notice(s.Pods)
				s.Backoff = st.backoffOf(s.Name, st.now)
				st.ledger.Look(st.now, *s)
			})
		})
	}
	st.rolling = false
	st.ledger.Settle(func(v *plan.Verdict) {
		if v.Reason == plan.PodsDoNotLast {
			e.pauses(set.ds, st, v)
		}
		writes := e.writes(set.ds, hash, st, v)
		switch {
		case len(writes) == 0 || len(v.Creates()) == 0:
		case room > 0:
			room--
		case !e.apply.has(key, v.Node):
			st.leave(v.Node)
			writes = nil
		}
		e.apply.replace(key, v.Node, writes)
	})
	if st.stalls(st.now) && e.apply.idle(key) {
		late = st.now
	}
	retry = earlier(retry, late)
	st.names = names[:0]
	st.busy = time.Since(st.now)
	return retry
}

// earlier is the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// begins says that the ledger is not about what is to be decided now.
func (e *engine) begins(set *setEntry, hash string, st *state) bool {
	same := st.set != nil && st.hash == hash && (st.set == set || reflect.DeepEqual(&st.set.spec, &set.spec))
	if st.set != set || st.hash != hash {
		st.mold = sync.OnceValues(func() (*view.Mold, error) { return view.NewMold(set.ds, hash) })
	}
	st.set, st.hash = set, hash
	st.edited(hash)
	return !same
}

// overlay marks the pods that a write is under way for, and adds one for each
// create that the index does not show yet.
func overlay(s *plan.Sight, started []*write, now time.Time) {
	for _, w := range started {
		shown := w.remove != nil
		for i, p := range s.Pods {
			of := w.remove != nil && p.UID == w.remove.UID && p.Deleted.IsZero() ||
				w.create != nil && slices.Contains(w.names, p.Name) && !slices.Contains(w.known, p.UID)
			if of {
				copied := *p
				copied.Uncertain, shown = true, true
				s.Pods[i] = &copied
			}
		}
		if !shown {
			s.Pods = append(s.Pods, w.pod(now))
		}
	}
}

// pod is what a create that is under way may have made.
func (w *write) pod(now time.Time) *plan.Pod {
	name := ""
	if n := len(w.names); n > 0 {
		name = w.names[n-1]
	}
	return &plan.Pod{Name: name, Node: w.create.Node, Bound: !w.create.ByScheduler, Hash: w.hash,
		Created: now, Uncertain: true, Assumed: true}
}

// writes is what a verdict asks for. A slot that has failed waits until its
// time comes, and one that has changed since it was looked at for the next
// decision.
func (e *engine) writes(ds *appsv1.DaemonSet, hash string, st *state, v *plan.Verdict) (all []*write) {
	deletes, creates := v.Deletes(), v.Creates()
	if len(deletes)+len(creates) == 0 || st.waits(v.Node, st.now) {
		return nil
	}
	pods, ok := e.index.standing(string(ds.UID), v.Node)
	if !ok {
		return nil
	}
	made := write{key: keyOf(ds), ds: ds, state: st, hash: hash, mold: st.mold, surges: st.set.spec.Surges()}
	for _, d := range deletes {
		if d.UID != "" {
			w := made
			w.remove, w.version = &d, premise(&d, pods)
			st.rolling = st.rolling || d.Reason == plan.Outdated || d.Reason == plan.Surged
			all = append(all, &w)
		}
	}
	for _, c := range creates {
		w := made
		w.create = &c
		for _, p := range pods {
			w.known = append(w.known, p.UID)
		}
		all = append(all, &w)
	}
	return all
}

// premise is the version that a pod must still have when it is deleted. A
// rollout rests on its being as we know it: one that spends budget on a ready
// pod, and one that replaces a pod for not being ready, which it may be by now.
// For the others the UID is enough.
func premise(d *plan.Delete, pods []*podEntry) string {
	if d.Reason != plan.Outdated && d.Reason != plan.Surged && d.Reason != plan.TaintNotTolerated {
		return ""
	}
	i := slices.IndexFunc(pods, func(p *podEntry) bool { return p.UID == d.UID })
	if i < 0 {
		return ""
	}
	return formatVersion(pods[i].version)
}

// wake queues the DaemonSet for when time alone changes something: the plan, a
// slot that may be tried again, or a status that is held back.
func (e *engine) wake(key types.NamespacedName, when ...time.Time) {
	for _, at := range when {
		if !at.IsZero() {
			e.queue.AddAfter(key, max(time.Until(at), time.Millisecond))
		}
	}
}
