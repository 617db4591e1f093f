package engine

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// watched is an index with its first fill done, and the keys that changes have made dirty since they were
// last asked for.
type watched struct {
	*index
	keys []string
}

func newWatched() *watched {
	return &watched{index: newIndex()}
}

func (w *watched) begin() {
	w.index.begin(listener{
		dirty: func(k types.NamespacedName) { w.keys = append(w.keys, k.Name) },
		left:  func(nodeEntry, []string) {},
	})
}

func (w *watched) dirtied() []string {
	keys := slices.Clone(w.keys)
	slices.Sort(keys)
	w.keys = nil
	return slices.Compact(keys)
}

func (w *watched) addSet(t *testing.T, name string, selector map[string]string) {
	t.Helper()
	s, err := compactSet(&appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
				Spec:       corev1.PodSpec{NodeSelector: selector},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.upsertSet(s)
}

func node(name string, change ...func(*plan.Node)) nodeEntry {
	n := plan.Node{Name: name, UID: "uid-" + name, Ready: true, ReadyChanged: time.Unix(1000, 0), Labels: map[string]string{"l": "1"}}
	for _, f := range change {
		f(&n)
	}
	return nodeEntry{Node: n}
}

func testPod(t *testing.T, name, node, set string, version int, change ...func(*corev1.Pod)) *podEntry {
	t.Helper()
	p := rawPod(name, node, set, version)
	for _, f := range change {
		f(p)
	}
	e, err := compactPod(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func rawPod(name, node, set string, version int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name),
			ResourceVersion: fmt.Sprint(version), Labels: map[string]string{"app": set}},
		Spec: corev1.PodSpec{NodeName: node},
	}
	if set != "" {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: set, UID: types.UID("uid-" + set), Controller: new(true)}}
	}
	return p
}

func TestNodeEventsTouchOnlyWhatTheyConcern(t *testing.T) {
	w := newWatched()
	w.addSet(t, "everywhere", nil)
	w.addSet(t, "ssd", map[string]string{"ssd": "true"})
	w.upsertNode(node("a"))
	w.begin()
	w.dirtied()
	steps := []struct {
		what string
		do   func()
		want []string
	}{
		{"a heartbeat", func() { w.upsertNode(node("a")) }, nil},
		{"an irrelevant label", func() { w.upsertNode(node("a", func(n *plan.Node) { n.Labels = map[string]string{"l": "2"} })) }, nil},
		{"a label that one selects", func() {
			w.upsertNode(node("a", func(n *plan.Node) { n.Labels = map[string]string{"ssd": "true"} }))
		}, []string{"ssd"}},
		{"the label goes", func() { w.upsertNode(node("a")) }, []string{"ssd"}},
		{"a pod of ssd is there all the same", func() { w.upsertPod(testPod(t, "p", "a", "ssd", 5)) }, []string{"ssd"}},
		{"not ready", func() { w.upsertNode(node("a", func(n *plan.Node) { n.Ready = false })) }, []string{"everywhere", "ssd"}},
		{"PreferNoSchedule", func() {
			w.upsertNode(node("a", func(n *plan.Node) {
				n.Ready, n.Taints = false, []plan.Taint{{Key: "k", Effect: plan.PreferNoSchedule}}
			}))
		}, nil},
		{"NoSchedule", func() {
			w.upsertNode(node("a", func(n *plan.Node) {
				n.Ready, n.Taints = false, []plan.Taint{{Key: "k", Effect: plan.NoSchedule}}
			}))
		}, []string{"everywhere"}},
		{"a node joins", func() { w.upsertNode(node("b")) }, []string{"everywhere"}},
		{"a node goes", func() { w.removeNode(node("a")) }, []string{"everywhere", "ssd"}},
	}
	for _, s := range steps {
		s.do()
		if got := w.dirtied(); !slices.Equal(got, s.want) {
			t.Errorf("%s: dirty %v, want %v", s.what, got, s.want)
		}
	}
}

func TestPodEventsTouchOnlyWhatTheyConcern(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.addSet(t, "y", nil)
	w.begin()
	w.dirtied()
	steps := []struct {
		what string
		e    *podEntry
		want []string
	}{
		{"ours", testPod(t, "p", "a", "x", 5), []string{"x"}},
		{"nothing that matters", testPod(t, "p", "a", "x", 6, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }), nil},
		{"ready", testPod(t, "p", "a", "x", 7, func(p *corev1.Pod) { ready(p, true) }), []string{"x"}},
		{"an older event", testPod(t, "p", "a", "x", 6), nil},
		{"orphaned", testPod(t, "p", "a", "x", 8, func(p *corev1.Pod) { p.OwnerReferences = nil }), []string{"x"}},
		{"another's label", testPod(t, "p", "a", "x", 9, func(p *corev1.Pod) { p.OwnerReferences = nil; p.Labels["app"] = "y" }), []string{"y"}},
		{"a Job's", testPod(t, "p", "a", "x", 10, func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].APIVersion = "Job", "batch/v1" }), []string{"y"}},
	}
	for _, s := range steps {
		w.upsertPod(s.e)
		if got := w.dirtied(); !slices.Equal(got, s.want) {
			t.Errorf("%s: dirty %v, want %v", s.what, got, s.want)
		}
	}
	if len(w.pods)+len(w.owned["uid-x"].first)+len(w.owned["uid-y"].first)+len(w.orphans) != 0 {
		t.Errorf("the Job's pod is still kept: %v", w.pods)
	}
}

