package view

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
)

// daemonSet returns a plain DaemonSet, as the API server returns it.
func daemonSet() *appsv1.DaemonSet {
	one := intstr.FromInt32(1)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: "agent", Namespace: "default", UID: "set-uid", Generation: 3,
			Annotations: map[string]string{appsv1.DeprecatedTemplateGeneration: "3"},
		},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "agent", Image: "busybox:1.36"}},
				},
			},
			MinReadySeconds: 5,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one},
			},
		},
	}
}

func TestSpec(t *testing.T) {
	ds := daemonSet()
	ds.Spec.Template.Spec.NodeSelector = map[string]string{"ssd": "true"}
	got := Spec(ds, "abc")
	want := plan.Spec{
		Placement:      plan.Placement{Selector: map[string]string{"ssd": "true"}, Tolerations: got.Placement.Tolerations},
		MaxUnavailable: plan.Amount{Value: 1},
		MinReady:       5 * time.Second,
		Hash:           "abc",
		Generation:     3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if n := len(got.Placement.Tolerations); n != 6 {
		t.Errorf("%d tolerations, want the 6 that every daemon pod gets", n)
	}
	got.Placement.Selector["ssd"] = "changed"
	if ds.Spec.Template.Spec.NodeSelector["ssd"] != "true" {
		t.Error("the spec shares the node selector with the object")
	}
}

func TestSpecStrategy(t *testing.T) {
	percent, number := intstr.FromString("34%"), intstr.FromInt32(2)
	ds := daemonSet()
	ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &number, MaxSurge: &percent}
	got := Spec(ds, "")
	if (got.MaxUnavailable != plan.Amount{Value: 2}) || (got.MaxSurge != plan.Amount{Value: 34, Percent: true}) {
		t.Errorf("amounts: %+v, %+v", got.MaxUnavailable, got.MaxSurge)
	}
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	if got := Spec(ds, ""); got.Strategy != plan.OnDelete || got.Halt != plan.NoReason {
		t.Errorf("OnDelete: %+v", got)
	}
	half, bad := intstr.FromString("50%"), intstr.FromString("some")
	ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &half, MaxSurge: &bad}
	if got := Spec(ds, ""); got.MaxUnavailable != (plan.Amount{Value: 50, Percent: true}) || got.MaxSurge != (plan.Amount{}) || got.Halt != plan.NoReason {
		t.Errorf("OnDelete, with amounts for a policy: %+v", got)
	}
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{}
	if got := Spec(ds, ""); got.Strategy != plan.RollingUpdate || got.Halt != plan.NoReason {
		t.Errorf("the default: %+v", got)
	}
}

// A field that cannot be read halts the DaemonSet, with the reason.
func TestSpecHalts(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*appsv1.DaemonSet)
		halt   plan.Reason
		detail string
	}{
		"deleted": {func(ds *appsv1.DaemonSet) { ds.DeletionTimestamp = &metav1.Time{} }, plan.SetDeleted, ""},
		"selects all": {func(ds *appsv1.DaemonSet) { ds.Spec.Selector = &metav1.LabelSelector{} },
			plan.SelectsAll, ""},
		"no selector": {func(ds *appsv1.DaemonSet) { ds.Spec.Selector = nil },
			plan.InvalidSpec, "spec.selector does not match"},
		"bad selector": {func(ds *appsv1.DaemonSet) {
			ds.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
		}, plan.InvalidSpec, `spec.selector: "Near" is not a valid`},
		"other labels": {func(ds *appsv1.DaemonSet) { ds.Spec.Template.Labels = nil },
			plan.InvalidSpec, "spec.selector does not match"},
		"strategy": {func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = "Sometimes" },
			plan.InvalidSpec, `type "Sometimes" is neither`},
		"no number": {func(ds *appsv1.DaemonSet) {
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &intstr.IntOrString{Type: intstr.String, StrVal: "1"}
		}, plan.InvalidSpec, `maxUnavailable "1" is neither`},
		"no percentage": {func(ds *appsv1.DaemonSet) {
			ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge = &intstr.IntOrString{Type: intstr.String, StrVal: "x%"}
		}, plan.InvalidSpec, `maxSurge "x%" is neither`},
		"negative": {func(ds *appsv1.DaemonSet) {
			ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &intstr.IntOrString{IntVal: -1}
		}, plan.InvalidSpec, "maxUnavailable -1 is out of range"},
	} {
		ds := daemonSet()
		c.edit(ds)
		got := Spec(ds, "")
		if got.Halt != c.halt || !strings.Contains(got.HaltDetail, c.detail) || (c.detail == "") != (got.HaltDetail == "") {
			t.Errorf("%s: halts with %v %q, want %v %q", name, got.Halt, got.HaltDetail, c.halt, c.detail)
		}
	}
}

