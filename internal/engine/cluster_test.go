package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// cluster is a fake API server with nodes whose kubelet does what the test says, and an
// engine on it. Everything happens in one synctest bubble.
type cluster struct {
	*fakeAPI
	t *testing.T
	// starts and stops are how long a pod takes to become ready, and to end; lingers is
	// how long a pod that has ended stays.
	starts, stops, lingers time.Duration
	// dead nodes have no kubelet.
	dead map[string]bool

	stopEngine context.CancelFunc
	ended      chan struct{}
	audits     int          // how many decisions were compared to plan.Make
	looks      atomic.Int64 // how many decisions since run was called
	// fails is called with the result of Run; nil: an error fails the test.
	fails func(error)
}

// inCluster runs a test in a bubble.
func inCluster(t *testing.T, test func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{fakeAPI: newFakeAPI(), t: t, starts: 2 * time.Second, stops: time.Second, lingers: 300 * time.Millisecond, dead: map[string]bool{}}
		c.after = c.kubelet
		test(c)
		c.stop()
	})
}

// kubelet makes the next thing happen to a pod that was just stored.
func (c *cluster) kubelet(pod *corev1.Pod) {
	node, name := pod.Spec.NodeName, pod.Name
	if node == "" || c.dead[node] {
		return
	}
	switch {
	case pod.DeletionTimestamp != nil && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed):
		// Nothing runs. The pod is gone, or a finalizer keeps it.
	case pod.DeletionTimestamp != nil:
		time.AfterFunc(c.stops, func() { c.end(pod) })
	case pod.Status.Phase == corev1.PodPending && c.starts >= 0:
		time.AfterFunc(c.starts, func() {
			c.editPod(name, func(p *corev1.Pod) {
				if p.UID == pod.UID && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending {
					ready(p, true)
					p.Status.Conditions[0].LastTransitionTime = c.now()
				}
			})
		})
	}
}

func ready(p *corev1.Pod, is bool) {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second))}}
}

// start runs an engine until stop is called, or until the test ends.
func (c *cluster) start(change ...func(*Config)) {
	ctx, cancel := context.WithCancel(context.Background())
	c.stopEngine, c.ended = cancel, make(chan struct{})
	audit := func(e *engine, set *setEntry, st *state) {
		c.audit(e, set, st)
		if c.looks.Add(1) == mostLooks {
			c.t.Errorf("the engine has decided %d times while the test waited once: it goes in circles", mostLooks)
			cancel() // otherwise the test takes hours
		}
	}
	cfg := Config{Client: c.config(), decided: audit, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(c.t.Output(), nil))
	}
	for _, f := range change {
		f(&cfg)
	}
	ended, fails := c.ended, c.fails
	go func() {
		defer close(ended)
		err := Run(ctx, cfg)
		if fails != nil {
			fails(err)
		} else if err != nil {
			c.t.Errorf("Run: %v", err)
		}
	}()
}

func (c *cluster) stop() {
	if c.stopEngine != nil {
		c.stopEngine()
		<-c.ended
		c.stopEngine = nil
	}
}

// mostLooks is many more decisions than any test needs while it waits.
const mostLooks = 20_000

// run lets d pass.
func (c *cluster) run(d time.Duration) {
	c.looks.Store(0)
	time.Sleep(d)
	synctest.Wait()
}

func (c *cluster) addNodes(n int) {
	for i := range n {
		c.addNode(fmt.Sprintf("node-%02d", i+1))
	}
}

func (c *cluster) addNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
			LastTransitionTime: c.now()}}}})
}

func (c *cluster) removeNode(name string) {
	c.delete("nodes", name, "")
}

func edit[T runtime.Object](c *cluster, resource, key string, change func(T)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.objects[resource][key].(T)
	if !ok {
		return
	}
	obj := old.DeepCopyObject().(T)
	change(obj)
	c.put(resource, old, obj)
}

func (c *cluster) editNode(name string, change func(*corev1.Node)) {
	edit(c, "nodes", name, change)
}

func (c *cluster) editPod(name string, change func(*corev1.Pod)) {
	edit(c, "pods", "default/"+name, change)
}

