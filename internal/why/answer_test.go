package why

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/view"
)

func testNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// world is a DaemonSet "agent" in namespace "apps", with the nodes and pods that a test
// adds.
type world struct {
	ds     *appsv1.DaemonSet
	hash   string
	nodes  []corev1.Node
	pods   []corev1.Pod
	others []runtime.Object
}

func newWorld(t testing.TB) *world {
	labels := map[string]string{"app": "agent"}
	w := &world{ds: &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent", UID: "set", Generation: 1, CreationTimestamp: metav1.NewTime(testNow().Add(-time.Hour))},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "agent:2"}}}},
		},
		Status: appsv1.DaemonSetStatus{ObservedGeneration: 1},
	}}
	history, err := view.History(w.ds, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.hash = history.Hash
	return w
}

func (w *world) node(name string, change ...func(*corev1.Node)) {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("node-" + name)}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testNow().Add(-time.Hour))}}}}
	for _, f := range change {
		f(&n)
	}
	w.nodes = append(w.nodes, n)
}

// pod adds a pod of the current revision to the node, ready for an hour.
func (w *world) pod(node string, change ...func(*corev1.Pod)) {
	controller := true
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent-" + node, UID: types.UID("pod-" + node), CreationTimestamp: metav1.NewTime(testNow().Add(-time.Hour)),
			Labels:          map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: w.hash},
			OwnerReferences: []metav1.OwnerReference{{UID: w.ds.UID, Controller: &controller, Kind: "DaemonSet", Name: w.ds.Name}}},
		Spec: corev1.PodSpec{NodeName: node, Containers: w.ds.Spec.Template.Spec.Containers},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testNow().Add(-time.Hour))}}},
	}
	for _, f := range change {
		f(&p)
	}
	w.pods = append(w.pods, p)
}

// down returns a pod that has not been ready, with a container in this state.
func down(state corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		state.Name = "main"
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		p.Status.ContainerStatuses = []corev1.ContainerStatus{state}
	}
}

func outdated(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = "old" }

func crashes() corev1.ContainerStatus {
	return corev1.ContainerStatus{RestartCount: 2,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3}}}
}

func creating() corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
}

// client returns a client of an API server with all of it.
func (w *world) client() *fake.Clientset {
	objects := append([]runtime.Object{w.ds}, w.others...)
	for i := range w.nodes {
		objects = append(objects, &w.nodes[i])
	}
	for i := range w.pods {
		objects = append(objects, &w.pods[i])
	}
	return fake.NewClientset(objects...)
}

// ask asks about the DaemonSet. It also returns the field selectors with which events
// were listed.
func (w *world) ask(t *testing.T, q Question) (a *Answer, eventFields []string) {
	t.Helper()
	client := w.client()
	a, err := Ask(context.Background(), client, q, testNow())
	if err != nil {
		t.Fatal(err)
	}
	for _, act := range client.Actions() {
		if list, ok := act.(clienttesting.ListAction); ok && act.Matches("list", "events") {
			eventFields = append(eventFields, list.GetListRestrictions().Fields.String())
		}
	}
	return a, eventFields
}

func aboutAgent() Question { return Question{DaemonSet: "agent", Namespace: "apps"} }

func reasons(a *Answer) (lines []string) {
	for _, r := range a.Rows {
		lines = append(lines, r.Node+" "+r.Reason)
	}
	return lines
}

