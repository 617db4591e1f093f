package engine

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// leftovers returns every map and slice below v, of whatever name, that has more than few entries, or room for many. It only
// looks into types that this module declares. So fields that are added to the engine later are covered as well.
func leftovers(v reflect.Value, few int, where string, seen map[uintptr]bool) (all []string) {
	const room = 64 << 10
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.Pointer()] && ourOwn(v.Type().Elem()) {
			seen[v.Pointer()] = true
			all = leftovers(v.Elem(), few, where, seen)
		}
	case reflect.Struct:
		if !ourOwn(v.Type()) {
			return nil
		}
		for i := range v.NumField() {
			all = append(all, leftovers(v.Field(i), few, where+"."+v.Type().Field(i).Name, seen)...)
		}
	case reflect.Map:
		if v.Len() > few {
			all = append(all, fmt.Sprintf("%s has %d entries", where, v.Len()))
		}
		for it := v.MapRange(); it.Next(); {
			all = append(all, leftovers(it.Value(), few, where+"[]", seen)...)
		}
	case reflect.Slice:
		if v.Len() > few || v.Cap()*int(v.Type().Elem().Size()) > room {
			all = append(all, fmt.Sprintf("%s has %d elements and room for %d", where, v.Len(), v.Cap()))
		}
		for i := range min(v.Len(), few) {
			all = append(all, leftovers(v.Index(i), few, where+"[]", seen)...)
		}
	}
	return all
}

func ourOwn(t reflect.Type) bool { return strings.HasPrefix(t.PkgPath(), "everynode/internal/") }

// leftoversOf sets few so that it ignores what does not grow: there are 26 descriptions of metrics, and each test leads more
// lives than that.
func leftoversOf(e *engine) []string {
	const few = 32
	return leftovers(reflect.ValueOf(e), few, "engine", map[uintptr]bool{})
}

// Nodes, pods and DaemonSets come, have all kinds of trouble, and go, while one of each stays. In the end the engine remembers
// no more than at the beginning.
func TestNothingIsKeptOfFormerLives(t *testing.T) {
	const rounds = 60
	inCluster(t, func(c *cluster) {
		var e *engine
		c.addNodes(1)
		c.addSet()
		var once sync.Once
		c.start(func(cfg *Config) {
			cfg.decided = func(of *engine, _ *setEntry, _ *state) { once.Do(func() { e = of }) }
		})
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") && strings.Contains(string(r.body), "refuse-me") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", fmt.Errorf("a policy")), false
			}
			return nil, false
		})
		c.run(5 * time.Second)
		for i := range rounds {
			spot, other := fmt.Sprintf("spot-%02d", i), fmt.Sprintf("other-%02d", i)
			c.addNode(spot)
			c.addSet(func(ds *appsv1.DaemonSet) {
				ds.Name = other
				ds.Spec.Selector.MatchLabels = map[string]string{"app": other}
				ds.Spec.Template.Labels = map[string]string{"app": other}
				if i%2 == 0 {
					ds.Spec.Template.Spec.Hostname = "refuse-me"
				}
			})
			c.run(4 * time.Second)
			c.onEach(spot, func(p *corev1.Pod) { p.Labels["life"] = spot })
			c.onEach("node-01", func(p *corev1.Pod) { p.Labels["leader-since"] = spot })
			c.run(time.Second)
			c.onEach(spot, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
			c.run(5 * time.Second)
			c.onEach(spot, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }) // in its back-off it is announced,
			c.run(time.Second)
			for _, p := range c.pods() {
				if p.Spec.NodeName == spot { // and deleted by others
					c.finish(p)
				}
			}
			c.run(time.Second)
			c.removeNode(spot)
			c.run(time.Second)
			c.forgetSet("default/" + other)
			c.run(5 * time.Second)
		}
		c.run(3 * time.Hour)
		if n := len(c.pods()); n != 1 {
			t.Errorf("%d pods are left", n)
		}
		for _, what := range leftoversOf(e) {
			t.Error(what)
		}
	})
}

// onEach edits the pods of a node.
func (c *cluster) onEach(node string, change func(*corev1.Pod)) {
	for _, p := range c.pods() {
		if p.Spec.NodeName == node {
			c.editPod(p.Name, change)
		}
	}
}