func at(seconds int) metav1.Time { return metav1.Unix(int64(seconds), 0) }

func TestNode(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", Labels: map[string]string{"a": "b"}, CreationTimestamp: at(10)},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule},
			{Key: "p", Effect: corev1.TaintEffectPreferNoSchedule},
			{Key: "x", Effect: "Unheard"},
			{Key: "e", Effect: corev1.TaintEffectNoExecute},
		}},
	}
	want := plan.Node{Name: "n", UID: "u", Labels: map[string]string{"a": "b"}, ReadyChanged: at(10).Time, NeverReady: true, Taints: []plan.Taint{
		{Key: "k", Value: "v", Effect: plan.NoSchedule},
		{Key: "p", Effect: plan.PreferNoSchedule},
		{Key: "e", Effect: plan.NoExecute},
	}}
	if diff := cmp.Diff(want, Node(n)); diff != "" {
		t.Errorf("a node without conditions (-want +got):\n%s", diff)
	}
	n.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue, LastTransitionTime: at(5)},
		{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: at(20)},
	}
	if got := Node(n); got.Ready || !got.ReadyChanged.Equal(at(20).Time) {
		t.Errorf("unknown: %+v", got)
	}
	n.Status.Conditions[1].Status = corev1.ConditionTrue
	got := Node(n)
	if !got.Ready {
		t.Errorf("ready: %+v", got)
	}
	got.Labels["a"] = "changed"
	if n.Labels["a"] != "b" {
		t.Error("the copy shares its labels with the object")
	}
}

// A node has never been Ready if its kubelet said so when it registered, by whatever
// clock, and has said nothing else since. Where nobody can tell, it may have been.
func TestNeverReady(t *testing.T) {
	const minute = 60
	for name, c := range map[string]struct {
		status                corev1.ConditionStatus
		created, since, other int // in seconds; other -1: no other condition
		never                 bool
	}{
		"by one clock":                         {corev1.ConditionFalse, 100, 104, -1, true},
		"nobody knows":                         {corev1.ConditionUnknown, 100, 104, -1, true},
		"later":                                {corev1.ConditionFalse, 100, 106, -1, false},
		"its clock is ahead":                   {corev1.ConditionFalse, 100, 100 + 10*minute, 99 + 10*minute, true},
		"its clock is behind":                  {corev1.ConditionFalse, 20 * minute, 10 * minute, 10 * minute, true},
		"it was Ready in between":              {corev1.ConditionFalse, 100, 100 + 10*minute, 90 + 10*minute, false},
		"it came back after hours":             {corev1.ConditionFalse, 100, 300 * minute, 300 * minute, false},
		"the node controller has written that": {corev1.ConditionUnknown, 100, 100 + 2*minute, 100 + 2*minute, false},
		"it is Ready":                          {corev1.ConditionTrue, 100, 100, 100, false},
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: at(c.created)}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: c.status, LastTransitionTime: at(c.since)}}
		if c.other >= 0 {
			n.Status.Conditions = append([]corev1.NodeCondition{
				{Type: corev1.NodeNetworkUnavailable, LastTransitionTime: at(c.since)},
				{Type: corev1.NodeDiskPressure, LastTransitionTime: at(c.since + 50)},
				{Type: corev1.NodeMemoryPressure, LastTransitionTime: at(c.other)}}, n.Status.Conditions...)
		}
		if got := Node(n).NeverReady; got != c.never {
			t.Errorf("%s: never %v, want %v", name, got, c.never)
		}
	}
}