// What is held up comes first, with its cause and what to type; then the nodes that
// wait for it, then those that the DaemonSet does not select, and last what is well.
// Each group is in natural order by name.
// it, then who is not meant, and at last what is well. Each by name as people count.
func TestAskOrdersByInterest(t *testing.T) {
	w := newWorld(t)
	w.ds.Spec.Template.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	w.hash = newWorldHash(t, w.ds)
	linux := func(n *corev1.Node) { n.Labels = map[string]string{"kubernetes.io/os": "linux"} }
	for _, name := range []string{"sim-10", "sim-2", "sim-1", "sim-11", "sim-3"} {
		w.node(name, linux)
	}
	w.node("other")
	w.pod("sim-10", down(crashes()))
	w.pod("sim-2", outdated)
	w.pod("sim-1")
	w.pod("sim-11", outdated)
	w.pod("sim-3")
	w.others = append(w.others, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent-old",
		Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: "old"}, OwnerReferences: w.pods[0].OwnerReferences}, Revision: 1})
	a, lists := w.ask(t, aboutAgent())
	want := []string{"sim-10 Starting", "sim-2 BudgetSpent", "sim-11 BudgetSpent", "other NotSelected", "sim-1 UpToDate", "sim-3 UpToDate"}
	if got := reasons(a); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if len(lists) != 0 {
		t.Errorf("events were listed by %q, although the pod's status says enough", lists)
	}
	if want := map[string]int{"Starting": 1, "BudgetSpent": 2, "NotSelected": 1, "UpToDate": 2}; !reflect.DeepEqual(a.DaemonSets[0].Reasons, want) {
		t.Errorf("%v, want %v", a.DaemonSets[0].Reasons, want)
	}
	bad, waiting, other := a.Rows[0], a.Rows[1], a.Rows[3]
	if want := "CrashLoopBackOff (container main, exit code 3, 2 restarts)"; bad.Detail != want || bad.OK || bad.Cause == nil || bad.Cause.LastEnd.ExitCode != 3 {
		t.Errorf("%+v, want %s", bad, want)
	}
	if want := []string{"kubectl logs -n apps agent-sim-10 -c main", "kubectl rollout undo daemonset/agent -n apps"}; !slices.Equal(bad.Commands, want) {
		t.Errorf("%q, want %q", bad.Commands, want)
	}
	if want := []string{"everynode why sim-10 agent -n apps"}; !slices.Equal(waiting.Commands, want) || waiting.Detail != "held by sim-10" || waiting.OK {
		t.Errorf("%+v, want %q", waiting, want)
	}
	if want := []string{"kubectl label node other kubernetes.io/os=linux --overwrite"}; !slices.Equal(other.Commands, want) || !other.OK {
		t.Errorf("%+v, want %q", other, want)
	}
}

// A kubelet keeps the log of only one run that has ended. While the container does not run, that is the run that it
// reports as the last state or as the current one, and --previous may name one whose log is gone.
func TestAskNamesTheLogThatExists(t *testing.T) {
	no, started := false, true
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3}}
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, c := range map[string]struct {
		status corev1.ContainerStatus
		want   string
	}{
		"backs off":           {crashes(), "kubectl logs -n apps agent-sim-1 -c main"},
		"ended":               {corev1.ContainerStatus{RestartCount: 2, State: ended, LastTerminationState: ended}, "kubectl logs -n apps agent-sim-1 -c main"},
		"runs again":          {corev1.ContainerStatus{RestartCount: 2, Started: &started, State: runs, LastTerminationState: ended}, "kubectl logs -n apps agent-sim-1 -c main --previous"},
		"starts again":        {corev1.ContainerStatus{RestartCount: 2, Started: &no, State: runs, LastTerminationState: ended}, "kubectl logs -n apps agent-sim-1 -c main --previous"},
		"runs for the first":  {corev1.ContainerStatus{Started: &started, State: runs}, "kubectl logs -n apps agent-sim-1 -c main"},
		"starts at the first": {corev1.ContainerStatus{Started: &no, State: runs}, "kubectl logs -n apps agent-sim-1 -c main"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.node("sim-1")
			w.pod("sim-1", down(c.status))
			a, _ := w.ask(t, aboutAgent())
			if len(a.Rows) != 1 || !slices.Equal(a.Rows[0].Commands, []string{c.want}) {
				t.Errorf("%+v, want %q", a.Rows, c.want)
			}
		})
	}
}