// forgetSet deletes a DaemonSet, and a little later its revisions and its pods.
func (c *cluster) forgetSet(key string) {
	c.mu.Lock()
	ds := c.objects["daemonsets"][key].(*appsv1.DaemonSet)
	c.store("daemonsets", "DELETED", ds.DeepCopy())
	c.mu.Unlock()
	c.run(time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range []string{"controllerrevisions", "pods"} {
		for _, o := range c.objects[resource] {
			if m := o.(metav1.Object); metav1.IsControlledBy(m, ds) {
				c.store(resource, "DELETED", o.DeepCopyObject())
			}
		}
	}
}

// silent discards events.
type silent struct{ record.EventRecorder }

func (silent) Eventf(apiruntime.Object, string, string, string, ...any) {}

// crowded returns an engine without an API server, which decides and never writes.
func crowded() *engine {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	e := newEngine(Config{Workers: 1, Monitor: NewMonitor(), Log: log}, api{}, newIndex())
	e.events = &recorder{to: silent{}, allowances: map[types.UID]flowcontrol.PassiveRateLimiter{}}
	e.index.begin(listener{dirty: e.queue.Add, left: e.gone.removed, renewed: e.renewed})
	return e
}

func (e *engine) end() {
	e.queue.ShutDown()
	e.gone.queue.ShutDown()
}

// decideAll handles everything in the queue.
func (e *engine) decideAll() {
	for e.queue.Len() > 0 {
		key, _ := e.queue.Get()
		if set := e.index.set(key); set == nil {
			e.forgetOthers(key, nil)
		} else {
			e.decide(set, "h", e.stateOf(set.ds))
		}
		e.queue.Forget(key)
		e.queue.Done(key)
	}
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// long reports whether tests may take minutes.
func long() bool { return os.Getenv("EVERYNODE_LONG") != "" }

// A million lives (with EVERYNODE_LONG; otherwise a few thousand) leave the heap as it was.
func TestChurnLeavesTheHeapAsItWas(t *testing.T) {
	lives := 3_000
	if long() {
		lives = 1_000_000
	}
	synctest.Test(t, func(t *testing.T) {
		e := crowded()
		defer e.end()
		l := &liver{e: e, t: t}
		l.addSet("stays")
		var before int64
		for i := range lives {
			if i == lives/5 {
				l.rest()
				before = heapNow()
			}
			l.live(i)
			if i%500 == 499 {
				l.rest()
			}
		}
		l.rest()
		if grown := heapNow() - before; grown > 1<<20 {
			t.Errorf("after %d lives the heap has grown by %d KiB", lives, grown>>10)
		}
		for _, what := range leftoversOf(e) {
			t.Error(what)
		}
	})
}

// liver leads lives.
type liver struct {
	e       *engine
	t       *testing.T
	version int
}

func (l *liver) next() int {
	l.version++
	return l.version
}

func (l *liver) addSet(name string) *setEntry {
	s, err := compactSet(&appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: fmt.Sprint(l.next())},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
				Spec: corev1.PodSpec{NodeSelector: map[string]string{"for-" + name: ""}}}},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.e.index.upsertSet(s)
	return s
}

// live is the life of a DaemonSet and of a node, with pods of that DaemonSet and of one that stays, and what can happen to
// them.
func (l *liver) live(i int) {
	ix, name := l.e.index, fmt.Sprintf("n%d", i)
	n := node(name, func(n *plan.Node) {
		n.Labels = map[string]string{"for-" + name: "", "for-stays": "", "label-" + name: ""}
	})
	own := l.addSet(name)
	ix.upsertNode(n)
	l.e.decideAll()
	for _, set := range []string{name, "stays"} {
		l.befall(ix, path.Join(set, name), name, set)
	}
	n.Taints = []plan.Taint{{Key: name, Effect: plan.NoExecute}}
	ix.upsertNode(n)
	l.e.decideAll()
	ix.removeNode(n)
	for _, f := range l.e.gone.left {
		ix.depart(name, f.pods, time.Time{})
	}
	clear(l.e.gone.left)
	for queue := l.e.gone.queue; queue.Len() > 0; {
		name, _ := queue.Get()
		queue.Done(name)
	}
	l.e.decideAll()
	ix.removePod(testPod(l.t, "last-"+name, name, "stays", l.next()))
	ix.removePod(testPod(l.t, "last-"+name, name, name, l.next()))
	ix.removeSet(own)
	l.e.decideAll()
}

