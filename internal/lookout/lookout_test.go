package lookout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/fleetmap"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// world is a cluster with DaemonSet apps/agent.
type world struct {
	client *fake.Clientset
	set    *appsv1.DaemonSet
	hash   string
}

func began() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

func newWorld(t testing.TB, objects ...runtime.Object) *world {
	labels := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent", UID: "set", CreationTimestamp: metav1.NewTime(began())},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "agent:2"}}}}},
	}
	history, err := view.History(ds, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{fake.NewClientset(append(objects, ds)...), ds, history.Hash}
}

func (w *world) node(t testing.TB, name, zone string, ready corev1.ConditionStatus) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(began())}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: ready, Message: "as " + string(ready), LastTransitionTime: metav1.NewTime(began().Add(time.Minute))}}}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	if err := w.client.Tracker().Add(n); err != nil {
		t.Fatal(err)
	}
}

// pod makes a ready pod on the node, as modified by change.
func (w *world) pod(t testing.TB, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	controller := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent-" + node, UID: types.UID("pod-" + node), CreationTimestamp: metav1.NewTime(began()),
			Labels:          map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: w.hash},
			OwnerReferences: []metav1.OwnerReference{{UID: w.set.UID, Controller: &controller, Kind: "DaemonSet", Name: w.set.Name}}},
		Spec: corev1.PodSpec{NodeName: node, Containers: w.set.Spec.Template.Spec.Containers},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(began())}}},
	}
	for _, f := range change {
		f(p)
	}
	if err := w.client.Tracker().Add(p); err != nil {
		t.Fatal(err)
	}
	return p
}

func old(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = "before" }

func notReady(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

func crashes(p *corev1.Pod) {
	notReady(p)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
}

// runsAgain is between two crashes.
func runsAgain(p *corev1.Pod) {
	crashes(p)
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func creating(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		notReady(p)
		p.CreationTimestamp = metav1.NewTime(time.Now().Add(-ago))
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}
	}
}

func (w *world) lookout(t testing.TB, policy *rollout.Policy) *Lookout {
	t.Helper()
	l, err := New(t.Context(), w.client, Releases{}, "apps", "agent", policy)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// once reads everything and returns a picture, as `--once` does.
func (w *world) once(t testing.TB, policy *rollout.Policy) *Picture {
	t.Helper()
	l := w.lookout(t, policy)
	if err := l.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.See(time.Now(), false); err != nil {
		t.Fatal(err)
	}
	if err := l.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := l.See(time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rowsOf(m *fleetmap.Model) (rows []string) {
	for _, z := range m.Zones {
		row := z.Name
		for _, s := range z.Nodes {
			row += " " + s.String()
		}
		rows = append(rows, row)
	}
	return rows
}

// Each node is in its zone, in the state that follows from what `why` says, and zones and nodes are in natural order.
// What needs a look comes with the same words, the worst first, and once for all nodes that share it.
func TestPicture(t *testing.T) {
	w := newWorld(t)
	for _, n := range [][2]string{{"n-10", "eu-b"}, {"n-2", "eu-b"}, {"n-1", "eu-a"}, {"n-3", "eu-a"}, {"n-4", ""}, {"n-5", "eu-a"}, {"n-6", "eu-b"}, {"n-7", "eu-a"}} {
		w.node(t, n[0], n[1], corev1.ConditionTrue)
	}
	w.node(t, "n-8", "eu-a", corev1.ConditionFalse)
	w.pod(t, "n-1")
	w.pod(t, "n-10", old)
	w.pod(t, "n-2", crashes)
	w.pod(t, "n-6", crashes)
	w.pod(t, "n-3", creating(time.Second))
	w.pod(t, "n-4", creating(time.Hour))
	w.pod(t, "n-5", func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: began()}, []string{"x"} })
	w.pod(t, "n-8", notReady)
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "e"}, Type: corev1.EventTypeWarning, Reason: "FailedMount", Message: "no disk",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", UID: "pod-n-4"}, LastTimestamp: metav1.Now()}
	if err := w.client.Tracker().Add(event); err != nil {
		t.Fatal(err)
	}
	p := w.once(t, nil)
	want := []string{"eu-a new starting waiting waiting down", "eu-b failing failing old", "(no zone) failing"}
	if got := rowsOf(&p.Model); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var texts []string
	for _, e := range p.Model.Exceptions {
		texts = append(texts, fmt.Sprintf("%s +%d %s %s", e.Node, e.Same, e.State, e.Text))
	}
	// One node waits for a pod, another for the end of a pod. --once also shows a pod that has been starting for only
	// a second.
	wantTexts := []string{
		"n-2 +1 failing Starting: CrashLoopBackOff (container main, 2 restarts)",
		"n-4 +0 failing Starting: FailedMount (container main): no disk",
		"n-8 +0 down the node is not Ready: as False",
	}
	if !slices.Equal(texts[:min(3, len(texts))], wantTexts) {
		t.Errorf("%q, want %q first", texts, wantTexts)
	}
	m := &p.Model
	if p.Done || p.There != 1 || m.Phase != "updating" || m.Revision != w.hash || !slices.Equal(m.Before, []string{"before"}) || m.Stale != "" {
		t.Errorf("%+v", p)
	}
}