func readyPod(status corev1.ConditionStatus, seconds int) *corev1.Pod {
	start := at(100)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", CreationTimestamp: at(99), Labels: map[string]string{
			appsv1.DefaultDaemonSetUniqueLabelKey: "abc", "pod-template-generation": "3",
		}},
		Spec: corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: corev1.PodReady, Status: status, LastTransitionTime: at(seconds)},
		}},
	}
}

func TestPod(t *testing.T) {
	want := plan.Pod{Name: "p", UID: "u", Node: "n", Bound: true, Hash: "abc", Generation: 3, Phase: plan.Running,
		Created: at(99).Time, Ready: true, ReadySince: at(130).Time}
	if diff := cmp.Diff(want, Pod(readyPod(corev1.ConditionTrue, 130))); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	if got := Pod(readyPod(corev1.ConditionFalse, 102)); got.Ready || got.WasReady || !got.ReadySince.IsZero() {
		t.Errorf("starting: %+v", got)
	}
	if got := Pod(readyPod(corev1.ConditionFalse, 103)); got.Ready || !got.WasReady {
		t.Errorf("no longer ready: %+v", got)
	}
	p := readyPod(corev1.ConditionFalse, 103)
	p.Status.StartTime = nil
	if got := Pod(p); got.WasReady {
		t.Errorf("not started: %+v", got)
	}
	p.Status.Conditions = nil
	if got := Pod(p); got.Ready || got.WasReady {
		t.Errorf("no conditions: %+v", got)
	}
}

func TestPodDeletion(t *testing.T) {
	p := readyPod(corev1.ConditionTrue, 130)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr(at(230)), ptr(int64(30))
	if got := Pod(p); !got.Deleted.Equal(at(200).Time) || got.Forced {
		t.Errorf("asked for at %v (forced %v), want at 200 s", got.Deleted, got.Forced)
	}
	p.DeletionGracePeriodSeconds = ptr(int64(0))
	if got := Pod(p); !got.Deleted.Equal(at(230).Time) || !got.Forced {
		t.Errorf("forced: %+v", got)
	}
	p.DeletionGracePeriodSeconds = nil
	if got := Pod(p); !got.Deleted.Equal(at(230).Time) || got.Forced {
		t.Errorf("without a grace period: %+v", got)
	}
}

func ptr[T any](v T) *T { return &v }

func TestPodPhase(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]plan.Phase{
		"": plan.Pending, corev1.PodPending: plan.Pending, corev1.PodRunning: plan.Running,
		corev1.PodUnknown: plan.Running, corev1.PodSucceeded: plan.Succeeded, corev1.PodFailed: plan.Failed,
	} {
		if got := Pod(&corev1.Pod{Status: corev1.PodStatus{Phase: phase}}).Phase; got != want {
			t.Errorf("%q is %v, want %v", phase, got, want)
		}
	}
	for reason, want := range map[string]bool{
		"OutOfcpu": true, "OutOfpods": true, "OutOfnvidia.com/gpu": true, "NodePorts": true,
		"Evicted": false, "": false,
	} {
		status := corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason}
		if got := Pod(&corev1.Pod{Status: status}).Refused; got != want {
			t.Errorf("%q: refused %v, want %v", reason, got, want)
		}
		status.Phase = corev1.PodRunning
		if Pod(&corev1.Pod{Status: status}).Refused {
			t.Errorf("%q: a running pod counts as refused", reason)
		}
	}
}

func TestPodGenerationIsComparedLetterByLetter(t *testing.T) {
	for label, want := range map[string]int64{"3": 3, "03": 0, "+3": 0, "x": 0, "": 0} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"pod-template-generation": label}}}
		if got := Pod(p).Generation; got != want {
			t.Errorf("%q is %d, want %d", label, got, want)
		}
	}
}

