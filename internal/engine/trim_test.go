package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	internalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"everynode/internal/plan"
	"everynode/internal/view"
)

func codec() runtime.Serializer { return protobuf.NewSerializer(scheme.Scheme, scheme.Scheme) }

// fullMeta returns metadata with everything that a server may send.
func fullMeta(name string) metav1.ObjectMeta {
	deleted, grace := metav1.NewTime(time.Unix(5000, 0)), int64(30)
	return metav1.ObjectMeta{
		Name: name, Namespace: "default", UID: types.UID("uid-" + name), ResourceVersion: "77", Generation: 3,
		CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)), DeletionTimestamp: &deleted, DeletionGracePeriodSeconds: &grace,
		Labels:      map[string]string{"app": "agent", "controller-revision-hash": "abc", "pod-template-generation": "4"},
		Annotations: map[string]string{"big": strings.Repeat("x", 4000), metav1.InitialEventsAnnotationKey: "true"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", UID: "set",
			Controller: new(true), BlockOwnerDeletion: new(true)}},
		Finalizers:    []string{"example.com/hold"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1(strings.Repeat("{}", 1000))}},
	}
}

func fullPod(name string) *corev1.Pod {
	at := metav1.NewTime(time.Unix(2000, 0))
	return &corev1.Pod{ObjectMeta: fullMeta(name),
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: strings.Repeat("i", 300)}},
			Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{"node-2"}}}}}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "no", StartTime: &at,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Unix(3000, 0)), Message: "m"},
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager", Message: "m"}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Image: "i", Ready: true}}},
	}
}

// badStarts returns pods whose containers have trouble starting.
func badStarts() []*corev1.Pod {
	again, never, setup := fullPod("again"), fullPod("never"), fullPod("setup")
	again.Status.ContainerStatuses = append(again.Status.ContainerStatuses, corev1.ContainerStatus{RestartCount: 300,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "m"}}})
	never.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: "m"}
	setup.Status.InitContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "InvalidImageName"}}}}
	pulls, ended, runs, creates := fullPod("pulls"), fullPod("ended"), fullPod("runs"), fullPod("creates")
	pulls.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "m"}
	ended.Status.ContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", Message: "m"}
	runs.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "c", RestartCount: 2, LastTerminationState: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: "m"}}, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	creates.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	bad := []*corev1.Pod{again, never, setup, pulls, ended, runs, creates}
	for _, p := range bad {
		p.DeletionTimestamp, p.Status.Phase = nil, corev1.PodRunning
	}
	return bad
}

// changedPods returns pods that were changed in place, at several stages.
func changedPods() (pods []*corev1.Pod) {
	for i, id := range []string{"old", "new"} {
		for generation := range int64(2) {
			p := fullPod(fmt.Sprintf("changed-%d-%d", i, generation))
			p.DeletionTimestamp, p.Status.Phase, p.Status.ObservedGeneration = nil, corev1.PodRunning, 2+generation
			p.Status.Conditions[0].Status = corev1.ConditionTrue
			p.Annotations[view.ChangedAnnotation] = `{"revision":"abc","at":"2026-01-02T03:04:05Z","generation":3,"ready":"1970-01-01T00:50:00Z","containers":[{"name":"c","id":"old","imageID":"x","restarts":4,"ends":15,"probed":11}]}`
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: id, ImageID: "x", RestartCount: 7, Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Unix(4000, 0))}}}}
			pods = append(pods, p)
		}
	}
	return pods
}

func fullNode(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: fullMeta(name),
		Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24", Unschedulable: true, Taints: []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoExecute}}},
		Status: corev1.NodeStatus{Capacity: corev1.ResourceList{"cpu": resource.MustParse("4")},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse},
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(3000, 0)), Message: "kubelet is posting ready status"}}},
	}
	for i := range 50 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("registry.example.com/%s/%d@sha256:%s", strings.Repeat("p", 60), i, strings.Repeat("0", 64))}, SizeBytes: 1})
	}
	return n
}