// An update is through as soon as all nodes except those that are down have the revision.
func TestDone(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	w.node(t, "b", "", corev1.ConditionUnknown)
	w.pod(t, "a", old)
	w.pod(t, "b", old, notReady)
	if p := w.once(t, nil); p.Done || p.Stopped != "" || p.Model.Phase != "updating" {
		t.Errorf("%+v", p)
	}
	w.set.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
	w.update(t, w.set)
	if p := w.once(t, nil); p.Done || p.Stopped != "" || !strings.Contains(p.Model.Phase, "OnDelete") {
		t.Errorf("%+v", p)
	}
	pod := w.readPod(t, "a")
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash
	w.update(t, pod)
	if p := w.once(t, nil); !p.Done || p.There != 1 || p.Model.Phase != "up to date" {
		t.Errorf("%+v", p)
	}
	w.set.DeletionTimestamp = &metav1.Time{Time: began()}
	w.set.Finalizers = []string{"x"}
	w.update(t, w.set)
	if p := w.once(t, nil); p.Done || !strings.Contains(p.Stopped, "being deleted") {
		t.Errorf("%+v", p)
	}
}

func (w *world) readPod(t testing.TB, node string) *corev1.Pod {
	p, err := w.client.CoreV1().Pods("apps").Get(t.Context(), "agent-"+node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) update(t testing.TB, object runtime.Object) {
	t.Helper()
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	if _, ok := object.(*appsv1.DaemonSet); ok {
		resource = appsv1.SchemeGroupVersion.WithResource("daemonsets")
	}
	if err := w.client.Tracker().Update(resource, object, "apps"); err != nil {
		t.Fatal(err)
	}
}

// With a policy nodes are in the order of its waves, within each zone, and keep their places when they get the
// revision or fall silent. The waves are counted.
func TestOrderOfWaves(t *testing.T) {
	w, policy := newWorld(t), rollout.Default()
	policy.Waves[0].Prefer = map[string]string{corev1.LabelTopologyZone: "z"}
	policy.Waves[1].Nodes = plan.Amount{Value: 50, Percent: true}
	for i := range 8 {
		w.node(t, fmt.Sprint("n-", i), []string{"y", "z"}[i%2], corev1.ConditionTrue)
	}
	nodes := []rollout.Node{}
	for i := range 8 {
		nodes = append(nodes, rollout.Node{Name: fmt.Sprint("n-", i), Labels: map[string]string{corev1.LabelTopologyZone: []string{"y", "z"}[i%2]}})
	}
	order := rollout.NewLayout(&policy, "set", nodes).Order
	reached := order[5] // before its turn
	for _, n := range order {
		if n == order[0] || n == reached {
			w.pod(t, n)
		} else {
			w.pod(t, n, old)
		}
	}
	var want []string
	for i, zone := range []string{"y", "z"} {
		row := zone
		for _, n := range order {
			if strings.HasSuffix(n, fmt.Sprint(0+i)) || strings.HasSuffix(n, fmt.Sprint(2+i)) || strings.HasSuffix(n, fmt.Sprint(4+i)) || strings.HasSuffix(n, fmt.Sprint(6+i)) {
				row += map[bool]string{true: " new", false: " old"}[n == order[0] || n == reached]
			}
		}
		want = append(want, row)
	}
	p := w.once(t, &policy)
	if got := rowsOf(&p.Model); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := fmt.Sprint(p.Model.Waves), "[{first 1 1} {tenth 3 0} {all 4 1}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// see waits for a picture that good accepts.
func see(t *testing.T, l *Lookout, what string, good func(*Picture) bool) *Picture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		p, err := l.See(time.Now(), true)
		if err != nil {
			t.Fatal(err)
		}
		if p != nil && good(p) {
			return p
		}
		select {
		case <-l.Changed():
		case <-ctx.Done():
			t.Fatalf("%s: not seen; the last picture is %+v", what, p)
		}
	}
}

