package engine

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// premises records, for each delete of a pod, the version that it names.
type premises struct {
	mu   sync.Mutex
	seen map[string]string // by pod
	uids map[string]string
}

func (p *premises) watch(c *cluster) {
	p.seen, p.uids = map[string]string{}, map[string]string{}
	c.intercept(func(r request) (error, bool) {
		if r.is("delete", "pods") {
			p.mu.Lock()
			defer p.mu.Unlock()
			if of, ok := decode(r.body).(*metav1.DeleteOptions); ok && of.Preconditions != nil {
				if v := of.Preconditions.ResourceVersion; v != nil {
					p.seen[r.name] = *v
				}
				if u := of.Preconditions.UID; u != nil {
					p.uids[r.name] = string(*u)
				}
			}
		}
		return nil, false
	})
}

// With surge, the old pod goes because of what is known about it: the delete names its
// version. So does every delete of a rollout, and every delete names the UID.
func TestDeletesNameWhatTheyRestOn(t *testing.T) {
	surge := func(ds *appsv1.DaemonSet) {
		zero, one := intstr.FromInt32(0), intstr.FromInt32(1)
		ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &zero, MaxSurge: &one}
	}
	for what, change := range map[string]func(*appsv1.DaemonSet){"surge": surge, "rolling": func(*appsv1.DaemonSet) {}} {
		t.Run(what, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(2)
				c.addSet(change)
				c.start()
				c.run(10 * time.Second)
				var old []*corev1.Pod
				old = append(old, c.pods()...)
				var p premises
				p.watch(c)
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				for _, pod := range old {
					if p.seen[pod.Name] != pod.ResourceVersion || p.uids[pod.Name] != string(pod.UID) {
						t.Errorf("%s was deleted at version %q of UID %q, want %q of %q", pod.Name, p.seen[pod.Name], p.uids[pod.Name], pod.ResourceVersion, pod.UID)
					}
				}
			})
		})
	}
}

// Nothing is written to a node that was marked again after it was looked at: the next
// decision looks first.
func TestWritesRestOnWhatWasLookedAt(t *testing.T) {
	e := crowdedIn(t)
	l := &liver{e: e, t: t}
	set := l.addSet("x")
	e.index.upsertNode(node("a", func(n *plan.Node) { n.Labels["for-x"] = "" }))
	e.decideAll()
	st := e.stateOf(set.ds)
	v := st.ledger.Verdict("a")
	if n := len(e.writes(set.ds, "h", st, v)); n != 1 {
		t.Fatalf("%d writes, want the create", n)
	}
	e.index.note(&write{key: identityOf(set.ds), create: &plan.Create{Node: "a"}})
	if n := len(e.writes(set.ds, "h", st, v)); n != 0 {
		t.Errorf("%d writes to a node where something has changed", n)
	}
}

// crowdedIn is crowded for tests outside a bubble.
func crowdedIn(t *testing.T) *engine {
	t.Helper()
	e := crowded()
	t.Cleanup(e.end)
	return e
}

// A live read decides the outcome of a delete whose answer was lost.
func TestLostAnswersOfDeletes(t *testing.T) {
	t.Run("the pod is still there: that is told, and tried again", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.addNodes(1)
			c.addSet()
			c.start()
			c.run(10 * time.Second)
			tries := 0
			c.intercept(func(r request) (error, bool) {
				if r.is("delete", "pods") {
					if tries++; tries <= 2 {
						return io.ErrUnexpectedEOF, false // it never arrived
					}
				}
				return nil, false
			})
			c.editSet(image("agent:2"))
			c.run(time.Minute)
			c.covered(1, "agent:2")
			if events := c.events("FailedDelete"); len(events) == 0 || !strings.Contains(events[0], "still exists") {
				t.Errorf("events %q", events)
			}
		})
	})
	t.Run("the pod ends: nothing has failed", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.addNodes(1)
			c.addSet()
			c.start()
			c.run(10 * time.Second)
			c.intercept(func(r request) (error, bool) { return nil, r.is("delete", "pods") })
			c.editSet(image("agent:2"))
			c.run(time.Minute)
			c.covered(1, "agent:2")
			if events := c.events("FailedDelete"); len(events) != 0 || c.wrote("delete pods") != 1 {
				t.Errorf("%d deletes, events %q", c.wrote("delete pods"), events)
			}
		})
	})
	t.Run("the pod is gone, and had failed: the next one that fails is left for a while", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.starts = -1
			c.addNodes(1)
			c.addSet()
			var st *state
			c.start(func(cfg *Config) { cfg.decided = func(_ *engine, _ *setEntry, of *state) { st = of } })
			c.intercept(func(r request) (error, bool) { return nil, r.is("delete", "pods") })
			c.run(time.Second)
			for range 60 {
				c.onEach("node-01", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
				c.run(time.Second)
			}
			if n := c.wrote("delete pods"); n < 3 || n > 10 {
				t.Errorf("%d failed pods were replaced in a minute", n)
			}
			if b := st.backoffOf("node-01", time.Now()); b.Delay < 8*time.Second {
				t.Errorf("the back-off is %+v", b)
			}
		})
	})
}

