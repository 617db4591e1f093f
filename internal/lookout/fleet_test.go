package lookout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/fleetmap"
	"everynode/internal/fleetview"
	"everynode/internal/plan"
	"everynode/internal/view"
	"everynode/internal/why"
)

// fleet returns a Fleet of the cluster that has read everything once.
func (w *world) fleet(t testing.TB) *Fleet {
	t.Helper()
	f := NewFleet(t.Context(), w.client, Releases{}, "")
	for _, s := range f.sources() {
		if err := s.read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *Fleet) seen(t testing.TB, now time.Time) *fleetview.State {
	t.Helper()
	s, _, err := f.See(now)
	if err != nil || s == nil {
		t.Fatalf("nothing is seen: %v", err)
	}
	return s
}

func (f *Fleet) source(t testing.TB, name string) *source {
	t.Helper()
	for _, s := range f.sources() {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("nothing is read of %s", name)
	return nil
}

// second adds a DaemonSet apps/other with a pod on each of the nodes.
func (w *world) second(t testing.TB, nodes ...string) {
	t.Helper()
	other := w.set.DeepCopy()
	other.Name, other.UID = "other", "other"
	other.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	other.Spec.Template.Labels = map[string]string{"app": "other"}
	if err := w.client.Tracker().Add(other); err != nil {
		t.Fatal(err)
	}
	history, err := view.History(other, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		w.pod(t, n, func(p *corev1.Pod) {
			p.Name, p.UID = "other-"+n, types.UID("other-"+n)
			p.Labels = map[string]string{"app": "other", appsv1.ControllerRevisionHashLabelKey: history.Hash}
			p.OwnerReferences[0].UID, p.OwnerReferences[0].Name = "other", "other"
		})
	}
}

// cellsOf returns the states of a DaemonSet's nodes, by place, as words.
func cellsOf(s *fleetview.State, key string) string {
	var words []string
	for _, set := range s.Sets {
		if set.Key() == key {
			for i, c := range set.Cells {
				words = append(words, s.Nodes[i].Name+" "+fleetview.CellStates()[c.State]+" "+s.Reasons[c.Reason].Name)
			}
		}
	}
	return strings.Join(words, ", ")
}

// All DaemonSets are seen with one read of nodes and pods, each with the reasons that `everynode why` gives.
func TestFleet(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"node-10", "node-2"} {
		w.node(t, n, "eu-a", corev1.ConditionTrue)
	}
	w.node(t, "node-3", "eu-b", corev1.ConditionUnknown)
	w.pod(t, "node-2", crashes)
	w.pod(t, "node-10", old)
	w.pod(t, "node-10", func(p *corev1.Pod) { p.Namespace = "tenant" }) // whoever made it only says that it is the DaemonSet's
	w.pod(t, "node-3", notReady)
	w.second(t, "node-2", "node-10")
	s := w.fleet(t).seen(t, time.Now())
	if got, want := cellsOf(s, "apps/agent"), "node-2 failing Starting, node-3 down Starting, node-10 old BudgetSpent"; got != want {
		t.Errorf("agent:\n%s, want\n%s", got, want)
	}
	if got, want := cellsOf(s, "apps/other"), "node-2 new UpToDate, node-3 down Missing, node-10 new UpToDate"; got != want {
		t.Errorf("other:\n%s, want\n%s", got, want)
	}
	if n := s.Nodes[1]; n.Name != "node-3" || n.Zone != "eu-b" || n.Down != "as Unknown" || n.Since != began().Add(time.Minute).UnixMilli() {
		t.Errorf("the node that is down: %+v", n)
	}
	f := s.Sets[0].Findings
	if len(f) != 2 || f[0].Node != "node-2" || !f[0].Log || !strings.Contains(f[0].Text, "CrashLoopBackOff") || f[1].Node != "node-3" {
		t.Errorf("findings: %+v", f)
	}
	if b := s.Sets[0].Budget; b == nil || b.MaxUnavailable != 1 || b.Used != 2 {
		t.Errorf("budget: %+v", b)
	}
}

// A node keeps its place, a free place is used again, and only DaemonSets that have changed are looked at again.
func TestFleetPlaces(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"a", "b", "c"} {
		w.node(t, n, "", corev1.ConditionTrue)
		w.pod(t, n)
	}
	w.second(t, "a", "b", "c")
	f := w.fleet(t)
	now := time.Now()
	first := f.seen(t, now)
	same := f.seen(t, now)
	if same.Sets[0] != first.Sets[0] || fleetview.Between(first, same) != nil {
		t.Error("nothing has changed, and it was looked at again")
	}
	pod := w.pod(t, "a", func(p *corev1.Pod) { p.Name = "agent-again" }, notReady)
	if err := f.source(t, "pods").Add(pod); err != nil {
		t.Fatal(err)
	}
	if next := f.seen(t, now); next.Sets[0] == first.Sets[0] || next.Sets[1] != first.Sets[1] {
		t.Error("a pod of one DaemonSet came, and not just that one was looked at")
	}
	gone := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}}
	if err := f.source(t, "nodes").Delete(gone); err != nil {
		t.Fatal(err)
	}
	after := f.seen(t, now)
	if names := namesOf(after); names != "a,,c" {
		t.Errorf("places after b has left: %s", names)
	}
	for _, n := range []string{"e", "d"} {
		if err := f.source(t, "nodes").Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n}}); err != nil {
			t.Fatal(err)
		}
	}
	last := f.seen(t, now)
	if names := namesOf(last); names != "a,d,c,e" {
		t.Errorf("places after d and e have come: %s", names)
	}
	if len(last.Sets[0].Cells) != 4 {
		t.Errorf("%d cells", len(last.Sets[0].Cells))
	}
	if got := after.Apply(fleetview.Between(after, last)); namesOf(got) != namesOf(last) || cellsOf(got, "apps/other") != cellsOf(last, "apps/other") {
		t.Error("the change does not lead from one to the other")
	}
}

