package view

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

// second returns the n-th second of a test.
func second(n int64) metav1.Time { return metav1.NewTime(time.Unix(1_000_000+n, 0).UTC()) }

// changedPod returns a pod that was ready since second 2, and was changed from image one to two at second 100. Its
// status is still the one from before the change.
func changedPod(t *testing.T, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", ResourceVersion: "7", Generation: 1, Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: "old"}},
		Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: new(int64(5)), Containers: []corev1.Container{
			{Name: "c", Image: "one"}, {Name: "beside", Image: "same"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ObservedGeneration: 1, StartTime: new(second(0)),
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: second(2)}},
			ContainerStatuses: []corev1.ContainerStatus{runs("c", "id-1", "sha-1", 4, 1), runs("beside", "id-b", "sha-b", 9, 1)}},
	}
	for _, f := range change {
		f(pod)
	}
	from := corev1.PodTemplateSpec{Spec: *pod.Spec.DeepCopy()}
	ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: *from.DeepCopy()}}
	ds.Spec.Template.Spec.Containers[0].Image = "two"
	patch, err := ChangeInPlace(pod, &from, ds, "new", second(100).Time)
	if err != nil {
		t.Fatal(err)
	}
	spec := pod.Spec.DeepCopy()
	if err := apply(pod, patch); err != nil {
		t.Fatal(err)
	}
	spec.Containers[0].Image = "two"
	if diff := cmp.Diff(spec, &pod.Spec); diff != "" {
		t.Fatal(diff)
	}
	return pod
}

// apply applies the patch to the pod as an API server would.
func apply(pod *corev1.Pod, patch []byte) error {
	var p struct {
		Metadata struct{ Labels, Annotations map[string]*string }
		Spec     struct{ Containers []corev1.Container }
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return err
	}
	pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = *p.Metadata.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	pod.Annotations = map[string]string{ChangedAnnotation: *p.Metadata.Annotations[ChangedAnnotation]}
	for _, c := range p.Spec.Containers {
		for i := range pod.Spec.Containers {
			if pod.Spec.Containers[i].Name == c.Name {
				pod.Spec.Containers[i].Image = c.Image
			}
		}
	}
	pod.Generation++
	return nil
}

func runs(name, id, image string, restarts int32, since int64) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, ContainerID: id, ImageID: image, RestartCount: restarts, Ready: true,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: second(since)}}}
}

func waits(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
}

func observed(p *corev1.Pod) { p.Status.ObservedGeneration = p.Generation }

// is replaces the status of the container.
func is(status corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses[0] = status }
}

func readyIs(status corev1.ConditionStatus, since int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions[0].Status, p.Status.Conditions[0].LastTransitionTime = status, second(since)
	}
}

func probedBy(p *corev1.Pod) {
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{InitialDelaySeconds: 3, PeriodSeconds: 2, TimeoutSeconds: 1}
}

func startsBy(p *corev1.Pod) {
	p.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 10, TimeoutSeconds: 1}
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 1}
}