func encoded(tb testing.TB, obj runtime.Object) []byte {
	tb.Helper()
	data, err := runtime.Encode(scheme.Codecs.EncoderForVersion(codec(), corev1.SchemeGroupVersion), obj)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// trimmed decodes an object with and without the trimmer.
func trimmed[T runtime.Object](t *testing.T, obj T) (whole, part T) {
	t.Helper()
	data := encoded(t, obj)
	got, _, err := newTrimmer(codec()).Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := runtime.Decode(codec(), data)
	if err != nil {
		t.Fatal(err)
	}
	return all.(T), got.(T)
}

// To the engine the trimmed object says the same as the whole.
func TestTrim(t *testing.T) {
	unbound := fullPod("unbound")
	unbound.Spec.NodeName = ""
	running := fullPod("running")
	running.DeletionTimestamp, running.Status.Phase = nil, corev1.PodRunning
	running.Status.Conditions[0].Status = corev1.ConditionTrue
	same := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-whole +trimmed):\n%s", what, diff)
		}
	}
	for _, p := range append(append(badStarts(), changedPods()...), fullPod("failed"), unbound, running, &corev1.Pod{}) {
		whole, part := trimmed(t, p)
		same(p.Name, view.Pod(whole), view.Pod(part))
		same(p.Name+"'s trouble", view.Trouble(whole), view.Trouble(part))
		same(p.Name+"'s owners", whole.OwnerReferences, part.OwnerReferences)
		same(p.Name+"'s finalizers", whole.Finalizers, part.Finalizers)
		same(p.Name+"'s labels", whole.Labels, part.Labels)
		same(p.Name+"'s place", whole.Namespace+whole.ResourceVersion, part.Namespace+part.ResourceVersion)
		if part.Spec.Containers != nil || len(part.Status.ContainerStatuses) == len(whole.Status.ContainerStatuses) && p.Name == "running" || part.ManagedFields != nil || part.Annotations["big"] != "" {
			t.Errorf("%s still has what nobody reads", p.Name)
		}
	}
	if got := view.Trouble(badStarts()[5]); got != "Restarted (container c, exit code 3)" {
		t.Errorf("a container that has started again: %q", got)
	}
	for _, p := range changedPods() {
		if seen := view.Pod(p); !seen.Changing || seen.Changed.IsZero() {
			t.Errorf("%s does not test this: %+v", p.Name, seen)
		}
	}
	whole, part := trimmed(t, fullNode("node-1"))
	same("the node", view.Node(whole), view.Node(part))
	if part.Status.Images != nil || part.Status.Capacity != nil {
		t.Error("the node still has what nobody reads")
	}
	if part.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Error("the end of the initial events is not seen")
	}
}

func TestTrimLists(t *testing.T) {
	whole, part := trimmed(t, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "9", Continue: "more"}, Items: []corev1.Pod{*fullPod("a"), *fullPod("b")}})
	if part.ResourceVersion != "9" || part.Continue != "more" || len(part.Items) != 2 {
		t.Fatalf("the list is now %+v", part.ListMeta)
	}
	for i := range part.Items {
		if diff := cmp.Diff(view.Pod(&whole.Items[i]), view.Pod(&part.Items[i])); diff != "" {
			t.Error(diff)
		}
	}
}

// Lists of metadata keep what podList and nodeList read.
func TestTrimListsOfMetadata(t *testing.T) {
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "9", Continue: "more"},
		Items: []metav1.PartialObjectMetadata{{ObjectMeta: fullMeta("a")}, {ObjectMeta: fullMeta("b")}}}
	info, _ := runtime.SerializerInfoForMediaType(internalversion.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	data, err := runtime.Encode(internalversion.Codecs.EncoderForVersion(info.Serializer, metav1.SchemeGroupVersion), list)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := newTrimmer(info.Serializer).Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	page := got.(*metav1.PartialObjectMetadataList)
	if diff := cmp.Diff(list.ListMeta, page.ListMeta); diff != "" || len(page.Items) != 2 {
		t.Fatalf("%d items, %s", len(page.Items), diff)
	}
	for i := range page.Items {
		want, got := list.Items[i].ObjectMeta, page.Items[i].ObjectMeta
		if got.ManagedFields != nil || got.Annotations["big"] != "" {
			t.Errorf("%s still has what nobody reads", got.Name)
		}
		want.ManagedFields, want.Annotations, want.Generation = nil, nil, 0
		got.Annotations, got.Generation = nil, 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// The trimmer does not touch what it does not know.
func TestTrimLeavesOthersAlone(t *testing.T) {
	whole, part := trimmed(t, &corev1.ConfigMap{ObjectMeta: fullMeta("c"), Data: map[string]string{"k": "v"}})
	if diff := cmp.Diff(whole, part); diff != "" {
		t.Error(diff)
	}
	whole2, part2 := trimmed(t, &metav1.Status{Status: "Failure", Message: "no", Code: 409})
	if diff := cmp.Diff(whole2, part2); diff != "" {
		t.Error(diff)
	}
}

func FuzzTrim(f *testing.F) {
	f.Add(encoded(f, fullPod("a")))
	f.Add(encoded(f, fullNode("n")))
	t := newTrimmer(codec())
	f.Fuzz(func(test *testing.T, data []byte) {
		got, _, err := t.Decode(data, nil, nil)
		all, errAll := runtime.Decode(codec(), data)
		if errAll != nil || err != nil {
			return // either may notice a broken part that the other does not read
		}
		if p, ok := all.(*corev1.Pod); ok {
			if diff := cmp.Diff(view.Pod(p), view.Pod(got.(*corev1.Pod)), cmp.AllowUnexported(plan.Pod{})); diff != "" {
				test.Error(diff)
			}
		}
	})
}

func BenchmarkDecodeNode(b *testing.B) {
	data := encoded(b, fullNode("n"))
	for name, d := range map[string]runtime.Decoder{"whole": codec(), "trimmed": newTrimmer(codec())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Decode(data, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
