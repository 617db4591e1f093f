package view

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status returns the status of a container named main.
func status(change func(*corev1.ContainerStatus)) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: "main", Image: "docker.io/library/resolved:1"}
	change(&s)
	return s
}

func waitsFor(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func ended(reason string, code int32, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, Message: message}}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

// The statuses are those that kubelet 1.37.2 writes; e2e/testdata/why.txtar checks them
// on real nodes.
func TestCauseOf(t *testing.T) {
	for what, c := range map[string]struct {
		init, main corev1.ContainerStatus
		pod        corev1.PodStatus
		want       string
		hints      bool
	}{
		"an image that is not there": {
			main: status(func(s *corev1.ContainerStatus) {
				s.State = waitsFor("ErrImagePull", "failed to pull:\n  no such host")
			}),
			want: "ErrImagePull busybox:9.9 (container main): failed to pull: no such host",
		},
		"a crash loop": {
			main: status(func(s *corev1.ContainerStatus) {
				s.RestartCount, s.State = 2, waitsFor("CrashLoopBackOff", "back-off 20s restarting failed container=main")
				s.LastTerminationState = ended("Error", 3, "no configuration")
			}),
			want: "CrashLoopBackOff (container main, exit code 3, 2 restarts): no configuration",
		},
		"out of memory": {
			main: status(func(s *corev1.ContainerStatus) {
				s.RestartCount, s.State = 1, waitsFor("CrashLoopBackOff", "back-off")
				s.LastTerminationState = ended("OOMKilled", 137, "")
			}),
			want: "CrashLoopBackOff (container main, OOMKilled, exit code 137, 1 restart)",
		},
		"ended just now": {
			main: status(func(s *corev1.ContainerStatus) { s.State = ended("Error", 1, "") }),
			want: "Error (container main, exit code 1)",
		},
		"killed, perhaps by a probe": {
			main: status(func(s *corev1.ContainerStatus) {
				s.RestartCount, s.State = 1, waitsFor("CrashLoopBackOff", "back-off")
				s.LastTerminationState = ended("Error", 137, "")
			}),
			want: "CrashLoopBackOff (container main, exit code 137, 1 restart)", hints: true,
		},
		"an init container": {
			init: status(func(s *corev1.ContainerStatus) {
				s.Name, s.State, s.LastTerminationState = "prepare", waitsFor("CrashLoopBackOff", ""), ended("Error", 1, "")
			}),
			main: status(func(s *corev1.ContainerStatus) { s.State = waitsFor("PodInitializing", "") }),
			want: "CrashLoopBackOff (init container prepare, exit code 1)",
		},
		"an init container that is done is none": {
			init: status(func(s *corev1.ContainerStatus) { s.Name, s.State, s.Ready = "prepare", ended("Completed", 0, ""), true }),
			main: status(func(s *corev1.ContainerStatus) {
				s.State = waitsFor("CreateContainerConfigError", `configmap "x" not found`)
			}),
			want: `CreateContainerConfigError (container main): configmap "x" not found`,
		},
		"an init container that still runs": {
			init: status(func(s *corev1.ContainerStatus) {
				s.Name, s.RestartCount, s.State, s.LastTerminationState = "prepare", 1, running(), ended("Error", 1, "")
			}),
			main: status(func(s *corev1.ContainerStatus) { s.State = waitsFor("PodInitializing", "") }),
			want: "NotReady (init container prepare, exit code 1, 1 restart)", hints: true,
		},
		"it is being made": {
			main: status(func(s *corev1.ContainerStatus) { s.State = waitsFor("ContainerCreating", "") }),
			want: "ContainerCreating (container main)", hints: true,
		},
		"it runs and is not ready": {
			main: status(func(s *corev1.ContainerStatus) { s.State, s.Started = running(), ptr(true) }),
			want: "NotReady (container main)", hints: true,
		},
		"it runs and has not started": {
			main: status(func(s *corev1.ContainerStatus) { s.State, s.Started = running(), ptr(false) }),
			want: "NotStarted (container main)", hints: true,
		},
		"evicted": {
			pod:  corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."},
			want: "Evicted: The node was low on resource: memory.",
		},
		"a readiness gate": {
			main: status(func(s *corev1.ContainerStatus) { s.State, s.Ready = running(), true }),
			pod: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse,
				Reason: "ReadinessGatesNotReady", Message: `corresponding condition of pod readiness gate "a" does not exist.`}}},
			want: `ReadinessGatesNotReady: corresponding condition of pod readiness gate "a" does not exist.`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "main", Image: "busybox:9.9"}}}, Status: c.pod}
			if c.init.Name != "" {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{c.init}
			}
			if c.main.Name != "" {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{c.main}
			}
			got, hints := CauseOf(&p)
			if got.String() != c.want || hints != c.hints {
				t.Errorf("%q, hints %v; want %q, %v", got.String(), hints, c.want, c.hints)
			}
		})
	}
}