// befall is what happens to the pods of one DaemonSet on a node.
func (l *liver) befall(ix *index, pod, name, set string) {
	key := types.NamespacedName{Namespace: "default", Name: set}
	ds := ix.set(key).ds
	st := l.e.stateOf(ds)
	now := time.Now()
	pod = strings.ReplaceAll(pod, "/", ".")
	ix.upsertPod(testPod(l.t, pod, name, set, l.next(), func(p *corev1.Pod) { p.Labels["life"] = name }))
	for _, label := range []string{"a", "b"} {
		ix.upsertPod(testPod(l.t, pod, name, set, l.next(), func(p *corev1.Pod) { p.Labels[label] = name }))
	}
	ix.assume(rawPod(pod, name, set, l.next()))
	st.announce("uid-" + pod)
	st.failed(name, plan.Act{}, delivery.FailedPace(), now, "create")
	st.failed(name, plan.Act{Kind: plan.Deleting, Pod: "uid-" + pod}, delivery.FailedPace(), now, "delete")
	st.putOff(name, plan.Act{}, now.Add(time.Second), "create")
	st.ended(plan.Delete{Node: name, UID: "uid-" + pod, Reason: plan.PodFailed}, now)
	st.announce("uid-other-" + pod)
	for range 5 {
		st.made(name, "h", now)
	}
	ix.heed(string(ds.UID), name, now)
	l.e.events.event(ds, corev1.EventTypeNormal, "Lives", "")
	l.e.decideAll()
	ix.bury("uid-" + pod)
	ix.removePod(testPod(l.t, pod, name, set, l.next()))
	ix.upsertPod(testPod(l.t, "last-"+name, name, set, l.next()))
	l.e.decideAll()
}

// rest lets hours pass, in which everything that is remembered for a while is forgotten.
func (l *liver) rest() {
	time.Sleep(3 * time.Hour)
	l.e.index.reachedPods(uint64(l.version))
	l.e.index.lingering(time.Now())
	for _, st := range l.e.states {
		st.retryable(time.Now(), nil)
		st.retryable(time.Now(), nil)
	}
	l.e.sweep(time.Now())
	l.e.decideAll()
}

// What is kept for a node of a DaemonSet whose pods can never be created, at the worst times: before the first create was
// tried, and after all of them were refused.
func TestRefusedDaemonSetsAreSmall(t *testing.T) {
	sets, nodes := 20, 500
	if long() {
		sets, nodes = 500, 1000
	}
	const most = 300 << 20 / (500 * 1000) // bytes, so that 500 x 1,000 stay under 300 MiB
	synctest.Test(t, func(t *testing.T) {
		e := crowded()
		defer e.end()
		l := &liver{e: e, t: t}
		for i := range nodes {
			e.index.upsertNode(node(fmt.Sprintf("node-%04d", i), func(n *plan.Node) {
				n.Labels = map[string]string{}
				for j := range sets {
					n.Labels[fmt.Sprintf("for-set-%03d", j)] = ""
				}
			}))
		}
		before := heapNow()
		for i := range sets {
			l.addSet(fmt.Sprintf("set-%03d", i))
		}
		e.decideAll()
		report := func(when string) {
			if each := (heapNow() - before) / int64(sets*nodes); each > most {
				t.Errorf("%s: %d bytes for each node of each DaemonSet, want at most %d", when, each, most)
			} else {
				t.Logf("%s: %d bytes for each node of each DaemonSet", when, each)
			}
		}
		report("before anything was tried")
		for _, st := range e.states {
			for i := range nodes {
				st.takeLate(nodes, time.Now(), nil)
				st.createFailed(fmt.Sprintf("node-%04d", i), delivery.FailedPace(), time.Now(), "create")
			}
		}
		for _, st := range e.states {
			e.apply.withdraw(st.id)
		}
		report("when all were refused")
	})
}