// Own writes win over older events and lists, and lose to newer ones.
func TestOwnWritesAreAheadOfTheWatch(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.begin()
	w.reachedPods(10)
	ready5 := func(p *corev1.Pod) { ready(p, true) }

	w.assume(rawPod("late", "a", "x", 9)) // the watch has been there: the pod is gone since
	if w.pod("uid-late") != nil {
		t.Error("a write that the watch has passed brought a pod back")
	}
	w.assume(rawPod("new", "a", "x", 20))
	w.replacePods(nil, 15)
	if w.pod("uid-new") == nil {
		t.Error("a list older than the write dropped it")
	}
	w.upsertPod(testPod(t, "new", "a", "x", 18, ready5))
	if w.pod("uid-new").Ready {
		t.Error("an older event took back the write")
	}
	w.upsertPod(testPod(t, "new", "a", "x", 21, ready5))
	if !w.pod("uid-new").Ready {
		t.Error("a newer event was ignored")
	}
	w.reachedPods(21)
	if late := w.lingering(time.Now().Add(time.Hour)); len(late) != 0 || len(w.ahead) != 0 {
		t.Errorf("ahead although the watch has caught up: %v", w.ahead)
	}
	w.bury("uid-new")
	w.upsertPod(testPod(t, "new", "a", "x", 30))
	if w.pod("uid-new") != nil {
		t.Error("an event brought back a pod that is known to be gone")
	}
	w.removePod(testPod(t, "new", "a", "x", 31))
	if len(w.buried) != 0 {
		t.Errorf("buried forever: %v", w.buried)
	}
	w.assume(rawPod("brief", "a", "x", 36)) // created and gone before an older list arrives
	w.bury("uid-brief")
	w.replacePods(nil, 35)
	w.upsertPod(testPod(t, "brief", "a", "x", 36))
	if w.pod("uid-brief") != nil {
		t.Error("a list from before the pod was there ended its burial, and an event brought it back")
	}
	w.removePod(testPod(t, "brief", "a", "x", 37))
	w.assume(rawPod("listed", "a", "x", 40))
	w.replacePods(nil, 50)
	if w.pod("uid-listed") != nil {
		t.Error("a list newer than the write did not drop the pod")
	}
}

func TestLingeringWritesAreFound(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.assume(rawPod("p", "a", "x", 20))
	if late := w.lingering(time.Now()); len(late) != 0 {
		t.Errorf("at once: %v", late)
	}
	if late := w.lingering(time.Now().Add(delivery.LingerAfter)); len(late) != 1 || late[0].Name != "p" {
		t.Errorf("after %s: %v", delivery.LingerAfter, late)
	}
}

func TestVersionsMustBeIntegers(t *testing.T) {
	p := rawPod("p", "a", "x", 1)
	p.ResourceVersion = "opaque"
	if _, err := compactPod(p); err == nil {
		t.Error("a resource version that cannot be compared was taken")
	}
}

// Labels count as long as a placement asks for them, in a selector or in a term.
func TestAskedLabels(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", map[string]string{"ssd": "true", "pool": "a"})
	w.addSet(t, "y", map[string]string{"ssd": "true"})
	edited := *w.set(types.NamespacedName{Namespace: "default", Name: "x"})
	edited.version, edited.spec.Placement = 2, plan.Placement{Terms: []plan.Term{{Labels: []plan.Requirement{{Key: "zone", Operator: plan.Exists}}}}}
	for i, step := range []struct {
		do   func()
		want []string
	}{
		{func() {}, []string{"pool", "ssd"}},
		{func() { w.upsertSet(&edited) }, []string{"ssd", "zone"}},
		{func() { w.removeSet(&edited) }, []string{"ssd"}},
	} {
		step.do()
		if got := slices.Sorted(maps.Keys(w.asked)); !slices.Equal(got, step.want) {
			t.Errorf("step %d: %v are asked for, want %v", i, got, step.want)
		}
	}
	before, after := map[string]string{"ssd": "true", "other": "1"}, map[string]string{"ssd": "true", "other": "2"}
	if w.relabelled(before, after) || !w.relabelled(before, nil) || !w.relabelled(map[string]string{"ssd": ""}, nil) {
		t.Error("only labels that are asked for count, and an empty one is not the same as none")
	}
}

// Both DaemonSets look at a pod that changes its owner: the one that has lost it has a node without a pod.
func TestPodThatChangesHandsMarksBoth(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	w.addSet(t, "y", nil)
	w.upsertNode(node("a"))
	w.upsertPod(testPod(t, "p", "a", "x", 1))
	w.begin()
	for _, uid := range []string{"uid-x", "uid-y"} {
		w.takeMarked(uid, nil)
	}
	w.dirtied()
	w.upsertPod(testPod(t, "p", "a", "y", 2))
	if got := w.dirtied(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("it went from x to y, and dirty are %q", got)
	}
	for _, uid := range []string{"uid-x", "uid-y"} {
		if nodes, _ := w.takeMarked(uid, nil); !slices.Equal(nodes, []string{"a"}) {
			t.Errorf("%s is to look at %q, want the pod's node", uid, nodes)
		}
	}
}

// A decision about a whole fleet does not leave behind a map of that size, which every later decision would
// have to scan.
func TestManyMarksLeaveNoLargeMap(t *testing.T) {
	w := newWatched()
	w.addSet(t, "x", nil)
	o := w.owned["uid-x"]
	same := func(nodes int) bool {
		before := reflect.ValueOf(o.marked).Pointer()
		for i := range nodes {
			o.marked[strconv.Itoa(i)] = struct{}{}
		}
		if got, _ := w.takeMarked("uid-x", nil); len(got) != nodes || len(o.marked) != 0 {
			t.Errorf("%d of %d are taken, %d are left", len(got), nodes, len(o.marked))
		}
		return reflect.ValueOf(o.marked).Pointer() == before
	}
	if !same(fewMarked) || same(fewMarked+1) {
		t.Error("the map is not kept after few, or is kept after many")
	}
}
