package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

const (
	namespace = "compat"
	// quietTime is how long nothing may happen for a controller to be at rest. Both controllers act on an event
	// within milliseconds.
	quietTime = 500 * time.Millisecond
	patience  = 60 * time.Second
	// fallsShort is how long to wait for upstream to do what it is known not to do. When the controllers do it, they
	// do it at once.
	fallsShort = 3 * time.Second
)

// lab is an empty cluster with nodes, a kubelet for all of them, and a binder in place of the scheduler. It is
// emptied when the test ends.
type lab struct {
	t       *testing.T
	config  *rest.Config
	client  kubernetes.Interface
	kubelet *kubelet

	mu      sync.Mutex
	changed time.Time           // when something was last seen to change
	seen    map[string]sighting // pods by UID, also deleted ones
	downNow map[string]bool
	worst   int             // most nodes without a ready pod at once since watchDown
	late    map[string]bool // nodes that have joined since then, and have not had a ready pod yet
}

// sighting is what was seen of one pod.
type sighting struct {
	name, node, image string
	created, gone     time.Time
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, config: apiServer(t), seen: map[string]sighting{}}
	var err error
	if l.client, err = kubernetes.NewForConfig(l.config); err != nil {
		t.Fatal(err)
	}
	_, err = l.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	readRoles(t, deployedRoles, "everynode-controller").grant(t, l.client)
	l.empty(t.Context())
	l.kubelet = newKubelet(l.client)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	f := informers.NewSharedInformerFactory(l.client, 0)
	for _, i := range []cache.SharedIndexInformer{f.Core().V1().Nodes().Informer(), f.Apps().V1().DaemonSets().Informer(), f.Apps().V1().ControllerRevisions().Informer()} {
		l.handle(i, func(any, bool) {})
	}
	pods := f.Core().V1().Pods().Informer()
	l.handle(pods, l.podSeen)
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	stopKubelet := l.kubelet.run(ctx, pods.GetStore())
	t.Cleanup(func() {
		stopKubelet()
		cancel()
		f.Shutdown()
		l.empty(context.WithoutCancel(t.Context()))
	})
	return l
}

// handle calls see with each object, and whether it was deleted. It records the time of the change.
func (l *lab) handle(i cache.SharedIndexInformer, see func(obj any, gone bool)) {
	all := func(obj any, gone bool) {
		l.mu.Lock()
		l.changed = time.Now()
		l.mu.Unlock()
		see(obj, gone)
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { all(obj, false) },
		UpdateFunc: func(_, obj any) { all(obj, false) },
		DeleteFunc: func(obj any) {
			if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = d.Obj
			}
			all(obj, true)
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) podSeen(obj any, gone bool) {
	pod := obj.(*corev1.Pod)
	l.mu.Lock()
	s := l.seen[string(pod.UID)]
	if s.created.IsZero() {
		s = sighting{name: pod.Name, image: pod.Spec.Containers[0].Image, created: time.Now()}
	}
	s.node = target(pod)
	if gone && s.gone.IsZero() {
		s.gone = time.Now()
	}
	l.seen[string(pod.UID)] = s
	if l.downNow != nil {
		l.countDown(s.node, !gone && isReady(pod) && pod.DeletionTimestamp == nil)
	}
	l.mu.Unlock()
	if !gone {
		l.kubelet.look(pod)
	}
}

// watchDown starts counting how many nodes are without a ready pod at the same time. Every node of the lab must have
// a ready pod now. It is useful only without surge.
func (l *lab) watchDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.downNow, l.worst, l.late = map[string]bool{}, 0, map[string]bool{}
}

func (l *lab) countDown(node string, up bool) {
	if up {
		delete(l.downNow, node)
		delete(l.late, node)
		return
	}
	if l.late[node] {
		return // it joined, and was not taken down
	}
	l.downNow[node] = true
	l.worst = max(l.worst, len(l.downNow))
}

func (l *lab) mostDown() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worst
}

// empty deletes everything that a test has left.
func (l *lab) empty(ctx context.Context) {
	l.t.Helper()
	now, all := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}
	apps, core := l.client.AppsV1(), l.client.CoreV1()
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		for _, err := range []error{
			apps.DaemonSets(namespace).DeleteCollection(ctx, now, all), apps.ControllerRevisions(namespace).DeleteCollection(ctx, now, all),
			core.Pods(namespace).DeleteCollection(ctx, now, all), core.Nodes().DeleteCollection(ctx, now, all), core.Events(namespace).DeleteCollection(ctx, now, all),
		} {
			if err != nil {
				return false, err
			}
		}
		pods, err := core.Pods(namespace).List(ctx, all)
		return err == nil && len(pods.Items) == 0, err
	})
	if err != nil {
		l.t.Fatal("emptying the cluster: ", err)
	}
}

