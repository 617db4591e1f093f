package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// bench is an applier whose writes take a second, or as long as the test says, and end
// as it says.
type bench struct {
	*applier
	mu     sync.Mutex
	order  []string
	busy   int
	most   int
	fare   func(*write) result
	takes  func(*write) time.Duration
	cancel func()
}

func newBench(qps float64) *bench {
	b := &bench{fare: func(*write) result { return result{fate: delivery.OK} }, takes: func(*write) time.Duration { return time.Second }}
	b.applier = newApplier(qps, b.do, func(*write) {}, func(*write) {})
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.start(ctx)
	return b
}

func (b *bench) do(ctx context.Context, w *write) result {
	b.mu.Lock()
	b.order = append(b.order, w.key.Name+"/"+w.node())
	b.busy++
	b.most = max(b.most, b.busy)
	fare, takes := b.fare(w), b.takes(w)
	b.mu.Unlock()
	sleep(context.WithoutCancel(ctx), takes)
	b.mu.Lock()
	b.busy--
	b.mu.Unlock()
	return fare
}

// soFar returns the writes that have started.
func (b *bench) soFar() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.order)
}

func (b *bench) end() {
	b.cancel()
	b.stop()
}

// submit submits a decision that wants these writes, one for each node.
func (b *bench) submit(key identity, writes []*write) {
	b.hold(key)
	for _, w := range writes {
		b.replace(key, w.node(), []*write{w})
	}
	b.release(key)
}

func key(name string) identity {
	return identity{types.NamespacedName{Name: name}, types.UID("uid-" + name)}
}

func creates(set string, n int) []*write {
	st := newState(key("uid"))
	var out []*write
	for i := range n {
		out = append(out, &write{key: key(set), ds: &appsv1.DaemonSet{}, state: st, create: &plan.Create{Node: fmt.Sprintf("n%03d", i)}})
	}
	return out
}

// The window doubles with each round of successes, up to its limit.
func TestWindowDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.end()
		b.submit(key("a"), creates("a", 1000))
		started := func(d time.Duration) int {
			time.Sleep(d)
			return len(b.soFar())
		}
		for _, want := range []int{8, 8 + 16, 8 + 16 + 32, 8 + 16 + 32 + 32} {
			if n := started(time.Millisecond); n != want {
				t.Errorf("%d writes have started, want %d", n, want)
			}
			started(time.Second - time.Millisecond)
		}
		b.withdraw(key("a"))
		time.Sleep(5 * time.Second)
		if b.most != delivery.MaxWindow {
			t.Errorf("%d at once, the bound is %d", b.most, delivery.MaxWindow)
		}
	})
}

// A small DaemonSet does not wait behind a large one.
func TestWindowIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.end()
		b.submit(key("large"), creates("large", 500))
		b.submit(key("small"), creates("small", 3))
		time.Sleep(1500 * time.Millisecond)
		b.withdraw(key("large"))
		synctest.Wait()
		for i := range 3 {
			at := slices.Index(b.soFar(), fmt.Sprintf("small/n%03d", i))
			if at < 0 || at >= 8+16 { // in the second round at the latest
				t.Errorf("write %d of the small set came at place %d", i, at)
			}
		}
		time.Sleep(5 * time.Second)
	})
}

// Critical writes come first, and the others are not starved.
func TestCriticalComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.end()
		critical := &appsv1.DaemonSet{}
		system := identity{types.NamespacedName{Namespace: "kube-system", Name: "critical"}, "uid-critical"}
		critical.Spec.Template.Spec.PriorityClassName = "system-node-critical"
		with := func(ws []*write, ds *appsv1.DaemonSet) []*write {
			for _, w := range ws {
				w.ds = ds
				if ds == critical {
					w.key = system
				}
			}
			return ws
		}
		b.takes = func(*write) time.Duration { return 200 * time.Millisecond }
		b.submit(key("plain"), with(creates("plain", 500), &appsv1.DaemonSet{}))
		b.submit(system, with(creates("critical", 500), critical))
		time.Sleep(900 * time.Millisecond) // so that the windows open
		opening := len(b.soFar())
		time.Sleep(800 * time.Millisecond)
		started := b.soFar()[opening:]
		share := 0
		for _, name := range started {
			if strings.HasPrefix(name, "critical/") {
				share++
			}
		}
		if got := 100 * share / len(started); got < 70 || got > 85 {
			t.Errorf("%d%% of %d writes were for the critical one", got, len(started))
		}
	})
}

func TestTroubleShrinksTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.end()
		b.mu.Lock()
		b.fare = func(*write) result { return result{fate: delivery.Unknown} }
		b.mu.Unlock()
		b.submit(key("a"), creates("a", 100))
		time.Sleep(6 * time.Second)
		b.withdraw(key("a"))
		synctest.Wait()
		b.applier.mu.Lock()
		if n := b.lanes[key("a")].win.size; n != 1 {
			t.Errorf("the window is %d wide after six rounds of failures", n)
		}
		if b.all.size != delivery.FirstWindow {
			t.Errorf("what one DaemonSet meets has made the window for all %d wide", b.all.size)
		}
		b.applier.mu.Unlock()
		if n := len(b.soFar()); n > 8+4+2+1+1+1+1 {
			t.Errorf("%d writes were tried", n)
		}
		time.Sleep(5 * time.Second)
	})
}

// A write that has not started can be withdrawn; one that has is reported until it
// ends, and is not repeated.
func TestWithdrawAndUnderway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.end()
		b.submit(key("a"), creates("a", 20))
		synctest.Wait()
		b.withdraw(key("a"))
		count := func() (n int) {
			b.underway(key("a"), func(l *lane, _ map[string]*write) {
				if l != nil {
					n = len(l.started)
				}
			})
			return n
		}
		if n := count(); n != delivery.FirstWindow {
			t.Errorf("%d under way", n)
		}
		b.submit(key("a"), creates("a", delivery.FirstWindow)) // the same slots again
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(b.soFar()); n != delivery.FirstWindow {
			t.Errorf("%d writes for %d slots", n, delivery.FirstWindow)
		}
		if n := count(); n != 0 || len(b.lanes) != 0 || len(b.turn) != 0 {
			t.Errorf("%d under way, %d lanes and %d turns after the end", n, len(b.lanes), len(b.turn))
		}
	})
}

func TestStopWaitsAndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.submit(key("a"), creates("a", 20))
		synctest.Wait()
		b.end()
		if b.busy != 0 || len(b.soFar()) != delivery.FirstWindow {
			t.Errorf("%d still run, %d were started", b.busy, len(b.soFar()))
		}
		b.submit(key("b"), creates("b", 1))
		if len(b.soFar()) != delivery.FirstWindow {
			t.Error("a write started after stop")
		}
	})
}

// Deletes do not wait for the pace of creates.
func TestPaceIsForCreatesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		defer b.end()
		b.submit(key("a"), creates("a", 10))
		synctest.Wait()
		st := newState(key("uid"))
		b.submit(key("b"), []*write{{key: key("b"), ds: &appsv1.DaemonSet{}, state: st, remove: &plan.Delete{Node: "n", UID: "u"}}})
		synctest.Wait()
		if !slices.Contains(b.soFar(), "b/n") {
			t.Errorf("the delete waits: %v", b.soFar())
		}
		time.Sleep(4500 * time.Millisecond)
		synctest.Wait()
		if n := len(b.soFar()); n != 1+1+4 {
			t.Errorf("%d writes after 4.5 s: %v", n, b.soFar())
		}
		b.withdraw(key("a"))
		time.Sleep(2 * time.Second)
	})
}
