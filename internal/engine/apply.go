package engine

import (
	"context"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// write is one create, delete or change of a plan.
type write struct {
	key   identity          // of ds
	ds    *appsv1.DaemonSet // as it was when decided on; never written to
	state *state
	hash  string
	mold  func() (*view.Mold, error) // of the pods of hash
	// beside means that a pod of another revision may be on the same node, or be created there.
	beside bool
	// edition is the revision of the template that was decided on; hash may be another one.
	edition string
	// reaches is the release that gives the node its target by this write; zero: none.
	reaches releaseID
	create  *plan.Create // nil for others
	// succeeds means that a pod of another revision was on the node when a create was decided.
	succeeds bool
	// remade is what was known about the node's pods when a create was decided on.
	remade plan.Remakes
	remove *plan.Delete // nil for others
	change *plan.Change // nil for others
	// from is the template that the pod of a change was made from; to ds it is changed.
	from *corev1.PodTemplateSpec
	// like is the pod that would be created in place of a change.
	like *corev1.Pod
	// rests, when not nil, is the pod as it was when its delete or change was decided.
	rests *podEntry
	// known are the UIDs of the pods that were known when a create was decided, and taken their names.
	known, taken []string
	// newest is when the newest of them was created, by the API server's clock.
	newest time.Time
	// first is the salt of the name that a create asks for first.
	first int

	// began is when the write started.
	began plan.Moment

	// The applier guards the rest.
	names     []string // of a create: those that were sent
	came      int      // its place among those of its lane
	withdrawn bool
	unproven  bool // whether its lane was unproven when it started
	slow      bool // it takes longer than slowAfter
	roomless  bool // it has given its slots back
	timer     *time.Timer
}

func (w *write) node() string {
	switch {
	case w.create != nil:
		return w.create.Node
	case w.change != nil:
		return w.change.Node
	}
	return w.remove.Node
}

// about returns the name and the UID of the pod that is deleted or changed; empty of a create.
func (w *write) about() (name, uid string) {
	switch {
	case w.remove != nil:
		return w.remove.Pod, w.remove.UID
	case w.change != nil:
		return w.change.Pod, w.change.UID
	}
	return "", ""
}

// act identifies the write among those to its node.
func (w *write) act() plan.Act { return plan.ActOf(w.remove, w.change) }

// verb returns what the write does, in the words of metrics and messages.
func (w *write) verb() string {
	switch {
	case w.create != nil:
		return "create"
	case w.change != nil:
		return "change"
	}
	return "delete"
}

// result is the outcome of a write.
type result struct {
	fate   delivery.Fate
	undone bool // delivery.Outcome.Undone
	wait   time.Duration
	// own means that a failure is that of the namespace, not the server's.
	own bool
	// learn puts the result into the index.
	learn func()
}

// applier carries out writes concurrently, within one window for all and one for each DaemonSet.
// Namespaces take turns, and within each its DaemonSets. It never waits for one write before it
// starts another. A write can be withdrawn until it starts. With mu held, it calls noted for every
// write that begins or whose node is postponed untried, and ended for every write that has ended.
type applier struct {
	do           func(context.Context, *write) result
	noted, ended func(*write)
	pace         time.Duration // between creates; zero: none

	mu    sync.Mutex
	ctx   context.Context // nil before start and after stop
	lanes map[identity]*lane
	// altering has the deletes and changes under way, by the UID of their pod, which may get another owner
	// meanwhile.
	altering map[string]*write
	roster
	all      window
	slow     int       // writes that have taken longer than slowAfter
	proven   int       // lanes
	unproven int       // writes of other lanes in the window for all
	lastGood time.Time // when a write last succeeded
	resume   time.Time // the server asked for no requests until then
	created  time.Time // when the last create started, for the pace
	timer    *time.Timer
	running  sync.WaitGroup
}

func newApplier(createQPS float64, do func(context.Context, *write) result, noted, ended func(*write)) *applier {
	a := &applier{do: do, noted: noted, ended: ended, lanes: map[identity]*lane{}, altering: map[string]*write{},
		roster: roster{tenants: map[string]*tenant{}}, all: newWindow()}
	if createQPS > 0 {
		a.pace = time.Duration(float64(time.Second) / createQPS)
	}
	return a
}

func (a *applier) start(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx = ctx
}

// stop starts nothing more and waits for what has started. The context given
// to start must have ended.
func (a *applier) stop() {
	a.mu.Lock()
	a.ctx = nil
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	a.running.Wait()
}

// hold keeps the DaemonSet's writes from starting until release is called.
func (a *applier) hold(key identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lane(key).held = true
}

// release lets them start again.
func (a *applier) release(key identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		l.held = false
		a.tidy(l)
		a.pump()
	}
}

