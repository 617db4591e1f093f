package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// covers waits until the current default/agent has one pod on each node, ready, and
// nothing else has any.
func (c *cluster) covers(nodes int, within time.Duration) {
	c.t.Helper()
	began := time.Now()
	for {
		mine, others := 0, 0
		for _, p := range c.pods() {
			switch {
			case !metav1.IsControlledBy(p, c.set()):
				others++
			case p.DeletionTimestamp == nil && isReady(p):
				mine++
			}
		}
		if mine == nodes && others == 0 && c.set().Status.NumberAvailable == int32(nodes) {
			return
		}
		if time.Since(began) > within {
			c.t.Errorf("%s later: %d of %d pods, %d pods of others; status %+v", within, mine, nodes, others, c.set().Status)
			return
		}
		c.run(100 * time.Millisecond)
	}
}

// remake deletes default/agent with that policy and, when it is gone and pause has
// passed, creates it again from the same manifest.
func (c *cluster) remake(policy metav1.DeletionPropagation, pause time.Duration, change ...func(*appsv1.DaemonSet)) {
	c.t.Helper()
	c.delete("daemonsets", "default/agent", policy)
	for range 1000 {
		if c.set() == nil {
			break
		}
		c.run(100 * time.Millisecond)
	}
	c.run(pause)
	c.addSet(change...)
}

// A DaemonSet is deleted and created again from the same manifest, at any time of its
// first rollout or of an update, with the writes of its first life under way, and a
// garbage collector that comes sooner or later: the second life covers all nodes within
// seconds of the first one's end.
func TestRecreatedAtAnyMoment(t *testing.T) {
	const nodes = 40
	for _, doing := range []string{"create", "delete"} {
		for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
			for _, late := range []time.Duration{10 * time.Millisecond, 3 * time.Second, 30 * time.Second} {
				for _, pause := range []time.Duration{0, 150 * time.Millisecond, 5 * time.Second} {
					t.Run(fmt.Sprintf("%s, %s, collected after %s, again after %s", doing, policy, late, pause), func(t *testing.T) {
						inCluster(t, func(c *cluster) { c.recreatedWhile(doing, policy, late, pause, nodes) })
					})
				}
			}
		}
	}
}

func (c *cluster) recreatedWhile(doing string, policy metav1.DeletionPropagation, late, pause time.Duration, nodes int) {
	for i := range nodes {
		c.addNode(fmt.Sprintf("node-%03d", i))
	}
	c.collect(late)
	slow := webhook{verb: doing, resource: "pods", takes: 300 * time.Millisecond}
	wide := func(ds *appsv1.DaemonSet) {
		all := intstr.FromString("100%")
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &all
	}
	c.addSet(wide)
	if doing == "create" {
		c.admit(slow)
	}
	c.start()
	if doing == "delete" {
		c.run(20 * time.Second)
		c.admit(slow)
		c.editSet(image("agent:2"))
	}
	c.run(700 * time.Millisecond)
	c.remake(policy, pause, wide)
	// Two rounds of the collector, because it finds with the second what was created
	// meanwhile, and then the time that 40 pods take, at least eight at a time.
	c.covers(nodes, 2*late+20*time.Second)
}

// Several lives in a row, faster than the garbage collector.
func TestRecreatedManyTimes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.collect(5 * time.Second)
		c.admit(webhook{resource: "pods", takes: 200 * time.Millisecond})
		c.addSet()
		c.start()
		for i := range 12 {
			c.run(time.Duration(i) * 130 * time.Millisecond)
			c.remake("", 0)
		}
		c.covers(5, 30*time.Second)
	})
}

// The second life adopts what the first has left as orphans, while deletes of the first
// are under way: it counts those pods as down, and stays within its budget.
func TestRecreatedAdoptsWithinItsBudget(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(6)
		c.collect(10 * time.Millisecond)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		first := c.set().UID
		c.admit(webhook{verb: "delete", resource: "pods", takes: 2 * time.Second})
		c.editSet(image("agent:2"))
		c.run(500 * time.Millisecond) // one delete is under way
		c.watchBudget(6, 1)
		c.remake(metav1.DeletePropagationOrphan, 0, image("agent:3"))
		c.run(2 * time.Minute)
		if c.set().UID == first {
			t.Fatal("it was not made again")
		}
		c.covered(6, "agent:3")
	})
}