// Each case is what a kubelet has written at some time during a change, and what can be known from it.
func TestChangedInPlace(t *testing.T) {
	type known struct {
		Ready, Changing, Stuck, WasReady, Unchangeable bool
		Settles                                        time.Duration
		Since                                          int64 // the second of ReadySince; 0: not ready
		Restarts                                       uint8
	}
	two := runs("c", "id-2", "sha-2", 5, 110)
	for name, c := range map[string]struct {
		before, after []func(*corev1.Pod)
		want          known
	}{
		"not observed": {nil, nil, known{Ready: true, Changing: true, Unchangeable: true, Since: 2}},
		"the window: observed, Ready, and it is the old container": {nil, []func(*corev1.Pod){observed},
			known{Ready: true, Changing: true, Unchangeable: true, Since: 2}},
		"without a probe: it runs, and Ready has not turned": {nil, []func(*corev1.Pod){observed, is(two)},
			known{Ready: true, Since: 110}},
		"a probe, and Ready has not turned: the new container passes for what the old one was": {[]func(*corev1.Pod){probedBy}, []func(*corev1.Pod){observed, is(two)},
			known{Ready: true, Changing: true, Settles: 11 * time.Second, Since: 110}},
		"a probe, which has not passed": {[]func(*corev1.Pod){probedBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionFalse, 110)},
			known{}},
		"a probe, which has passed": {[]func(*corev1.Pod){probedBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionTrue, 112)},
			known{Ready: true, Since: 112}},
		"a probe, which has passed in the second of the start": {[]func(*corev1.Pod){probedBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionTrue, 110)},
			known{Ready: true, Since: 110}},
		"a startup probe: the other probe has passed before it was run, and it will be": {[]func(*corev1.Pod){startsBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionTrue, 111)},
			known{Ready: true, Changing: true, Settles: 16 * time.Second, Since: 111}},
		"a startup probe, which has begun: what was ready is not for a moment, and has lost nothing": {[]func(*corev1.Pod){startsBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionFalse, 118)},
			known{}},
		"a startup probe, which has passed": {[]func(*corev1.Pod){startsBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionTrue, 122)},
			known{Ready: true, Since: 122}},
		"it has ceased to be ready": {[]func(*corev1.Pod){probedBy}, []func(*corev1.Pod){observed, is(two), readyIs(corev1.ConditionFalse, 150)},
			known{WasReady: true}},
		"another container of the same image": {nil, []func(*corev1.Pod){observed, is(runs("c", "id-2", "sha-1", 5, 110))},
			known{Ready: true, Changing: true, Settles: 15 * time.Second, Since: 110}},
		"the new image cannot be pulled": {nil, []func(*corev1.Pod){observed, waits("ErrImagePull"), readyIs(corev1.ConditionFalse, 110)},
			known{Changing: true, Unchangeable: true}},
		"nor ever": {nil, []func(*corev1.Pod){observed, waits("InvalidImageName"), readyIs(corev1.ConditionFalse, 110)},
			known{Changing: true, Stuck: true, Unchangeable: true}},
		"nor could the old one, which its status may still be about": {[]func(*corev1.Pod){waits("InvalidImageName"), readyIs(corev1.ConditionFalse, 50)},
			[]func(*corev1.Pod){observed}, known{Changing: true, Unchangeable: true}},
		"the new container starts again and again": {nil, []func(*corev1.Pod){observed, is(runs("c", "id-5", "sha-2", 8, 140)), readyIs(corev1.ConditionTrue, 141)},
			known{Ready: true, Since: 141, Restarts: 3}},
		"it waits to start again, after one that was not the one before": {nil, []func(*corev1.Pod){observed, is(runs("c", "id-5", "sha-2", 8, 140)), waits("CrashLoopBackOff"), readyIs(corev1.ConditionFalse, 141)},
			known{Changing: true, Restarts: 3}},
		"so does one that may be the one before, started again": {nil, []func(*corev1.Pod){observed, is(runs("c", "id-5", "sha-1", 5, 140)), waits("CrashLoopBackOff"), readyIs(corev1.ConditionFalse, 141)},
			known{Changing: true, Unchangeable: true}},
		"another container of the same image, which is not ready": {nil, []func(*corev1.Pod){observed, is(runs("c", "id-2", "sha-1", 5, 110)), readyIs(corev1.ConditionFalse, 110)},
			known{Unchangeable: true}},
		"no container of it is known": {nil, []func(*corev1.Pod){observed, func(p *corev1.Pod) { p.Status.ContainerStatuses = p.Status.ContainerStatuses[1:] }},
			known{Ready: true, Changing: true, Unchangeable: true, Since: 2}},
		"the one beside it cannot live with it": {nil, []func(*corev1.Pod){observed, is(two), func(p *corev1.Pod) { p.Status.ContainerStatuses[1].RestartCount = 13 }},
			known{Ready: true, Since: 110, Restarts: 4}},
		"the one beside it will not start again": {nil, []func(*corev1.Pod){observed, is(two), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[1].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError"}}
		}, readyIs(corev1.ConditionFalse, 110)}, known{Stuck: true}},
		"a kubelet that does not say what it has observed": {nil, []func(*corev1.Pod){is(two), func(p *corev1.Pod) { p.Status.ObservedGeneration = 0 }},
			known{Ready: true, Since: 110}},
		"a status from before the change": {[]func(*corev1.Pod){func(p *corev1.Pod) { p.Generation = 1 }}, []func(*corev1.Pod){is(two)},
			known{Ready: true, Changing: true, Unchangeable: true, Since: 2}},
		"somebody has given it another label": {nil, []func(*corev1.Pod){func(p *corev1.Pod) { p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "third" }},
			known{Ready: true, Changing: true, Unchangeable: true, Since: 2}},
		"somebody has given it another label when it was through": {nil, []func(*corev1.Pod){observed, is(two), func(p *corev1.Pod) { p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "third" }},
			known{Ready: true, Unchangeable: true, Since: 110}},
		"the record cannot be read": {nil, []func(*corev1.Pod){observed, func(p *corev1.Pod) { p.Annotations[ChangedAnnotation] = "{" }},
			known{Ready: true, Unchangeable: true, Since: 2, Restarts: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := changedPod(t, c.before...)
			for _, f := range c.after {
				f(pod)
			}
			got := Pod(pod)
			is := known{got.Ready, got.Changing, got.Stuck, got.WasReady, got.Unchangeable, got.Settles, 0, got.Restarts}
			if got.Ready {
				is.Since = got.ReadySince.Unix() - 1_000_000
			}
			if diff := cmp.Diff(c.want, is); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if at := second(100).Time; !got.Changed.Equal(at) && name != "the record cannot be read" {
				t.Errorf("it was changed at %v, want %v", got.Changed, at)
			}
		})
	}
	if diff := cmp.Diff(plan.Pod{}.Changed, Pod(&corev1.Pod{}).Changed); diff != "" {
		t.Error(diff)
	}
}

// A kubelet ends changed containers one after the other, so each may take as long as all of them together.
func TestContainersEndInTurn(t *testing.T) {
	for grace, want := range map[*int64]int64{nil: 2*30 + 10, new(int64(5)): 2*5 + 10} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: grace, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}, {Name: "c"}}}}
		c := recordOf(pod, map[string]string{"a": "two", "c": "two"}, "new", second(0).Time)
		if len(c.Containers) != 2 || c.Containers[0].Ends != want || c.Containers[1].Ends != want {
			t.Errorf("they are %+v, want each to end within %d seconds", c.Containers, want)
		}
	}
}