// withdraw takes back every write of the DaemonSet that has not started.
func (a *applier) withdraw(key identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		l.withdraw(func(*write) bool { return true })
		a.tidy(l)
	}
}

// forget withdraws, and drops what was remembered of a DaemonSet that is gone.
func (a *applier) forget(key identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		l.afresh()
		l.withdraw(func(*write) bool { return true })
		a.tidy(l)
	}
}

// afresh ends the pauses of a DaemonSet that was edited.
func (a *applier) afresh(key identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		l.afresh()
		a.tidy(l)
	}
}

// replace takes the writes of a new decision for one node. They replace the writes of an older
// decision that have not started.
func (a *applier) replace(key identity, node string, writes []*write) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[key]
	if l == nil && len(writes) == 0 {
		return
	}
	l = a.lane(key)
	if len(writes) > 0 && writes[0].ds != nil {
		l.rank = rankOf(writes[0])
	}
	l.replace(node, writes)
	if l.waiting > 0 {
		a.queues(l)
	}
	a.tidy(l)
}

// lane returns the DaemonSet's lane, which it creates if needed.
func (a *applier) lane(key identity) *lane {
	l := a.lanes[key]
	if l == nil {
		l = newLane(key, a.tenant(key.Namespace))
		l.tenant.known++
		a.lanes[key] = l
	}
	return l
}

// tidy removes a lane in which nothing waits from the turn, and forgets it if it has nothing to
// remember.
func (a *applier) tidy(l *lane) {
	if l.waiting > 0 {
		return
	}
	l.creates, l.deletes = nil, nil
	a.leaves(l)
	if len(l.started) == 0 && !l.held && len(l.overQuota) == 0 && l.quotaWait == 0 && !l.troubled() {
		a.prove(l, false)
		l.tenant.known--
		delete(a.lanes, l.key)
	}
}

// underway calls see with the lane of the DaemonSet, which may be nil, and with every delete and
// change under way by the UID of its pod. No write ends while see runs, so what it reads from the
// index and from these belongs to one moment.
func (a *applier) underway(key identity, see func(*lane, map[string]*write)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	see(a.lanes[key], a.altering)
}

// busy returns how many writes of the DaemonSet have started and not ended.
func (a *applier) busy(key identity) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		return len(l.started)
	}
	return 0
}

// pending returns how many writes of the DaemonSet are under way or wait to start.
func (a *applier) pending(key identity) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		return l.waiting + len(l.started)
	}
	return 0
}

// has reports whether a write to the node is under way or waits to start.
func (a *applier) has(key identity, node string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[key]
	return l != nil && l.places[node] != nil
}

// silent reports whether the server is throttling, or has not answered, so that no new write may
// begin.
func (a *applier) silent(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.resume)
}

// idle reports whether the DaemonSet has no writes under way or waiting to start.
func (a *applier) idle(key identity) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[key]
	return l == nil || l.waiting+len(l.started) == 0
}

// naming records a name before it is sent, so that a pod that the watch shows before the answer
// arrives is recognized as that of this write.
func (a *applier) naming(w *write, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.names = append(w.names, name)
}