func newWorldHash(t *testing.T, ds *appsv1.DaemonSet) string {
	history, err := view.History(ds, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return history.Hash
}

// Where the status says nothing specific the events do. For one pod, its events are
// read; for several, those of the namespace at once.
func TestAskReadsEvents(t *testing.T) {
	for _, pods := range []int{1, 3} {
		t.Run(fmt.Sprint(pods), func(t *testing.T) {
			w := newWorld(t)
			for i := range pods {
				node := fmt.Sprint("n", i)
				w.node(node)
				w.pod(node, down(creating()))
				w.others = append(w.others, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "e" + node}, Type: corev1.EventTypeWarning,
					InvolvedObject: corev1.ObjectReference{Kind: "Pod", UID: types.UID("pod-" + node)}, Reason: "FailedMount", Message: "no disk " + node,
					LastTimestamp: metav1.NewTime(testNow())})
			}
			a, lists := w.ask(t, aboutAgent())
			if len(lists) != 1 || strings.Contains(lists[0], "involvedObject.uid=pod-n0") != (pods == 1) {
				t.Errorf("events were listed by %q", lists)
			}
			for _, r := range a.Rows {
				if want := "FailedMount (container main): no disk " + r.Node; r.Detail != want {
					t.Errorf("%q, want %q", r.Detail, want)
				}
			}
		})
	}
}

// What the user may not read is said, and everything else is answered.
func TestAskSaysWhatMayNotBeRead(t *testing.T) {
	w := newWorld(t)
	w.ds.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}}
	w.hash = newWorldHash(t, w.ds)
	w.node("crashes")
	w.pod("crashes", down(crashes()))
	w.node("starts")
	w.pod("starts", down(creating()))
	w.node("empty")
	for _, node := range []string{"waits", "waits-too"} {
		w.node(node)
		w.pod(node, func(p *corev1.Pod) {
			p.Spec.NodeName, p.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}
		})
	}
	client := w.client()
	client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		of := a.GetResource().Resource
		return of == "events" || of == "pods" && a.GetNamespace() == "", nil, apierrors.NewForbidden(schema.GroupResource{Resource: of}, "", errors.New("no"))
	})
	a, err := Ask(t.Context(), client, aboutAgent(), testNow())
	if err != nil {
		t.Fatal(err)
	}
	details := map[string]string{}
	for _, r := range a.Rows {
		details[r.Node] = r.Detail
	}
	const waits = "waits for the scheduler: default-scheduler has reported nothing yet"
	if want := map[string]string{"crashes": "CrashLoopBackOff (container main, exit code 3, 2 restarts)", "starts": "ContainerCreating (container main)", "empty": "", "waits": waits, "waits-too": waits}; !reflect.DeepEqual(details, want) {
		t.Errorf("%q, want %q", details, want)
	}
	want := []string{
		"pods of all namespaces were not read, so " + withoutPods + `: list the pods of node waits-too, for their host ports: pods is forbidden: no`,
		"events were not read, so " + withoutEvents + `: list the events of DaemonSet apps/agent: events is forbidden: no`,
	}
	if !slices.Equal(a.NotRead, want) {
		t.Errorf("%q, want %q", a.NotRead, want)
	}
}

// On a node that is silent, the last known state of the containers is not the cause.
func TestAskBlamesTheSilentNode(t *testing.T) {
	w := newWorld(t)
	w.node("n", func(n *corev1.Node) {
		n.Status.Conditions[0].Status, n.Status.Conditions[0].Message = corev1.ConditionUnknown, "Kubelet stopped posting node status."
	})
	w.pod("n", down(corev1.ContainerStatus{Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}))
	a, _ := w.ask(t, aboutAgent())
	if want := "NodeNotReady: Kubelet stopped posting node status."; a.Rows[0].Detail != want {
		t.Errorf("%q, want %q", a.Rows[0].Detail, want)
	}
}