func (c *cluster) editSet(change func(*appsv1.DaemonSet)) {
	edit(c, "daemonsets", "default/agent", func(ds *appsv1.DaemonSet) {
		before := ds.DeepCopy()
		change(ds)
		if !sameSpec(before, ds) {
			ds.Generation++
		}
	})
}

// agentSet returns the DaemonSet default/agent.
func agentSet(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	limit, one := int32(10), intstr.FromInt32(1)
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector:             &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
			RevisionHistoryLimit: &limit,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent:1"}}},
			},
		},
	}
	for _, f := range change {
		f(ds)
	}
	return ds
}

// addSet adds the DaemonSet default/agent.
func (c *cluster) addSet(change ...func(*appsv1.DaemonSet)) {
	ds := agentSet(change...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("daemonsets", ds)
}

func image(name string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = name }
}

func (c *cluster) set() *appsv1.DaemonSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	ds, _ := c.objects["daemonsets"]["default/agent"].(*appsv1.DaemonSet)
	return ds
}

func (c *cluster) pods() []*corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pods []*corev1.Pod
	for _, o := range c.objects["pods"] {
		pods = append(pods, o.(*corev1.Pod))
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	return pods
}

func (c *cluster) podOn(node string) *corev1.Pod {
	c.t.Helper()
	var found *corev1.Pod
	for _, p := range c.pods() {
		if p.Spec.NodeName == node {
			if found != nil {
				c.t.Fatalf("%s has two pods: %s and %s", node, found.Name, p.Name)
			}
			found = p
		}
	}
	if found == nil {
		c.t.Fatalf("%s has no pod", node)
	}
	return found
}

// covered checks that each node has exactly one pod, ready, of that image, and
// that the status says so.
func (c *cluster) covered(nodes int, image string) {
	c.t.Helper()
	on, wrong := map[string]int{}, 0
	for _, p := range c.pods() {
		on[p.Spec.NodeName]++
		if got := p.Spec.Containers[0].Image; got != image || p.DeletionTimestamp != nil || !isReady(p) {
			if wrong++; wrong > 5 {
				continue
			}
			c.t.Errorf("pod %s on %s: image %s, deleted %v, ready %v", p.Name, p.Spec.NodeName, got, p.DeletionTimestamp, isReady(p))
		}
	}
	for node, n := range on {
		if n != 1 {
			c.t.Errorf("%s has %d pods", node, n)
		}
	}
	if len(on) != nodes {
		c.t.Errorf("pods on %d nodes, want %d", len(on), nodes)
	}
	s := c.set().Status
	for what, got := range map[string]int32{"desired": s.DesiredNumberScheduled, "current": s.CurrentNumberScheduled,
		"ready": s.NumberReady, "updated": s.UpdatedNumberScheduled, "available": s.NumberAvailable} {
		if int(got) != nodes {
			c.t.Errorf("status: %s is %d, want %d", what, got, nodes)
		}
	}
	if s.NumberUnavailable != 0 || s.NumberMisscheduled != 0 || s.ObservedGeneration != c.set().Generation {
		c.t.Errorf("status: %+v at generation %d", s, c.set().Generation)
	}
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// countWrites returns how many write requests were made.
func (c *cluster) countWrites() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, k := range c.writes {
		n += k
	}
	return n
}

func (c *cluster) wrote(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes[what]
}

// events returns the events of that reason, as "type reason: message" with counts.
func (c *cluster) events(reason string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, o := range c.objects["events"] {
		if e := o.(*corev1.Event); e.Reason == reason {
			out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
	}
	slices.Sort(out)
	return out
}

// watchBudget fails the test if, from now on, more than budget of the nodes' pods are
// unavailable at once, by the state of the server.
func (c *cluster) watchBudget(nodes, budget int) (worst *int) {
	worst = new(int)
	c.mu.Lock()
	defer c.mu.Unlock()
	inner := c.after
	c.after = func(pod *corev1.Pod) {
		inner(pod)
		up := map[string]bool{}
		for _, o := range c.objects["pods"] {
			if p := o.(*corev1.Pod); isReady(p) && p.DeletionTimestamp == nil {
				up[p.Spec.NodeName] = true
			}
		}
		*worst = max(*worst, nodes-len(up))
		if nodes-len(up) > budget {
			c.t.Errorf("%d nodes of %d are down, the budget is %d", nodes-len(up), nodes, budget)
		}
	}
	return worst
}
