package engine

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// dispatch runs decisions, as many at once as there are seats, until the queue is shut down.
func (e *engine) dispatch(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	d := deciders{next: make(chan types.NamespacedName), idle: make(chan struct{}, idleDeciders)}
	defer close(d.next)
	for {
		key, stop := e.queue.Get()
		if stop {
			return
		}
		if e.seats.crowded(key.Namespace) {
			e.queue.AddAfter(key, awayPause)
			e.queue.Done(key)
			continue
		}
		e.seats.take()
		select {
		case d.next <- key:
		default:
			all.Go(func() { d.work(key, func(key types.NamespacedName) { e.decideOn(ctx, key) }) })
		}
	}
}

// idleDeciders is how many goroutines wait for another decision.
const idleDeciders = 4

// deciders are goroutines that decide again and again: a new one would have to grow its stack for each decision.
type deciders struct {
	next chan types.NamespacedName // closed when there is nothing more to decide on
	idle chan struct{}             // has one for each goroutine that waits
}

// work decides on key, and then on what is next, unless enough others wait for that.
func (d deciders) work(key types.NamespacedName, decide func(types.NamespacedName)) {
	for ok := true; ok; {
		decide(key)
		select {
		case d.idle <- struct{}{}:
		default:
			return
		}
		key, ok = <-d.next
		<-d.idle
	}
}

// decideOn brings one DaemonSet up to date, or schedules a retry.
func (e *engine) decideOn(ctx context.Context, key types.NamespacedName) {
	mine := e.seats.sit(key.Namespace)
	defer e.seats.stand(mine)
	began := time.Now()
	err := e.sync(seated(ctx, mine), key)
	e.cfg.Monitor.decided(time.Since(began), err)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("could not bring a DaemonSet up to date; trying again", "daemonSet", key.String(), "err", err)
			e.tellStopped(ctx, key, err)
		}
		e.queue.AddRateLimited(key)
	} else {
		e.queue.Forget(key)
	}
	e.rest(key)
}

// crowdRest is how long a DaemonSet rests after a decision while a crowd of its writes is under
// way: each of them causes several events, and new writes would wait behind these anyway.
const (
	crowd     = delivery.FirstWindow
	crowdRest = 20 * time.Millisecond
)

