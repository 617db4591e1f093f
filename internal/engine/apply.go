package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// write is one create or delete of a plan.
type write struct {
	key    types.NamespacedName
	ds     *appsv1.DaemonSet // as decided on; never written to
	state  *state
	hash   string
	create *plan.Create // nil for a delete
	remove *plan.Delete // nil for a create
	// version, when not empty, is the only version of the pod that may be
	// deleted: the decision rests on it.
	version string
	// known is the UIDs of the pods that a create was decided beside.
	known []string

	names []string // of a create: those that were sent; guarded by applier.mu
}

func (w *write) node() string {
	if w.create != nil {
		return w.create.Node
	}
	return w.remove.Node
}

// result is what became of a write.
type result struct {
	fate fate
	wait time.Duration
	// learn puts what was learned into the index.
	learn func()
}

// applier carries out writes: concurrently, within a window for all and one for
// each DaemonSet, taking DaemonSets in turn. It never waits for one write to
// start another. Until it starts, a write can be withdrawn.
type applier struct {
	do   func(context.Context, *write) result
	woke func(types.NamespacedName)
	pace time.Duration // between creates; zero: none

	mu      sync.Mutex
	ctx     context.Context // nil before start and after stop
	lanes   map[types.NamespacedName]*lane
	turn    []*lane // lanes with something pending; the first is next
	all     window
	resume  time.Time // the server asked for silence until then
	created time.Time // when the last create started, for the pace
	timer   *time.Timer
	running sync.WaitGroup
}

// lane is the writes of one DaemonSet.
type lane struct {
	key     types.NamespacedName
	pending []*write
	started map[*write]bool
	win     window
	// overQuota is the nodes whose creates met the quota since one succeeded.
	overQuota map[string]bool
	quotaWait time.Duration
}

// manyOverQuota is how many different nodes must have met the quota before
// creates for others are put off untried.
const manyOverQuota = 3

func newApplier(createQPS float64, do func(context.Context, *write) result, woke func(types.NamespacedName)) *applier {
	a := &applier{do: do, woke: woke, lanes: map[types.NamespacedName]*lane{}, all: newWindow()}
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

// withdraw takes back every write of the DaemonSet that has not started.
func (a *applier) withdraw(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		a.pend(l, nil)
	}
}

// forget withdraws, and drops what was remembered of a DaemonSet that is gone.
func (a *applier) forget(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[key]; l != nil {
		l.overQuota, l.quotaWait = map[string]bool{}, 0
		a.pend(l, nil)
	}
}

// submit takes the writes of a new decision, in place of any pending ones. A
// slot that still has a write under way is left out: its result comes first.
func (a *applier) submit(key types.NamespacedName, writes []*write) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[key]
	if l == nil {
		if len(writes) == 0 {
			return
		}
		l = &lane{key: key, started: map[*write]bool{}, win: newWindow(), overQuota: map[string]bool{}}
		a.lanes[key] = l
	}
	a.pend(l, slices.DeleteFunc(writes, l.conflicts))
	a.pump()
}

// conflicts says that a started write is about the same pod or place. A create
// waits for any write to its node: what that learns may change the new name.
func (l *lane) conflicts(w *write) bool {
	for s := range l.started {
		if w.create != nil && s.node() == w.create.Node ||
			w.remove != nil && s.remove != nil && w.remove.UID == s.remove.UID {
			return true
		}
	}
	return false
}

// pend replaces what is pending in a lane. An empty lane leaves the turn, and
// is forgotten when it has nothing to remember.
func (a *applier) pend(l *lane, writes []*write) {
	had := len(l.pending) > 0
	l.pending = writes
	switch has := len(writes) > 0; {
	case has && !had:
		a.turn = append(a.turn, l)
	case !has && had:
		a.turn = slices.DeleteFunc(a.turn, func(o *lane) bool { return o == l })
	}
	if len(writes) == 0 && len(l.started) == 0 && len(l.overQuota) == 0 && l.quotaWait == 0 {
		delete(a.lanes, l.key)
	}
}

// underway calls see with the writes of the DaemonSet that have started and not
// ended. No write ends while see runs, so what see reads from the index and
// this list are of the same moment.
func (a *applier) underway(key types.NamespacedName, see func([]*write)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var started []*write
	if l := a.lanes[key]; l != nil {
		for w := range l.started {
			started = append(started, w)
		}
	}
	see(started)
}

// naming records a name before it is sent, so that a pod which the watch shows
// before the answer comes is known for this write's.
func (a *applier) naming(w *write, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.names = append(w.names, name)
}

// pump starts what the windows have room for. Called with mu held.
func (a *applier) pump() {
	if a.ctx == nil || a.ctx.Err() != nil {
		return
	}
	now := time.Now()
	if now.Before(a.resume) {
		a.later(a.resume.Sub(now))
		return
	}
	for a.all.room() {
		w := a.next(now)
		if w == nil {
			return
		}
		a.begin(w, now)
	}
}

// next takes the next write, from each lane in turn.
func (a *applier) next(now time.Time) *write {
	for i, l := range a.turn {
		w := l.pending[0]
		if !l.win.room() {
			continue
		}
		if due := a.created.Add(a.pace); w.create != nil && due.After(now) {
			a.later(due.Sub(now))
			continue
		}
		l.pending = l.pending[1:]
		a.turn = slices.Delete(a.turn, i, i+1)
		if len(l.pending) > 0 {
			a.turn = append(a.turn, l)
		}
		return w
	}
	return nil
}

func (a *applier) begin(w *write, now time.Time) {
	l := a.lanes[w.key]
	l.started[w] = true
	l.win.busy++
	a.all.busy++
	if w.create != nil {
		a.created = now
	}
	ctx := a.ctx
	a.running.Go(func() { a.end(w, a.do(ctx, w)) })
}

// end takes a result: first into the index, and only then is the write no
// longer under way.
func (a *applier) end(w *write, r result) {
	a.mu.Lock()
	if r.learn != nil {
		r.learn()
	}
	l := a.lanes[w.key]
	delete(l.started, w)
	l.win.busy--
	a.all.busy--
	a.account(l, w, r, time.Now())
	a.pend(l, l.pending)
	a.pump()
	a.mu.Unlock()
	a.woke(w.key)
}

// account adapts the windows, and puts off what would fail the same way.
func (a *applier) account(l *lane, w *write, r result, now time.Time) {
	switch r.fate {
	case done:
		a.all.grow()
		l.win.grow()
		if w.create != nil {
			clear(l.overQuota)
			l.quotaWait = 0
		}
	case throttled:
		a.all.shrink(now)
		if until := now.Add(r.wait); until.After(a.resume) {
			a.resume = until
		}
	case unknown:
		a.all.shrink(now)
		l.win.shrink(now)
	case overQuota:
		l.win.shrink(now)
		l.overQuota[w.node()] = true
		if len(l.overQuota) >= manyOverQuota {
			clear(l.overQuota)
			l.quotaWait = min(max(2*l.quotaWait, time.Second), maxRetry)
			a.putOff(l, now.Add(l.quotaWait))
		}
	case terminating:
		a.putOff(l, now.Add(maxRetry))
	}
}

// putOff drops the pending creates and keeps their slots until at.
func (a *applier) putOff(l *lane, at time.Time) {
	a.pend(l, slices.DeleteFunc(slices.Clone(l.pending), func(w *write) bool {
		if w.create != nil {
			w.state.putOff(w.create.Node, at)
		}
		return w.create != nil
	}))
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
