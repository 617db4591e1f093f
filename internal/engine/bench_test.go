package engine

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/view"
)

const (
	benchNodes = 5000
	benchSets  = 100
)

// benchIndex returns the index of a fleet: a pod of the first DaemonSet on every node; the other DaemonSets
// select a label that no node has.
func benchIndex(b *testing.B) (*index, *int) {
	b.Helper()
	dirty := new(int)
	ix := newIndex()
	for i := range benchSets {
		ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("agent-%d", i), UID: types.UID(fmt.Sprintf("set-%d", i)), ResourceVersion: "1"},
			Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
		if i > 0 {
			ds.Spec.Template.Spec.NodeSelector = map[string]string{"example.com/none": "true"}
		}
		s, err := compactSet(ds)
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertSet(s)
	}
	for i := range benchNodes {
		n, err := compactNode(benchNode(i))
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertNode(n)
		p, err := compactPod(benchPod(i))
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertPod(p)
	}
	ix.begin(listener{dirty: func(types.NamespacedName) { *dirty++ }})
	*dirty = 0
	return ix, dirty
}

func benchNode(i int) *corev1.Node {
	name := fmt.Sprintf("node-%d", i)
	labels := map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
	for k := range 20 {
		labels[fmt.Sprintf("example.com/label-%d", k)] = "value"
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1", Labels: labels},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))}}}}
}

func benchPod(i int) *corev1.Pod {
	controller := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("agent-0-%d", i), UID: types.UID(fmt.Sprintf("pod-%d", i)), ResourceVersion: "1",
			Labels:          map[string]string{"app": "a", "controller-revision-hash": "5d8f7c9b6d", "pod-template-generation": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent-0", UID: "set-0", Controller: &controller}}},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i)},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))}}},
	}
}

// BenchmarkHeartbeat: a heartbeat changes nothing that the index keeps, and must cost next to nothing.
func BenchmarkHeartbeat(b *testing.B) {
	ix, dirty := benchIndex(b)
	n := benchNode(7)
	b.ReportAllocs()
	for b.Loop() {
		e, err := compactNode(n)
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertNode(e)
	}
	if *dirty > 0 {
		b.Errorf("heartbeats made DaemonSets dirty %d times", *dirty)
	}
}

// BenchmarkIrrelevantLabel: a label that no DaemonSet asks for is matched against each of them.
func BenchmarkIrrelevantLabel(b *testing.B) {
	ix, dirty := benchIndex(b)
	n := benchNode(7)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.Labels["example.com/changes"] = []string{"a", "b"}[i%2]
		e, err := compactNode(n)
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertNode(e)
	}
	if *dirty > 0 {
		b.Errorf("labels that nobody asks for made DaemonSets dirty %d times", *dirty)
	}
}

// BenchmarkPodEvent measures what it costs to put a pod event into the index, before anything is decided.
func BenchmarkPodEvent(b *testing.B) {
	ix, _ := benchIndex(b)
	pod, version, watched := benchPod(7), 1, newFamilies()
	b.ReportAllocs()
	for b.Loop() {
		version++
		pod.ResourceVersion = strconv.Itoa(version)
		p, err := watched.compact(pod)
		if err != nil {
			b.Fatal(err)
		}
		ix.upsertPod(p)
	}
}

// BenchmarkReadinessBesideHeavyPlacements: a node turns ready and back, with 1,000 DaemonSets whose
// placements ask for 8,000 labels each. The index is locked meanwhile.
func BenchmarkReadinessBesideHeavyPlacements(b *testing.B) {
	ix, _ := benchIndex(b)
	terms := []plan.Term{{Labels: make([]plan.Requirement, 8000)}}
	for i := range terms[0].Labels {
		terms[0].Labels[i] = plan.Requirement{Key: fmt.Sprintf("k%d", i), Operator: plan.DoesNotExist}
	}
	for i := range 1000 {
		s := &setEntry{ds: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "t", Name: fmt.Sprint(i), UID: types.UID(fmt.Sprint("t", i))}}, version: 1}
		s.spec.Placement.Terms = terms
		s.heavy = isHeavy(&s.spec.Placement)
		ix.upsertSet(s)
	}
	n := view.Node(benchNode(7))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.Ready = i%2 == 0
		ix.upsertNode(nodeEntry{Node: n, version: uint64(2 + i)})
	}
}