func TestTargetNode(t *testing.T) {
	field := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	for name, c := range map[string]struct {
		terms []corev1.NodeSelectorTerm
		want  string
	}{
		"none":       {nil, ""},
		"one":        {[]corev1.NodeSelectorTerm{{}, field("metadata.name", "In", "n")}, "n"},
		"two values": {[]corev1.NodeSelectorTerm{field("metadata.name", "In", "n", "m")}, ""},
		"not in":     {[]corev1.NodeSelectorTerm{field("metadata.name", "NotIn", "n")}, ""},
		"other":      {[]corev1.NodeSelectorTerm{field("metadata.uid", "In", "n")}, ""},
	} {
		p := &corev1.Pod{}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: c.terms}}}
		if got := TargetNode(p); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := Pod(&corev1.Pod{}); got.Node != "" || got.Bound {
		t.Errorf("a pod that names no node: %+v", got)
	}
}

func TestStatus(t *testing.T) {
	ds := daemonSet()
	ds.Generation = 10
	ds.Status = appsv1.DaemonSetStatus{ObservedGeneration: 9, NumberReady: 7, CollisionCount: ptr(int32(2)),
		Conditions: []appsv1.DaemonSetCondition{{Type: "Foreign"}}}
	got := Status(ds, plan.Status{Desired: 1, Current: 2, Misscheduled: 3, Ready: 4, Updated: 5, Available: 6, Unavailable: 7}, 8)
	want := appsv1.DaemonSetStatus{
		DesiredNumberScheduled: 1, CurrentNumberScheduled: 2, NumberMisscheduled: 3, NumberReady: 4,
		UpdatedNumberScheduled: 5, NumberAvailable: 6, NumberUnavailable: 7,
		ObservedGeneration: 9, CollisionCount: ptr(int32(2)), Conditions: []appsv1.DaemonSetCondition{{Type: "Foreign"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if got := Status(ds, plan.Status{}, 10); got.ObservedGeneration != 10 {
		t.Errorf("observedGeneration is %d", got.ObservedGeneration)
	}
	ahead := ds.DeepCopy()
	ahead.Status.ObservedGeneration = 999
	if got := Status(ahead, plan.Status{}, 10); got.ObservedGeneration != 10 {
		t.Errorf("observedGeneration is %d: a later template would count as observed", got.ObservedGeneration)
	}
	got.Conditions[0].Type = "Changed"
	if ds.Status.Conditions[0].Type != "Foreign" {
		t.Error("the status shares its conditions with the object")
	}
}

func TestPodStarts(t *testing.T) {
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	for name, c := range map[string]struct {
		status   corev1.PodStatus
		restarts uint8
		stuck    bool
	}{
		"nothing":           {},
		"the most often":    {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{RestartCount: 2}, {RestartCount: 7}, {}}}, 7, false},
		"more than a byte":  {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{RestartCount: 1000}}}, 255, false},
		"init containers":   {corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{RestartCount: 3, State: waiting("InvalidImageName")}}}, 3, true},
		"no such secret":    {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: waiting("CreateContainerConfigError")}}}, 0, true},
		"may never pull":    {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ErrImageNeverPull")}}}, 0, true},
		"a pull that fails": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ImagePullBackOff")}}}, 0, false},
	} {
		got := Pod(&corev1.Pod{Status: c.status})
		if got.Restarts != c.restarts || got.Stuck != c.stuck {
			t.Errorf("%s: %d restarts, stuck %v", name, got.Restarts, got.Stuck)
		}
	}
}

func TestNodeLeaves(t *testing.T) {
	for condition, want := range map[corev1.NodeConditionType]bool{"DrainInProgress": true, "GracefulNodeShutdownInProgress": true, "MaintenanceInProgress": true, "DiskPressure": false} {
		for status, is := range map[corev1.ConditionStatus]bool{corev1.ConditionTrue: true, corev1.ConditionFalse: false} {
			n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: condition, Status: status}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
			if got := Node(n); got.Leaving != (want && is) || !got.Ready {
				t.Errorf("%s %s: leaving %v, ready %v", condition, status, got.Leaving, got.Ready)
			}
		}
	}
}