// pump starts as many writes as the windows allow. Called with mu held.
func (a *applier) pump() {
	a.fill(a.spawn)
}

// spawn carries out a write, and then, one after the other, those that have begun because the one before has ended. A new
// goroutine would have to grow its stack for each of them, which costs more than what the engine decides about it.
func (a *applier) spawn(w *write) {
	ctx := a.ctx
	a.running.Go(func() {
		for w != nil {
			w = a.end(w, a.do(ctx, w))
		}
	})
}

// fill begins as many writes as the windows allow, and gives each to carry.
func (a *applier) fill(carry func(*write)) {
	if a.ctx == nil || a.ctx.Err() != nil {
		return
	}
	now := time.Now()
	if now.Before(a.resume) {
		a.later(a.resume.Sub(now))
		return
	}
	for a.all.room() {
		w, due := a.next(now)
		if w == nil {
			if !due.IsZero() {
				a.later(due.Sub(now))
			}
			return
		}
		a.begin(w, now)
		carry(w)
	}
}

func (a *applier) begin(w *write, now time.Time) {
	l := a.lanes[w.key]
	l.win.busy++
	a.all.busy++
	if w.unproven = !l.proven; w.unproven {
		a.unproven++
	}
	if w.create != nil {
		a.created = now
	} else {
		_, uid := w.about()
		a.altering[uid] = w
	}
	a.noted(w)
	w.timer = time.AfterFunc(slowAfter, func() { a.slows(w) })
}

// slows takes a write that takes long out of the window for all.
func (a *applier) slows(w *write) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[w.key]
	if l == nil || !l.started[w] || w.roomless {
		return
	}
	w.slow = true
	l.speed = speedSlow
	l.slow++
	l.tenant.slow++
	a.slow++
	a.leave(w)
	a.pump()
}

// leave gives back a write's slot in the window for all.
func (a *applier) leave(w *write) {
	a.all.busy--
	if w.unproven {
		a.unproven--
	}
}

// giveRoom takes a write out of all windows if its outcome is unknown and may stay so for long.
// The write stays under way. What it says about the server is accounted for now, and not again
// when it ends.
func (a *applier) giveRoom(w *write, own bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[w.key]
	if w.roomless {
		return
	}
	a.free(l, w)
	a.lost(l, w, own, time.Now())
	a.pump()
}

// free gives back all slots of a write, once.
func (a *applier) free(l *lane, w *write) {
	if w.roomless {
		return
	}
	w.roomless = true
	w.timer.Stop()
	l.win.busy--
	if !w.slow {
		a.leave(w)
		return
	}
	l.slow--
	l.tenant.slow--
	a.slow--
}

// end takes a result: first into the index, and only then is the write no longer under way. It returns a write that the
// caller has to carry out next, if there is one.
func (a *applier) end(w *write, r result) (next *write) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.learn != nil {
		r.learn()
	}
	l := a.lanes[w.key]
	l.end(w)
	if _, uid := w.about(); a.altering[uid] == w {
		delete(a.altering, uid)
	}
	told := w.roomless && r.fate == delivery.Unknown
	if !w.slow && !w.roomless {
		l.speed = speedQuick
	}
	a.free(l, w)
	if !told {
		a.account(l, w, r, time.Now())
	}
	a.tidy(l)
	a.ended(w)
	a.fill(func(w *write) {
		if next == nil {
			next = w
		} else {
			a.spawn(w)
		}
	})
	return next
}

// putOff withdraws the waiting creates and holds their slots until at.
func (a *applier) putOff(l *lane, at time.Time, why string) {
	l.withdraw(func(w *write) bool {
		if w.create != nil {
			w.state.putOff(w.create.Node, w.act(), at, why)
			a.noted(w)
		}
		return w.create != nil
	})
}

// later pumps again after d.
func (a *applier) later(d time.Duration) {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(d, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pump()
	})
}