// rest returns the key to the queue. Decisions on a slow DaemonSet take at most a third of the
// time: events that arrive meanwhile are handled together, and the others get their turn.
func (e *engine) rest(key types.NamespacedName) {
	var pause time.Duration
	e.mu.Lock()
	st := e.states[key]
	e.mu.Unlock()
	if st != nil {
		if st.busy >= time.Millisecond {
			pause = min(2*st.busy, 200*time.Millisecond)
		}
		if e.apply.busy(st.id) >= crowd {
			pause = max(pause, crowdRest)
		}
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
	set := e.index.set(key)
	if mine, err := e.guard(ctx, key, set); mine {
		return err
	}
	e.forgetOthers(key, set)
	if set == nil {
		return nil
	}
	// 1. Nothing of this DaemonSet starts while it is decided on.
	id := identityOf(set.ds)
	e.apply.hold(id)
	defer e.apply.release(id)
	if set.spec.Halt == plan.SetDeleted {
		// The garbage collector does the rest: it deletes the pods, or removes our owner reference from them.
		e.apply.forget(id)
		return nil
	}
	st := e.stateOf(set.ds)
	if st.afresh(set.ds.Generation) {
		e.apply.afresh(id)
		e.undecided(st)
	}
	if e.cfg.Assist {
		return e.assist(ctx, set, st)
	}
	e.tellBinder(set, st)
	if set.spec.Halt != plan.NoReason {
		e.halt(set.ds, st, &set.spec)
		return nil
	}

	// 2. Decide, and act.
	history, retry, err := e.act(ctx, set, st)
	if errors.Is(err, errReplan) {
		e.undecided(st)
		return nil // it is already in the queue
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		retry = e.observe(set, history, st)
	}
	e.apply.release(id)

	// 3. History that is no longer needed goes, and the status is written: it is
	// true whatever else has failed.
	observed := set.ds.Status.ObservedGeneration
	if err == nil {
		observed = set.ds.Generation
		err = e.prune(ctx, history)
	}
	again, reported := e.report(ctx, set, st, observed)
	e.wake(key, st.ledger.WakeAt(), retry, again)
	return errors.Join(err, reported)
}

// act claims the pods and revisions that are or should be ours, makes sure that the template is
// the newest and has its revision, and then decides. With an error, nothing of the decision may
// be carried out. The returned time is when a failed slot may be retried.
func (e *engine) act(ctx context.Context, set *setEntry, st *state) (history *view.HistoryPlan, retry time.Time, err error) {
	ds := set.ds
	if err := e.readNewer(ctx, ds, st); err != nil {
		return nil, time.Time{}, err
	}
	if err := e.claim(ctx, ds, st); err != nil {
		return nil, time.Time{}, err
	}
	if history, err = e.history(ctx, set, st); err != nil {
		return nil, time.Time{}, err
	}
	retry, err = e.actAt(ctx, set, history.Hash, st)
	return history, retry, err
}

// actAt is act once it is known which revision the template has.
func (e *engine) actAt(ctx context.Context, set *setEntry, hash string, st *state) (retry time.Time, err error) {
	if err := e.steer(ctx, set, hash, st); err != nil {
		return time.Time{}, err
	}
	st.course.steered = true
	e.weighInPlace(ctx, set, hash, st)
	retry = e.decide(set, hash, st)
	if e.cfg.decided != nil {
		e.cfg.decided(e, set, st)
	}
	again, err := e.proceed(ctx, set, hash, st)
	if retry = earlier(retry, again); err != nil {
		return retry, err
	}
	return retry, e.confirm(ctx, set.ds, st)
}

// observe withdraws the writes of an older decision, which may be outdated. It looks at
// everything, for the status, but writes nothing. The next decision also looks at everything, and
// acts.
func (e *engine) observe(set *setEntry, history *view.HistoryPlan, st *state) (retry time.Time) {
	e.undecided(st)
	var hash string
	if history != nil {
		hash = history.Hash
	} else {
		hash = e.presentHash(set.ds)
	}
	retry = e.decide(set, hash, st)
	e.undecided(st)
	return retry
}

// undecided withdraws the writes of an older decision. The next decision looks at everything.
func (e *engine) undecided(st *state) {
	e.apply.withdraw(st.id)
	st.set = nil
}

// forgetOthers drops everything remembered about a DaemonSet that is gone, even if another has
// its name, including how often it failed.
func (e *engine) forgetOthers(key types.NamespacedName, set *setEntry) {
	e.mu.Lock()
	st := e.states[key]
	other := st != nil && (set == nil || set.ds.UID != st.id.uid)
	if other {
		delete(e.states, key)
	}
	e.mu.Unlock()
	if other {
		e.apply.forget(st.id)
		e.index.attend(string(st.id.uid), false)
		e.pulse.follow(st.id.uid, key, false)
		e.events.forget(st.id.uid)
		e.queue.Forget(key)
	}
}

// halt reports, once for each generation, why nothing is done.
func (e *engine) halt(ds *appsv1.DaemonSet, st *state, spec *plan.Spec) {
	if st.halted == ds.Generation {
		return
	}
	st.halted = ds.Generation
	e.undecided(st)
	if spec.Halt == plan.SelectsAll {
		e.events.selectsAll(ds)
	}
	e.log.Warn("leaving a DaemonSet alone", "daemonSet", keyOf(ds).String(), "reason", spec.Halt.String(),
		"why", spec.Halt.Sentence(), "detail", spec.HaltDetail)
}

// lookAtOnce is how many nodes are looked at while no write can end and no event can be recorded;
// lookAtOnceHeavy applies to long placements.
const (
	lookAtOnce      = 256
	lookAtOnceHeavy = 4
)

// lookAtOnce also regards the placement of the stable revision, which may be another one.
func (s *setEntry) lookAtOnce(c *course) int {
	if s.heavy || c.release != nil && c.stable != nil && c.stable.heavy {
		return lookAtOnceHeavy
	}
	return lookAtOnce
}

// decide looks at the nodes where something has happened, or at all nodes, and hands the writes
// there to the applier. Pods of writes that are under way count as uncertain. It returns when a
// failed slot may be retried.
func (e *engine) decide(set *setEntry, hash string, st *state) (retry time.Time) {
	st.looking.Lock()
	defer st.looking.Unlock()
	id, uid := st.id, string(st.id.uid)
	st.now = time.Now()
	names, retry := st.retryable(st.now, st.names[:0])
	if e.begins(set, hash, st) {
		e.apply.withdraw(id)
		st.begin(set.spec, hash)
		names = e.index.everywhere(uid)
		st.allInSight()
	} else {
		var since time.Time
		names, since = e.index.takeMarked(uid, names)
		e.cfg.Monitor.waited(since, st.now)
		names = st.ledger.Due(st.now, names)
		names = st.goOn(names)
	}
	room := st.room(e.apply.pending(id))
	names, late := st.takeLate(room, st.now, names)
	for some := range slices.Chunk(names, set.lookAtOnce(&st.course)) {
		e.apply.underway(id, func(l *lane, altering map[string]*write) {
			e.index.look(uid, some, func(s *plan.Sight) {
				overlay(s, l.startedOn(s.Name), altering, st.now)
				st.tellNewer(s)
				st.notice(s.Name, s.Pods, st.now)
				if st.course.assists {
					st.endedBeside(s.Pods, st.now)
				}
				s.Backoff, s.Waits, s.Reached = st.backoffOf(s.Name, st.now), st.waitsOf(s.Name, st.now), st.reachedWith(s.Name, hash)
				s.Refused = st.refusal(s.Name).known()
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
		case !e.apply.has(id, v.Node):
			st.leave(v.Node)
			writes = nil
		}
		e.apply.replace(id, v.Node, writes)
	})
	if st.stalls(st.now) && e.apply.idle(id) {
		late = st.now
	}
	retry = earlier(retry, late)
	st.names = names[:0]
	st.busy = time.Since(st.now)
	return retry
}

// earlier returns the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// begins reports whether the ledger is not about the current decision.
func (e *engine) begins(set *setEntry, hash string, st *state) bool {
	follows := st.course.following()
	same := st.set != nil && st.following == follows && st.hash == hash && (st.set == set || reflect.DeepEqual(&st.set.spec, &set.spec))
	if st.set != set || st.hash != hash {
		st.mold = sync.OnceValues(func() (*view.Mold, error) { return view.NewMold(set.ds, hash) })
	}
	st.set, st.hash, st.following = set, hash, follows
	st.edited(hash)
	return !same
}

// begin resets the ledger. Pods that a policy drives do not wait for a person to delete them.
func (st *state) begin(spec plan.Spec, hash string) {
	spec.Hash, spec.InPlace = hash, st.inPlace.target
	st.course.specify(&spec)
	st.ledger.Reset(spec)
	st.ledger.Follow(st.course.release)
	st.ledger.Guard(st.course.removals.Guard())
}

// overlay marks the pods of writes that are under way, and adds one for each create that the
// index does not show yet. started holds the DaemonSet's own writes; a delete or change counts
// whichever DaemonSet requested it, because its pod may have changed owner.
func overlay(s *plan.Sight, started []*write, altering map[string]*write, now time.Time) {
	for i, p := range s.Pods {
		w := altering[p.UID]
		switch {
		case w == nil:
		case w.change != nil:
			s.Pods[i] = uncertain(p)
		case p.Deleted.IsZero():
			going := uncertain(p)
			going.SeenDeleted = w.began
			s.Pods[i] = going
		case w.began < p.SeenDeleted: // the watch was quicker than the answer
			going := *p
			going.SeenDeleted = w.began
			s.Pods[i] = &going
		}
	}
	for _, w := range started {
		if w.create == nil {
			continue
		}
		shown := false
		for i, p := range s.Pods {
			if slices.Contains(w.names, p.Name) && !slices.Contains(w.known, p.UID) {
				made := uncertain(p)
				made.SeenCreated = min(p.SeenCreated, w.began)
				s.Pods[i], shown = made, true
			}
		}
		if !shown {
			s.Pods = append(s.Pods, w.pod(now))
		}
	}
}

func uncertain(p *plan.Pod) *plan.Pod {
	copied := *p
	copied.Uncertain = true
	return &copied
}

// pod returns the pod that a create under way may have made.
func (w *write) pod(now time.Time) *plan.Pod {
	name := ""
	if n := len(w.names); n > 0 {
		name = w.names[n-1]
	}
	return &plan.Pod{Name: name, Node: w.create.Node, Bound: !w.create.ByScheduler, Hash: w.hash,
		Created: now, SeenCreated: w.began, Uncertain: true, Assumed: true}
}

// writes returns the writes of a verdict. A slot that has changed since it was looked at waits
// for the next decision.
func (e *engine) writes(ds *appsv1.DaemonSet, hash string, st *state, v *plan.Verdict) (all []*write) {
	deletes, creates, changes := v.Deletes(), v.Creates(), v.Changes()
	if len(deletes)+len(creates)+len(changes) == 0 {
		return nil
	}
	pods, ok := e.index.standing(string(ds.UID), v.Node)
	if !ok {
		return nil
	}
	c := &st.course
	made := write{key: st.id, ds: ds, state: st, hash: hash, edition: hash, mold: st.mold, beside: st.ledger.Spec().Surges() || c.release != nil}
	for _, d := range deletes {
		if d.UID != "" {
			w := made
			w.remove, w.rests, w.reaches = &d, premise(&d, pods), c.reaches(d.Reaches)
			st.rolling = st.rolling || d.Reason == plan.Outdated || d.Reason == plan.Surged
			all = append(all, &w)
		}
	}
	for _, change := range changes {
		if w := st.changes(made, &change, pods); w != nil {
			all = append(all, w)
		}
	}
	for _, create := range creates {
		w := made
		w.create, w.reaches, w.remade = &create, c.reaches(!create.Stable), st.remembered(v.Node, st.now)
		if create.Stable {
			w.ds, w.hash, w.mold = c.stable.ds, c.stable.hash, c.stable.mold
		}
		for _, p := range pods {
			w.known, w.taken = append(w.known, p.UID), append(w.taken, p.Name)
			w.succeeds = w.succeeds || p.Hash != w.hash && p.Deleted.IsZero() && p.Phase != plan.Failed && p.Phase != plan.Succeeded
			if p.Created.After(w.newest) {
				w.newest = p.Created
			}
		}
		w.first = st.firstName(&w, st.now)
		all = append(all, &w)
	}
	return all
}

// premise returns the state that the pod must still have when it is deleted; nil: any. A rollout
// depends on that state, whether it spends budget on a ready pod, or replaces a pod because it is
// not ready, which may have changed. For other deletes the UID is enough.
func premise(d *plan.Delete, pods []*podEntry) *podEntry {
	if d.Reason != plan.Outdated && d.Reason != plan.Surged && d.Reason != plan.TaintNotTolerated {
		return nil
	}
	i := slices.IndexFunc(pods, func(p *podEntry) bool { return p.UID == d.UID })
	if i < 0 {
		return nil
	}
	return pods[i]
}

// wake queues the DaemonSet for the time when something changes by itself: the plan, a slot that
// may be retried, or a status that is held back.
func (e *engine) wake(key types.NamespacedName, when ...time.Time) {
	for _, at := range when {
		if !at.IsZero() {
			e.queue.AddAfter(key, max(time.Until(at), time.Millisecond))
		}
	}
}