// The newest event about the pod that fits its state is the cause.
func TestCauseFromEvents(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event := func(uid, reason, message string, ago time.Duration) corev1.Event {
		return corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.NewTime(at.Add(-ago)),
			InvolvedObject: corev1.ObjectReference{UID: "1", FieldPath: uid}}
	}
	other := event("", "FailedMount", "of another pod", 0)
	other.InvolvedObject.UID = "2"
	normal := event("", "FailedMount", "not a warning", 0)
	normal.Type = corev1.EventTypeNormal
	events := []corev1.Event{
		other, normal,
		event("", "FailedScheduling", "0/3 nodes", 0),
		event("", "FailedMount", "old", time.Minute),
		event("", "FailedMount", `configmap "x" not found`, time.Second),
		event("spec.containers{main}", "Unhealthy", "Readiness probe failed: 500", time.Second),
		event("spec.containers{main}", "Unhealthy", "Startup probe failed: no such file", 2*time.Second),
		event("spec.containers{main}", "Unhealthy", "Liveness probe failed: timeout", 3*time.Second),
		event("spec.containers{other}", "Unhealthy", "Readiness probe failed: of another container", 0),
	}
	for _, c := range []struct {
		cause Cause
		want  string
	}{
		{Cause{Container: "main", Reason: "ContainerCreating"}, `FailedMount (container main): configmap "x" not found`},
		{Cause{}, `FailedMount: configmap "x" not found`},
		{Cause{Container: "main", Reason: NotReady}, "Unhealthy (container main): Readiness probe failed: 500"},
		{Cause{Container: "main", Reason: NotStarted, Restarts: 1}, "Unhealthy (container main, 1 restart): Startup probe failed: no such file"},
		{
			Cause{Container: "main", Reason: "CrashLoopBackOff", LastEnd: &End{Reason: "Error", ExitCode: 137}},
			"CrashLoopBackOff (container main, exit code 137): Startup probe failed: no such file",
		},
	} {
		got := c.cause
		got.FromEvents(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "1"}}, events)
		if got.String() != c.want {
			t.Errorf("%+v: %q, want %q", c.cause, got.String(), c.want)
		}
	}
}

// Trouble is a few words, which stay the same while nothing changes.
func TestTrouble(t *testing.T) {
	of := func(restarts int32, last, state corev1.ContainerState) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "ok", Ready: true, RestartCount: 1, LastTerminationState: ended("Error", 2, ""), State: running()},
			{Name: "app", RestartCount: restarts, LastTerminationState: last, State: state}}
	}
	var none corev1.ContainerState
	for what, c := range map[string]struct {
		init, main []corev1.ContainerStatus
		want       string
	}{
		"nothing":        {nil, nil, ""},
		"crashes":        {nil, of(7, ended("Error", 1, "long"), waitsFor("CrashLoopBackOff", "back-off 10s")), "CrashLoopBackOff (container app, exit code 1)"},
		"has no image":   {nil, of(0, none, waitsFor("ImagePullBackOff", "back-off 10s")), "ImagePullBackOff (container app)"},
		"is made":        {nil, of(0, none, waitsFor("ContainerCreating", "")), ""},
		"runs again":     {nil, of(1, ended("OOMKilled", 137, ""), running()), "Restarted (container app, OOMKilled, exit code 137)"},
		"cannot prepare": {of(0, none, ended("Error", 3, ""))[1:], of(0, none, waitsFor("PodInitializing", "")), "Error (init container app, exit code 3)"},
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: c.init, ContainerStatuses: c.main}}
		if got := Trouble(p); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if got := Trouble(p); got != "" {
			t.Errorf("%s, and ready: %q", what, got)
		}
		p.Status.Conditions, p.DeletionTimestamp = nil, &metav1.Time{Time: time.Unix(1, 0)}
		if got := Trouble(p); got != "" {
			t.Errorf("%s, and deleted: %q", what, got)
		}
	}
}