func namesOf(s *fleetview.State) string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, ",")
}

// A new DaemonSet is seen, even if its pods were seen before it. One that is deleted or replaced under the same name
// is not.
func TestFleetSetsComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	w.pod(t, "a")
	f := NewFleet(t.Context(), w.client, Releases{}, "")
	for _, name := range []string{"pods", "nodes", "controllerrevisions", "daemonsets"} {
		if err := f.source(t, name).read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := f.seen(t, time.Now())
	if got := cellsOf(s, "apps/agent"); got != "a new UpToDate" {
		t.Errorf("pods before their DaemonSet: %s", got)
	}
	another := w.set.DeepCopy()
	another.UID = "another"
	if err := f.source(t, "daemonsets").Update(another); err != nil {
		t.Fatal(err)
	}
	if got := cellsOf(f.seen(t, time.Now()), "apps/agent"); got != "a waiting Missing" {
		t.Errorf("another of the same name: %s", got)
	}
	if err := f.source(t, "daemonsets").Replace(nil, ""); err != nil {
		t.Fatal(err)
	}
	if s := f.seen(t, time.Now()); len(s.Sets) != 0 {
		t.Errorf("%d DaemonSets are left", len(s.Sets))
	}
}

// Each resource is watched once, however many DaemonSets there are. The watches end when nobody looks.
func TestFleetWatch(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	w.pod(t, "a")
	w.second(t, "a")
	var watches atomic.Int32
	w.client.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		watches.Add(1)
		own, err := w.client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		return true, own, err
	})
	f := NewFleet(t.Context(), w.client, Releases{}, "")
	ctx, stop := context.WithCancel(t.Context())
	states := make(chan *fleetview.State, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- f.Watch(ctx, func(s *fleetview.State) { states <- s }, func(why string) { t.Error(why) })
	}()
	first := <-states
	if len(first.Sets) != 2 {
		t.Errorf("%d DaemonSets", len(first.Sets))
	}
	w.node(t, "b", "", corev1.ConditionTrue)
	for s := range states {
		if len(s.Nodes) == 2 {
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := watches.Load(); n != 4 {
		t.Errorf("%d watches, want one for each of 4 resources", n)
	}
}

// While a resource cannot be read, the page is told why; the others are not read again because of it.
func TestFleetNothingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(t, "a", "", corev1.ConditionTrue)
		var works atomic.Bool
		var nodes atomic.Int32
		w.client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetResource().Resource == "nodes" {
				nodes.Add(1)
			}
			return a.GetResource().Resource == "pods" && !works.Load(), nil, errors.New("the server is overloaded")
		})
		f := NewFleet(t.Context(), w.client, Releases{}, "")
		ctx, stop := context.WithCancel(t.Context())
		states, failures, ended := make(chan *fleetview.State, 100), make(chan string, 100), make(chan error, 1)
		began := time.Now()
		go func() {
			ended <- f.Watch(ctx, func(s *fleetview.State) { states <- s }, func(why string) { failures <- why })
		}()
		if why := <-failures; !strings.HasSuffix(why, ", trying again: pods: the server is overloaded") || time.Since(began) != failingAfter {
			t.Errorf("after %s: %q", time.Since(began), why)
		}
		works.Store(true)
		if s := <-states; len(s.Nodes) != 1 || len(failures) > 0 || nodes.Load() != 1 {
			t.Errorf("%+v; nodes were read %d times", s, nodes.Load())
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The same where there is no answer, which a large cluster may take a while for.
func TestFleetNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFleet(t.Context(), newWorld(t).client, Releases{}, "")
		if why, due := f.unreadSince(time.Now()); why != "" || time.Until(due) != slowAfter {
			t.Errorf("%q, and again in %s", why, time.Until(due))
		}
		if why, _ := f.unreadSince(time.Now().Add(slowAfter)); !strings.HasSuffix(why, ", no answer yet: controllerrevisions, daemonsets, nodes, pods") {
			t.Errorf("%q", why)
		}
	})
}