// What was known about nodes that are gone ends with the term: the next term may begin
// hours later, and decides to delete without a grace period only on this knowledge.
func TestTermEndsWithWhatItKnewOfGoneNodes(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.begin()
	w.upsertNode(node("a"))
	w.upsertPod(testPod(t, "p", "a", "x", 1))
	w.removeNode(node("a"))
	w.depart("a", []string{"uid-p"}, time.Time{})
	gone := func() (is bool) {
		w.look("uid-x", []string{"a"}, func(s *plan.Sight) { is = s.Gone })
		return is
	}
	if !gone() {
		t.Fatal("the node is not known to be gone")
	}
	w.end()
	w.begin()
	if gone() {
		t.Error("the next term knows what it has not seen")
	}
}

// Only a live read that began after a burial takes the burial back; and the pod is read
// again as long as the watch does not confirm its end.
func TestBurials(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.begin()
	w.upsertPod(testPod(t, "p", "a", "x", 5))
	w.reachedPods(10)
	before := time.Now()
	w.bury("uid-p")
	w.found(rawPod("p", "a", "x", 5), before.Add(-time.Second))
	if w.pod("uid-p") != nil {
		t.Error("a read from before the burial brought the pod back")
	}
	if late := w.lingering(time.Now()); len(late) != 0 {
		t.Errorf("at once: %v", late)
	}
	for i, after := range []int{6, 13, 27} {
		at := before.Add(time.Duration(after) * time.Second)
		if late := w.lingering(at); len(late) != 1 || late[0].Name != "p" {
			t.Errorf("reading %d: %v", i, late)
		}
		if late := w.lingering(at.Add(time.Second)); len(late) != 0 {
			t.Errorf("a second after reading %d: %v", i, late)
		}
	}
	w.found(rawPod("p", "a", "x", 5), time.Now().Add(time.Second))
	if w.pod("uid-p") == nil || len(w.buried) != 0 {
		t.Error("a read from after the burial did not bring the pod back")
	}
	w.bury("uid-p")
	w.replacePods(nil, 20)
	if len(w.buried) != 0 {
		t.Error("a list without the pod does not end the burial")
	}
}

// After a success a slot starts with the shortest pause again.
func TestSuccessEndsGrowingPauses(t *testing.T) {
	s, now := newState(key("uid")), time.Now()
	wait := func() time.Duration {
		s.failed("a", plan.Act{}, delivery.FailedPace(), now, "create")
		return s.retries.of("a", plan.Act{}).at.Sub(now)
	}
	var got []time.Duration
	for range 3 {
		got = append(got, wait())
	}
	s.worked("a", plan.Act{})
	got = append(got, wait())
	if want := []time.Duration{delivery.FirstRetry, 2 * delivery.FirstRetry, 4 * delivery.FirstRetry, delivery.FirstRetry}; !slices.Equal(got, want) {
		t.Errorf("pauses %v, want %v", got, want)
	}
	for range 20 {
		wait()
	}
	if d := wait(); d != delivery.MaxRetry {
		t.Errorf("the longest pause is %v", d)
	}
}

// A pod that ended is announced once, even if it cannot be deleted.
func TestEndedPodIsAnnouncedOnce(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		c.start(func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil)) })
		c.run(10 * time.Second)
		c.deny("delete pods")
		c.onEach("node-01", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		c.run(time.Minute)
		if events := c.events("FailedDaemonPod"); len(events) != 1 {
			t.Errorf("events %q", events)
		}
		c.deny()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, o := range c.objects["events"] {
			if e := o.(*corev1.Event); e.Reason == "FailedDaemonPod" && e.Count != 1 {
				t.Errorf("it was told %d times", e.Count)
			}
		}
	})
}

// A slot whose pause has long been over is still tried: a decision may come minutes
// late, when the API server does not answer.
func TestLateSlotsAreNotLost(t *testing.T) {
	s, now := newState(key("uid")), time.Now()
	for range 2 {
		s.failed("a", plan.Act{}, delivery.FailedPace(), now, "create")
	}
	later := now.Add(time.Hour)
	s.sweep(later, newIndex())
	if due, _ := s.retryable(later, nil); !slices.Equal(due, []string{"a"}) {
		t.Errorf("due after an hour: %q", due)
	}
	s.retryable(later.Add(time.Hour), nil)
	if len(s.retries.slots) != 0 || len(s.retries.timers) != 0 {
		t.Errorf("%d retries and %d timers are left", len(s.retries.slots), len(s.retries.timers))
	}
}
