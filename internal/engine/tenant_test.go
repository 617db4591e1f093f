package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

func in(namespace, name string) identity {
	return identity{types.NamespacedName{Namespace: namespace, Name: name}, types.UID("uid-" + namespace + name)}
}

// work submits creates of a DaemonSet for n nodes.
func (b *bench) work(k identity, n int) {
	writes := creates(k.Name, n)
	for _, w := range writes {
		w.key = k
	}
	b.submit(k, writes)
}

// until lets time pass until n writes of DaemonSets with that prefix have started.
func (b *bench) until(prefix string, n int) (took time.Duration) {
	began := time.Now()
	for time.Since(began) < 10*time.Hour {
		count := 0
		for _, s := range b.soFar() {
			if strings.HasPrefix(s, prefix) {
				count++
			}
		}
		if count >= n {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// close withdraws what waits, and lets the rest end.
func (b *bench) close() {
	b.applier.mu.Lock()
	for _, l := range b.lanes {
		l.withdraw(func(*write) bool { return true })
	}
	b.applier.mu.Unlock()
	b.end()
}

// A namespace gets no more turns by having more DaemonSets.
func TestTurnsGoRoundNamespaces(t *testing.T) {
	took := map[int]time.Duration{}
	for _, sets := range []int{1, 200} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(0)
			defer b.close()
			b.takes = func(*write) time.Duration { return 100 * time.Millisecond }
			for i := range sets {
				b.work(in("many", fmt.Sprintf("tenant-%d", i)), 200)
			}
			time.Sleep(time.Second)
			b.work(in("one", "victim"), 50)
			took[sets] = b.until("victim/", 50)
		})
	}
	if took[200] > 4*took[1] { // it has half of the window then
		t.Errorf("50 creates took %s beside one DaemonSet of another namespace, and %s beside 200", took[1], took[200])
	}
}

// A webhook that is dead or hangs costs the others less than half of their pace,
// whether failures come fast, late or never, in their own namespaces or not.
func TestDeadWebhookSlowsNobody(t *testing.T) {
	const healthy, broken, nodes = 100, 20, 40
	run := func(t *testing.T, broken int, namespace func(kind string, i int) string, takes time.Duration) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(0)
			defer b.close()
			bad := func(w *write) bool { return strings.HasPrefix(w.key.Name, "broken") }
			b.takes = func(w *write) time.Duration {
				if bad(w) {
					return takes
				}
				return 20 * time.Millisecond
			}
			b.fare = func(w *write) result {
				if bad(w) {
					return result{fate: delivery.Unknown}
				}
				return result{fate: delivery.OK}
			}
			for i := range broken {
				b.work(in(namespace("broken", i), fmt.Sprintf("broken-%d", i)), 300)
			}
			for i := range healthy {
				b.work(in(namespace("healthy", i), fmt.Sprintf("healthy-%d", i)), nodes)
			}
			took = b.until("healthy", healthy*nodes)
		})
		return took
	}
	for _, spread := range []struct {
		name      string
		namespace func(kind string, i int) string
	}{
		{"one namespace", func(string, int) string { return "all" }},
		{"two namespaces", func(kind string, _ int) string { return kind }},
		{"many namespaces", func(kind string, i int) string { return fmt.Sprint(kind, i) }},
	} {
		for _, takes := range []time.Duration{5 * time.Millisecond, time.Second, 30 * time.Second} {
			t.Run(fmt.Sprint(spread.name, takes), func(t *testing.T) {
				alone := run(t, 0, spread.namespace, takes)
				beside := run(t, broken, spread.namespace, takes)
				if beside > 2*alone {
					t.Errorf("%d DaemonSets took %s alone, and %s beside %d whose creates fail after %s", healthy, alone, beside, broken, takes)
				}
			})
		}
	}
}

// Even a tenant with very many DaemonSets does not fill the API server with requests
// that hang.
func TestSlowWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.close()
		b.takes = func(*write) time.Duration { return 30 * time.Second }
		for i := range 8 {
			for k := range 3 {
				b.work(in(fmt.Sprint("ns-", i), fmt.Sprintf("set-%d-%d", i, k)), 300)
			}
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if b.most > maxSlow+delivery.MaxWindow {
			t.Errorf("%d writes were under way at once", b.most)
		}
		if n := len(b.soFar()); n < 9*maxSlow/2 {
			t.Errorf("%d writes have started in five minutes", n)
		}
	})
}