// do fails the test on an error.
func (l *lab) do(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// until waits for a condition.
func (l *lab) until(what string, cond func() bool) {
	l.t.Helper()
	if !l.within(patience, cond) {
		l.t.Fatalf("not within %s: %s", patience, what)
	}
}

func (l *lab) within(d time.Duration, cond func() bool) bool {
	err := wait.PollUntilContextTimeout(l.t.Context(), 10*time.Millisecond, d, true, func(context.Context) (bool, error) { return cond(), nil })
	return err == nil
}

// comes reports whether cond comes true with the controller. Ours has all the time that a slow machine may need.
func (l *lab) comes(c controller, cond func() bool) bool {
	if c.name == ours.name {
		return l.within(patience, cond)
	}
	return l.within(fallsShort, cond)
}

// rest waits until nothing has changed for a while.
func (l *lab) rest() {
	l.t.Helper()
	l.quietFor(quietTime)
}

func (l *lab) quietFor(d time.Duration) {
	l.t.Helper()
	from := time.Now()
	l.until("the cluster is at rest", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		last := l.changed
		if last.Before(from) {
			last = from // the effects of the last request may not have begun yet
		}
		return time.Since(last) >= d
	})
}

func (l *lab) addNodes(names ...string) {
	l.t.Helper()
	for _, name := range names {
		l.addNode(name, nil)
	}
}

func (l *lab) addNode(name string, change func(*corev1.Node)) {
	l.t.Helper()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
			LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))}}},
	}
	if change != nil {
		change(n)
	}
	_, err := l.client.CoreV1().Nodes().Create(l.t.Context(), n, metav1.CreateOptions{})
	l.do(err)
}

// join adds a node that only counts as down after it has had a ready pod.
func (l *lab) join(name string) {
	l.t.Helper()
	l.mu.Lock()
	l.late[name] = true
	l.mu.Unlock()
	l.addNode(name, nil)
}

func (l *lab) editNode(name string, change func(*corev1.Node)) {
	l.t.Helper()
	l.do(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := l.client.CoreV1().Nodes().Get(l.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(n)
		_, err = l.client.CoreV1().Nodes().Update(l.t.Context(), n, metav1.UpdateOptions{})
		return err
	}))
}

// nodeDies makes a node NotReady since then and its pods unready, and makes its kubelet fall silent.
func (l *lab) nodeDies(name string, since time.Time) {
	l.t.Helper()
	l.kubelet.change(func(k *kubelet) { k.dead[name] = true })
	n, err := l.client.CoreV1().Nodes().Get(l.t.Context(), name, metav1.GetOptions{})
	l.do(err)
	n.Status.Conditions[0].Status = corev1.ConditionUnknown
	n.Status.Conditions[0].LastTransitionTime = metav1.NewTime(since.Truncate(time.Second))
	_, err = l.client.CoreV1().Nodes().UpdateStatus(l.t.Context(), n, metav1.UpdateOptions{})
	l.do(err)
	for _, p := range l.pods() {
		if p.Spec.NodeName == name {
			l.do(setReady(l.t.Context(), l.client, &p, corev1.PodRunning, corev1.ConditionFalse))
		}
	}
}

func (l *lab) removeNode(name string) {
	l.t.Helper()
	l.do(l.client.CoreV1().Nodes().Delete(l.t.Context(), name, metav1.DeleteOptions{}))
}

// collectPods does what the pod garbage collector does: it force-deletes pods of nodes that do not exist. It returns
// how many there were.
func (l *lab) collectPods() int {
	l.t.Helper()
	nodes := map[string]bool{}
	for _, n := range l.nodes() {
		nodes[n.Name] = true
	}
	removed := 0
	for _, p := range l.pods() {
		if p.Spec.NodeName != "" && !nodes[p.Spec.NodeName] {
			err := l.client.CoreV1().Pods(namespace).Delete(l.t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
			if err == nil {
				removed++
			} else if !apierrors.IsNotFound(err) {
				l.t.Fatal(err)
			}
		}
	}
	return removed
}

func (l *lab) nodes() []corev1.Node {
	l.t.Helper()
	list, err := l.client.CoreV1().Nodes().List(l.t.Context(), metav1.ListOptions{})
	l.do(err)
	return list.Items
}

// agent returns the DaemonSet of the tests, with the changes of edits.
func agent(edits ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "agent", Annotations: map[string]string{"kubernetes.io/change-cause": "it was made"}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent:1"}}},
			},
		},
	}
	for _, edit := range edits {
		edit(ds)
	}
	return ds
}