// Details include what is not followed, such as events.
func TestFleetDetails(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	w.pod(t, "a", crashes)
	w.node(t, "c", "", corev1.ConditionTrue)
	w.pod(t, "c", runsAgain)
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "a"},
		Type: corev1.EventTypeWarning, Reason: "Rebooted", Message: "it was <b>rebooted</b>", LastTimestamp: metav1.NewTime(began())}
	if err := w.client.Tracker().Add(event); err != nil {
		t.Fatal(err)
	}
	f := w.fleet(t)
	f.seen(t, time.Now())
	n, err := f.Node(t.Context(), "a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Rows) != 1 || n.Rows[0].Set != "apps/agent" || n.Rows[0].State != int(fleetview.Failing) || !n.Rows[0].Log || !strings.Contains(n.Rows[0].Detail, "CrashLoopBackOff") {
		t.Errorf("rows: %+v", n.Rows)
	}
	if len(n.Rows[0].Commands) == 0 || len(n.Conditions) != 1 || n.Conditions[0].Bad || len(n.Events) != 1 || n.Events[0].Message != "it was <b>rebooted</b>" {
		t.Errorf("%+v", n)
	}
	for node, previous := range map[string]bool{"a": false, "c": true} {
		l, err := f.Log(t.Context(), "apps", "agent", node)
		if err != nil || l.Container != "main" || l.Previous != previous || fmt.Sprint(l.Lines) != "[fake logs]" {
			t.Errorf("%s: %+v, %v", node, l, err)
		}
	}
	for name, ask := range map[string]func() error{
		"node":   func() error { _, err := f.Node(t.Context(), "b", time.Now()); return err },
		"set":    func() error { _, err := f.Log(t.Context(), "apps", "other", "a"); return err },
		"pod":    func() error { _, err := f.Log(t.Context(), "apps", "agent", "b"); return err },
		"events": func() error { _, err := f.Events(t.Context(), "apps", "other"); return err },
	} {
		if err := ask(); !errors.Is(err, fleetview.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A pod that is changed to the current revision where it runs counts as starting.
func TestChangingInPlaceIsStarting(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	f := w.fleet(t)
	f.seen(t, time.Now())
	p := newPainter(f.stand("apps", "agent").Lookout, time.Now(), true)
	n := f.known.nodes["a"]
	row := why.Row{Node: "a", Pod: "agent-a", Desired: true, Updated: true, Reason: plan.ChangingInPlace.String()}
	if got := p.stateOf(&row, &n); got != fleetmap.Starting {
		t.Errorf("it is %s", got)
	}
}

// A soak time is written without zero units at its end.
func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "", 20 * time.Second: "20s", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", 20 * time.Hour: "20h",
		time.Minute + 30*time.Second: "1m30s", 1500 * time.Millisecond: "1.5s"} {
		if got := short(d); got != want {
			t.Errorf("%s is written as %q, want %q", d, got, want)
		}
	}
}

// BenchmarkFleet looks at 20 DaemonSets on 5,000 nodes after the change of a node, which may concern each of them.
func BenchmarkFleet(b *testing.B) {
	w := newWorld(b)
	f := NewFleet(b.Context(), w.client, Releases{}, "")
	nodes, pods, sets := f.source(b, "nodes"), f.source(b, "pods"), f.source(b, "daemonsets")
	add := func(s *source, o any) {
		if err := s.Add(o); err != nil {
			b.Fatal(err)
		}
	}
	clear(f.unread)
	node := func(name string, labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	}
	for i := range 5000 {
		add(nodes, node(fmt.Sprintf("node-%d", i), nil))
	}
	for i := range 20 {
		ds := w.set.DeepCopy()
		ds.Name, ds.UID = fmt.Sprintf("agent-%d", i), types.UID(fmt.Sprintf("set-%d", i))
		add(sets, ds)
		for j := range 5000 {
			name := fmt.Sprintf("node-%d", j)
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: ds.Name + "-" + name, Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: w.hash},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}}, Spec: corev1.PodSpec{NodeName: name},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
			add(pods, p)
		}
	}
	before := f.seen(b, time.Now())
	n := 0
	for b.Loop() {
		n++
		add(nodes, node("node-7", map[string]string{"again": fmt.Sprint(n)}))
		after := f.seen(b, time.Now())
		if c := fleetview.Between(before, after); len(after.Sets) != 20 || c != nil && len(c.Nodes) > 0 {
			b.Fatal("not what was asked for")
		}
		before = after
	}
}