// Neither do very many DaemonSets of a few writes each, none of which is known to be
// slow in advance. A DaemonSet that was quick before is not held up by them, and one
// that comes later waits for its turn among those about which nothing is known.
func TestSlowWritesOfManyAreBounded(t *testing.T) {
	for _, c := range []struct {
		name       string
		namespaces int
		most       int
	}{
		{"one namespace", 1, 2*maxSlowTenant + delivery.MaxWindow},
		{"many namespaces", 500, 2*maxSlow + delivery.MaxWindow},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(0)
				defer b.close()
				healthy := func(w *write) bool { return strings.HasPrefix(w.key.Namespace, "healthy") }
				b.takes = func(w *write) time.Duration {
					if healthy(w) {
						return 20 * time.Millisecond
					}
					return 30 * time.Second
				}
				b.work(in("healthy-a", "known"), 500)
				b.until("known/", 20)
				for i := range 500 {
					b.work(in(fmt.Sprint("ns-", i%c.namespaces), fmt.Sprint("set-", i)), 2)
				}
				if took := b.until("known/", 500); took > 15*time.Second {
					t.Errorf("a DaemonSet whose writes are quick took %s", took)
				}
				b.work(in("healthy-b", "next"), 50)
				if took := b.until("next/", 50); took > 90*time.Second {
					t.Errorf("a DaemonSet that came later took %s", took)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if b.most > c.most {
					t.Errorf("%d writes were under way at once; %d may", b.most, c.most)
				}
			})
		})
	}
}

// If the API server cannot serve anybody, the window for all shrinks.
func TestServersTroubleIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.close()
		b.fare = func(*write) result { return result{fate: delivery.Unknown} }
		b.takes = func(*write) time.Duration { return 100 * time.Millisecond }
		for i := range 4 {
			b.work(in(fmt.Sprint("ns-", i), fmt.Sprint("set-", i)), 100)
		}
		time.Sleep(5 * time.Second)
		b.applier.mu.Lock()
		defer b.applier.mu.Unlock()
		if b.all.size != 1 {
			t.Errorf("the window is %d wide", b.all.size)
		}
	})
}

// A 429 silences the DaemonSet that gets it; it silences all if it comes from more
// namespaces than are served, and then for at most half a minute.
func TestWhoIsSilenced(t *testing.T) {
	refusal := apierrors.NewTooManyRequests("try again later", 3600)
	for _, c := range []struct {
		name     string
		silenced []string
		text     string
		all      bool
	}{
		{"one", []string{"a"}, "", false},
		{"by admission", []string{"a", "b"}, `admission webhook "q" denied the request: `, false},
		{"two", []string{"a", "b"}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(0)
				defer b.close()
				err := *refusal
				err.ErrStatus.Message = c.text + err.ErrStatus.Message
				f, wait := judge(t.Context(), &err)
				if wait > 30*time.Second {
					t.Errorf("it is obeyed for %s", wait)
				}
				b.takes = func(*write) time.Duration { return 10 * time.Millisecond }
				b.fare = func(w *write) result {
					if slices.Contains(c.silenced, w.key.Namespace) {
						return result{fate: f, wait: wait, own: byAdmission(&err)}
					}
					return result{fate: delivery.OK}
				}
				for _, ns := range c.silenced {
					b.work(in(ns, ns), 3)
				}
				time.Sleep(time.Second)
				b.work(in("c", "c"), 3)
				took := b.until("c/", 3)
				if c.all != (took > 10*time.Second) || took > 30*time.Second {
					t.Errorf("another namespace waited %s", took)
				}
			})
		})
	}
}

// A template may name any priority class. It counts once a pod has got it.
func TestRankIsWhatAdmissionAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.close()
		ds := &appsv1.DaemonSet{}
		ds.Spec.Template.Spec.PriorityClassName = "system-node-critical"
		w := &write{key: in("tenant", "a"), ds: ds, state: newState(key("uid")), create: &plan.Create{Node: "n"}}
		if got := rankOf(w); got != 0 {
			t.Errorf("rank %d before any pod was admitted", got)
		}
		b.fare = func(*write) result { return result{fate: delivery.Refused} }
		b.submit(w.key, []*write{w})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := rankOf(w); got != 0 {
			t.Errorf("rank %d after a pod was refused", got)
		}
		b.fare = func(*write) result { return result{fate: delivery.OK} }
		again := *w
		b.submit(w.key, []*write{&again})
		time.Sleep(2 * time.Second)
		if got := rankOf(w); got != 2 {
			t.Errorf("rank %d after a pod was admitted", got)
		}
		w.key.Namespace, w.state = "kube-system", newState(key("uid"))
		if got := rankOf(w); got != 2 {
			t.Errorf("rank %d in kube-system", got)
		}
	})
}

// A delete that was submitted after paced creates does not wait for them.
func TestPaceHoldsNoDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		defer b.close()
		writes := creates("a", 300)
		writes = append(writes, &write{key: key("a"), ds: writes[0].ds, state: writes[0].state, remove: &plan.Delete{Node: "old", UID: "u"}})
		b.submit(key("a"), writes)
		if !slices.Contains(b.soFar(), "a/old") {
			t.Errorf("the delete waits: %v", b.soFar())
		}
	})
}