func image(name string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = name }
}

// rolling sets the strategy. One of the two amounts must be 0.
func rolling(maxUnavailable, maxSurge int) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		u, s := intstr.FromInt(maxUnavailable), intstr.FromInt(maxSurge)
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &u, MaxSurge: &s}}
	}
}

func (l *lab) create(ds *appsv1.DaemonSet) {
	l.t.Helper()
	_, err := l.client.AppsV1().DaemonSets(namespace).Create(l.t.Context(), ds, metav1.CreateOptions{})
	l.do(err)
}

func (l *lab) set() *appsv1.DaemonSet {
	l.t.Helper()
	return l.setNamed("agent")
}

func (l *lab) setNamed(name string) *appsv1.DaemonSet {
	l.t.Helper()
	ds, err := l.client.AppsV1().DaemonSets(namespace).Get(l.t.Context(), name, metav1.GetOptions{})
	l.do(err)
	return ds
}

func (l *lab) edit(edits ...func(*appsv1.DaemonSet)) {
	l.t.Helper()
	l.editNamed("agent", edits...)
}

// nextSecond waits until the second in which the youngest pod was created is over. If two pods are of the same
// second, upstream may take either for the older one.
func (l *lab) nextSecond() {
	l.t.Helper()
	l.until("the second of the last create is over", func() bool {
		return !slices.ContainsFunc(l.pods(), func(p corev1.Pod) bool { return time.Since(p.CreationTimestamp.Time) < time.Second })
	})
}

func (l *lab) editNamed(name string, edits ...func(*appsv1.DaemonSet)) {
	l.t.Helper()
	l.do(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		ds := l.setNamed(name)
		for _, edit := range edits {
			edit(ds)
		}
		_, err := l.client.AppsV1().DaemonSets(namespace).Update(l.t.Context(), ds, metav1.UpdateOptions{})
		return err
	}))
}

// observed waits until the controller has seen the last edit.
func (l *lab) observed() {
	l.t.Helper()
	l.until("the edit is observed", func() bool { ds := l.set(); return ds.Status.ObservedGeneration == ds.Generation })
}

// pods returns all pods, sorted by node and name.
func (l *lab) pods() []corev1.Pod {
	l.t.Helper()
	list, err := l.client.CoreV1().Pods(namespace).List(l.t.Context(), metav1.ListOptions{})
	l.do(err)
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return strings.Compare(target(&a)+"/"+a.Name, target(&b)+"/"+b.Name)
	})
	return list.Items
}

// uids returns the pods that are not being deleted: "node image" by UID.
func (l *lab) uids() map[string]string {
	l.t.Helper()
	out := map[string]string{}
	for _, p := range l.pods() {
		if p.DeletionTimestamp == nil {
			out[string(p.UID)] = target(&p) + " " + p.Spec.Containers[0].Image
		}
	}
	return out
}

// images returns the images of each node's pods, without terminating pods.
func (l *lab) images() map[string]string {
	l.t.Helper()
	out := map[string]string{}
	for _, p := range l.pods() {
		if p.DeletionTimestamp == nil {
			out[target(&p)] = strings.TrimPrefix(out[target(&p)]+"+"+p.Spec.Containers[0].Image, "+")
		}
	}
	return out
}

func (l *lab) podOn(node string) *corev1.Pod {
	l.t.Helper()
	for _, p := range l.pods() {
		if target(&p) == node && p.DeletionTimestamp == nil {
			return &p
		}
	}
	l.t.Fatalf("%s has no pod", node)
	return nil
}

func (l *lab) revisions() []appsv1.ControllerRevision {
	l.t.Helper()
	list, err := l.client.AppsV1().ControllerRevisions(namespace).List(l.t.Context(), metav1.ListOptions{})
	l.do(err)
	slices.SortFunc(list.Items, func(a, b appsv1.ControllerRevision) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// everywhere reports whether every node has one pod, which is ready and of exactly this image.
func (l *lab) everywhere(image string) bool {
	l.t.Helper()
	pods, nodes := l.pods(), l.nodes()
	for i := range pods {
		p := &pods[i]
		if p.Spec.Containers[0].Image != image || p.DeletionTimestamp != nil || !isReady(p) {
			return false
		}
	}
	return len(pods) == len(nodes)
}

// counts returns the status as "desired/current/ready/updated/available/misscheduled".
func (l *lab) counts() string {
	l.t.Helper()
	s := l.set().Status
	return fmt.Sprintf("%d/%d/%d/%d/%d/%d", s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady,
		s.UpdatedNumberScheduled, s.NumberAvailable, s.NumberMisscheduled)
}