// The answer says only what is certain about who does the work.
func TestAskKnowsWhoWorks(t *testing.T) {
	lease := func(ago time.Duration) runtime.Object {
		holder, seconds, renewed := "pod-7", int32(15), metav1.NewMicroTime(testNow().Add(-ago))
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "everynode-controller"},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &renewed}}
	}
	for what, c := range map[string]struct {
		age      time.Duration
		observed int64
		off      bool
		lease    runtime.Object
		want     string
	}{
		"seen":     {time.Hour, 1, false, nil, ""},
		"just now": {2 * time.Second, 0, false, nil, ""},
		"not seen": {time.Minute, 0, false, nil,
			"No DaemonSet controller has observed generation 1, which is 60s old. No controller is running, or it cannot write: nobody holds the lease kube-system/everynode-controller."},
		"not seen, and the leader is gone": {time.Minute, 0, false, lease(5 * time.Minute),
			"No DaemonSet controller has observed generation 1, which is 60s old. No controller is running, or it cannot write: everynode-controller pod-7 has not renewed the lease kube-system/everynode-controller for 5m."},
		"not seen, switched off": {time.Minute, 0, true, nil,
			"No DaemonSet controller has observed generation 1, which is 60s old. The control plane runs without the engine, and nobody holds the lease kube-system/everynode-controller."},
		"switched off, and a node came later":      {time.Hour, 1, true, nil, "The control plane runs without the engine, and nobody holds the lease kube-system/everynode-controller."},
		"switched off, and another one works here": {time.Hour, 1, true, lease(time.Second), ""},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.ds.CreationTimestamp, w.ds.Status.ObservedGeneration = metav1.NewTime(testNow().Add(-c.age)), c.observed
			w.node("n")
			if c.lease != nil {
				w.others = append(w.others, c.lease)
			}
			q := aboutAgent()
			q.EngineOff = c.off
			a, _ := w.ask(t, q)
			if a.Rows[0].Reason != "Missing" {
				t.Errorf("%+v", a.Rows[0])
			}
			if got := a.DaemonSets[0]; got.Controller != c.want || (got.Command != "") != (c.off && c.want != "") {
				t.Errorf("%q %q, want %q", got.Controller, got.Command, c.want)
			}
		})
	}
}

// Whoever may not read the lease is not told that nobody holds it.
func TestLeaseThatMayNotBeRead(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "everynode-controller", errors.New("no"))
	})
	lease, err := ReadLease(t.Context(), client, testNow())
	if err != nil || lease.String() != "you may not read the lease kube-system/everynode-controller, which names the engine that works" {
		t.Errorf("%q, %v", lease, err)
	}
}

func TestNaturally(t *testing.T) {
	names := strings.Fields("sim-10 sim-2 node-1 sim-02 a b10c2 b10c10 b9 sim-2a sim")
	slices.SortFunc(names, Naturally)
	if got, want := strings.Join(names, " "), "a b9 b10c2 b10c10 node-1 sim sim-02 sim-2 sim-2a sim-10"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// BenchmarkWhy measures the whole work of an answer about 5,000 nodes, one in ten of
// them in trouble, without the API server's share.
func BenchmarkWhy(b *testing.B) {
	w := newWorld(b)
	for i := range 5000 {
		node := fmt.Sprint("sim-", i)
		w.node(node)
		if i%10 == 0 {
			w.pod(node, down(crashes()))
		} else {
			w.pod(node)
		}
	}
	for b.Loop() {
		s := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
		rows, err := s.why(&s.sets[0], testNow())
		if err != nil {
			b.Fatal(err)
		}
		if err := s.explain(context.Background(), fake.NewClientset(), &s.sets[0], rows, testNow(), &gaps{}); err != nil {
			b.Fatal(err)
		}
		slices.SortFunc(rows, byInterest)
	}
}
