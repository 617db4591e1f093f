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
)

// BenchmarkFleet produces the numbers of docs/scale.md, for fleets whose every node has a pod of each of 20 DaemonSets. For
// each it reports the memory that the index and the decisions keep alive, how long a new leader takes to decide about
// everything, and what one event costs then: for a pod that turns unready or ready, including the decision, and for a node's
// heartbeat. Run it once for each size:
//
//	go test -run - -bench Fleet -benchtime 1x -timeout 1h ./internal/engine
func BenchmarkFleet(b *testing.B) {
	const sets = 20
	for _, nodes := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%dx%d", nodes, sets), func(b *testing.B) {
			for b.Loop() {
				benchFleet(b, nodes, sets)
			}
		})
	}
}

func benchFleet(b *testing.B, nodes, sets int) {
	empty := heapNow()
	e := crowded()
	defer e.end()
	for s := range sets {
		e.index.upsertSet(fleetSet(b, s))
	}
	began := time.Now()
	for i := range nodes {
		n, err := compactNode(benchNode(i))
		if err != nil {
			b.Fatal(err)
		}
		e.index.upsertNode(n)
		for s := range sets {
			e.index.upsertPod(fleetPod(b, i, s, 1))
		}
	}
	filled := time.Since(began)
	began = time.Now()
	e.decideAll()
	b.ReportMetric(time.Since(began).Seconds(), "s/leader")
	b.ReportMetric(filled.Seconds()*1e6/float64(nodes*sets), "µs/listed-pod")
	alive := float64(heapNow() - empty)
	b.ReportMetric(alive/1e6, "MB")
	b.ReportMetric(alive/float64(nodes*sets), "B/pod")

	const events = 10_000
	pods, beats := make([]*podEntry, events), make([]*corev1.Node, events)
	for i := range events {
		pods[i], beats[i] = fleetPod(b, i/2%nodes, i/2%sets, 2+i%2), benchNode(i%nodes)
	}
	b.ReportMetric(eachOf(events, func(i int) {
		e.index.upsertPod(pods[i])
		e.decideAll()
	}), "µs/pod-event")
	b.ReportMetric(eachOf(events, func(i int) {
		n, err := compactNode(beats[i])
		if err != nil {
			b.Fatal(err)
		}
		e.index.upsertNode(n)
	}), "µs/heartbeat")
	b.ReportMetric(0, "ns/op")
}

// eachOf returns how many microseconds one of the calls takes.
func eachOf(calls int, call func(i int)) float64 {
	began := time.Now()
	for i := range calls {
		call(i)
	}
	return time.Since(began).Seconds() * 1e6 / float64(calls)
}

func fleetSet(b *testing.B, s int) *setEntry {
	name := fmt.Sprintf("agent-%d", s)
	set, err := compactSet(&appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("set-" + name), ResourceVersion: "1"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// fleetPod returns the pod of a DaemonSet on a node, with names and UIDs as long as real ones. It is ready in odd versions.
func fleetPod(b *testing.B, node, set, version int) *podEntry {
	name, status := fmt.Sprintf("agent-%d", set), corev1.ConditionFalse
	if version%2 == 1 {
		status = corev1.ConditionTrue
	}
	controller := true
	p, err := compactPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%010d", name, node), ResourceVersion: strconv.Itoa(version),
			UID:               types.UID(fmt.Sprintf("%08d-0000-4000-8000-%012d", set, node)),
			CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)),
			Labels:            map[string]string{"app": name, "controller-revision-hash": "h", "pod-template-generation": "1"},
			OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: name, UID: types.UID("set-" + name), Controller: &controller}}},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", node)},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return p
}