// A watch follows changes, reports when it cannot, and then continues by itself.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	pod := w.pod(t, "a", old)
	var cut atomic.Bool
	watches := make(chan watch.Interface, 100)
	w.client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return cut.Load(), nil, errors.New("connection refused")
	})
	w.client.PrependWatchReactor("pods", func(a clienttesting.Action) (bool, watch.Interface, error) {
		if cut.Load() {
			return true, nil, errors.New("connection refused")
		}
		own, err := w.client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		watches <- own
		return true, own, err
	})
	setWatch := make(chan struct{}, 100)
	w.client.PrependWatchReactor("daemonsets", func(a clienttesting.Action) (bool, watch.Interface, error) {
		own, err := w.client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		setWatch <- struct{}{}
		return true, own, err
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	l := w.lookout(t, nil)
	go func() { l.Follow(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	see(t, l, "first", func(p *Picture) bool { return p.Model.Phase == "updating" })
	first := <-watches // the fake does not send earlier changes to a watch
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash
	w.update(t, pod)
	see(t, l, "updated", func(p *Picture) bool { return p.Done })
	cut.Store(true)
	first.Stop()
	p := see(t, l, "cut off", func(p *Picture) bool { return p.Model.Stale != "" })
	if !strings.HasSuffix(p.Model.Stale, ", trying again: pods: connection refused") || !p.Done {
		t.Errorf("%+v", p)
	}
	old(pod)
	w.update(t, pod)
	cut.Store(false)
	see(t, l, "back", func(p *Picture) bool { return p.Model.Stale == "" && !p.Done })
	<-setWatch
	if err := w.client.Tracker().Delete(appsv1.SchemeGroupVersion.WithResource("daemonsets"), "apps", "agent"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := l.See(time.Now(), true); err != nil {
			if err.Error() != "DaemonSet apps/agent was deleted" {
				t.Error(err)
			}
			return
		}
		<-l.Changed()
	}
	t.Error("nothing is said of a DaemonSet that is gone")
}

// Events that change nothing on the map do not cause a new picture.
func TestQuiet(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	pod := w.pod(t, "a")
	l := w.lookout(t, nil)
	if err := l.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-l.Changed()
	sources := map[string]*source{}
	for _, s := range l.sources() {
		sources[s.name] = s
	}
	node, err := w.client.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.ResourceVersion, node.Status.Images = "77", []corev1.ContainerImage{{SizeBytes: 5}}
	pod.ResourceVersion, pod.Annotations = "78", map[string]string{"a": "b"}
	if err := errors.Join(sources["nodes"].Update(node), sources["pods"].Update(pod.DeepCopy())); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Changed():
		t.Error("nothing has changed")
	default:
	}
	crashes(pod)
	if err := sources["pods"].Update(pod); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Changed():
	default:
		t.Error("a pod crashes, and nobody is told")
	}
}

func TestNotThere(t *testing.T) {
	w := newWorld(t)
	if _, err := New(t.Context(), w.client, Releases{}, "other", "agent", nil); err == nil || !strings.Contains(err.Error(), `no DaemonSet "agent" in namespace "other"`) {
		t.Error(err)
	}
	w.client.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no"))
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	l := w.lookout(t, nil)
	go func() { l.Follow(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	for range 100 {
		if _, err := l.See(time.Now(), true); err != nil {
			if !strings.HasPrefix(err.Error(), "follow the nodes: ") {
				t.Error(err)
			}
			return
		}
		<-l.Changed()
	}
	t.Error("nothing is said of a right that is missing")
}

// The cost of 5,000 nodes is limited: a picture of them takes only part of the quarter of a second that it may take.
func BenchmarkPicture(b *testing.B) {
	w := newWorld(b)
	for i := range 5000 {
		name := fmt.Sprint("node-", i)
		w.node(b, name, fmt.Sprint("zone-", i%3), corev1.ConditionTrue)
		w.pod(b, name, []func(*corev1.Pod){old, creating(0), func(*corev1.Pod) {}}[i%3])
	}
	policy := rollout.Default()
	l := w.lookout(b, &policy)
	if err := l.Read(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := l.See(time.Now(), true)
		if err != nil {
			b.Fatal(err)
		}
		fleetmap.Frame(&p.Model, 80, 24)
	}
}