// A delete under way that is refused in the end leaves its pod to the DaemonSet that
// has adopted it meanwhile, which continues with the node.
func TestAdoptedPodWhoseDeleteWasRefused(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.collect(10 * time.Millisecond)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		c.admit(webhook{verb: "delete", resource: "pods", takes: 2 * time.Second, refuses: 403})
		c.editSet(image("agent:2"))
		c.run(500 * time.Millisecond)
		c.remake(metav1.DeletePropagationOrphan, 0, image("agent:3"))
		c.run(time.Second)
		c.admit()
		c.run(20 * time.Second)
		c.covered(1, "agent:3")
	})
}

// What the first life has learned is not held against the second: neither how often it
// has failed, nor the back-off of its pods, nor what was announced.
func TestRecreatedRemembersNothing(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.collect(10 * time.Millisecond)
		var last sync.Map
		c.addSet()
		c.start(func(cfg *Config) {
			audit := cfg.decided
			cfg.decided = func(e *engine, set *setEntry, st *state) { last.Store("engine", e); audit(e, set, st) }
		})
		c.admit(webhook{verb: "create", resource: "pods", refuses: 403}, webhook{verb: "create", resource: "controllerrevisions", refuses: 403})
		c.run(10 * time.Second)
		c.editSet(image("agent:2")) // it has no revision: the whole DaemonSet fails
		c.run(10 * time.Minute)
		c.admit()
		c.remake("", 0, image("agent:2"))
		c.run(5 * time.Second)
		c.covered(2, "agent:2")
		value, _ := last.Load("engine")
		e := value.(*engine)
		e.mu.Lock()
		defer e.mu.Unlock()
		if st := e.states[keyOf(c.set())]; len(e.states) != 1 || st.id.uid != c.set().UID || len(st.retries.slots) != 0 {
			t.Errorf("%d states, the last of %s with %d retries", len(e.states), st.id.uid, len(st.retries.slots))
		}
	})
}

// A late watch event of the first life takes nothing from the second.
func TestLateDeleteOfTheFirstLife(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	first := w.set(types.NamespacedName{Namespace: "default", Name: "x"})
	if first == nil {
		t.Fatal("there is no default/x")
	}
	ds := first.ds.DeepCopy()
	ds.UID, ds.ResourceVersion = "second", "1000"
	second, err := compactSet(ds)
	if err != nil {
		t.Fatal(err)
	}
	w.upsertSet(second)
	w.removeSet(first)
	if got := w.set(keyOf(ds)); got != second {
		t.Errorf("the index has %v, want the second life", got)
	}
	w.removeSet(second)
	if got := w.set(keyOf(ds)); got != nil {
		t.Errorf("the index has %v after its end", got)
	}
}

// The revision of the first life stays as long as the garbage collector is late. The
// second continues with its hash at once, and has its own revision as soon as that one
// is gone.
func TestRecreatedGoesOnWithTheOldRevision(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.remake("", 0)
		c.run(4 * time.Second)
		mine := 0
		for _, p := range c.pods() {
			if metav1.IsControlledBy(p, c.set()) && isReady(p) {
				mine++
			}
		}
		if mine != 2 {
			t.Errorf("the second life has %d pods while the collector is away", mine)
		}
		before := c.wrote("create pods")
		c.collect(10 * time.Millisecond)
		c.run(500 * time.Millisecond)
		revisions := c.ownRevisions()
		if len(revisions) != 1 || !metav1.IsControlledBy(revisions[0], c.set()) {
			t.Errorf("half a second after the collector came there is %+v", revisions)
		}
		c.run(10 * time.Second)
		c.covered(2, "agent:1")
		if n := c.wrote("create pods") - before; n != 0 {
			t.Errorf("%d pods were replaced for it", n)
		}
	})
}

func (c *cluster) ownRevisions() (all []*appsv1.ControllerRevision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.objects["controllerrevisions"] {
		all = append(all, o.(*appsv1.ControllerRevision))
	}
	return all
}

// Pods of the first life that finalizers keep do not belong to the second.
func TestRecreatedBesideHeldPods(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.collect(10 * time.Millisecond)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Finalizers = []string{"example.com/hold"} })
		c.start()
		c.run(10 * time.Second)
		c.remake("", 0)
		c.run(10 * time.Second)
		mine := 0
		for _, p := range c.pods() {
			if metav1.IsControlledBy(p, c.set()) && isReady(p) {
				mine++
			}
		}
		if s := c.set().Status; mine != 3 || s.NumberAvailable != 3 {
			t.Errorf("%d pods, status %+v", mine, s)
		}
		for _, p := range c.pods() {
			if p.Status.Phase == corev1.PodSucceeded {
				c.letGo(p)
			}
		}
		c.run(time.Second)
		c.covered(3, "agent:1")
	})
}
