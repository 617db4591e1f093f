package view

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"
)

// Each reason in upstream's code is classified correctly. Reasons whose names are not
// exported, or are in packages that pull in a whole kubelet, are spelled out.
func TestRefusals(t *testing.T) {
	for reason, want := range map[string]bool{
		lifecycle.OutOfCPU: true, lifecycle.OutOfMemory: true, lifecycle.OutOfPods: true, lifecycle.OutOfEphemeralStorage: true,
		lifecycle.InsufficientResourcePrefix + "nvidia.com/gpu": true, lifecycle.InsufficientResourcePrefix + "hugepages-2Mi": true,
		nodeaffinity.Name: true, nodename.Name: true, nodeports.Name: true, tainttoleration.Name: true,
		lifecycle.PodFeatureUnsupported: true, lifecycle.UnexpectedAdmissionError: true,
		"TopologyAffinityError": true, "VolumeAttachmentLimitExceeded": true, "Preempting": true,

		lifecycle.PodOSNotSupported: false, lifecycle.PodOSSelectorNodeLabelDoesNotMatch: false,
		lifecycle.SupplementalGroupsPolicyNotSupported: false, lifecycle.AppArmorNotAdmittedReason: false,
		lifecycle.PodLevelResourcesNotAdmittedReason: false, lifecycle.InitContainerRestartPolicyForbidden: false,
		lifecycle.InvalidNodeInfo: false, lifecycle.UnknownReason: false, lifecycle.UnexpectedPredicateFailureType: false,
		"SysctlForbidden": false, "SMTAlignmentError": false, "EmptyPodSharedPoolError": false,
		"Evicted": false, "NodeShutdown": false, "DeadlineExceeded": false, "": false,
	} {
		for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodRunning, corev1.PodPending} {
			p := &corev1.Pod{Status: corev1.PodStatus{Phase: phase, Reason: reason}}
			if got := Pod(p).Refused; got != (want && phase == corev1.PodFailed) {
				t.Errorf("%s, %q: refused %v", phase, reason, got)
			}
		}
	}
}

// nothingHelps is an admission failure handler that preempts no pod.
type nothingHelps struct{}

func (nothingHelps) HandleAdmissionFailure(_ context.Context, _ *corev1.Pod, why []lifecycle.PredicateFailureReason, _ lifecycle.Operation) ([]lifecycle.PredicateFailureReason, error) {
	return why, nil
}

// A real kubelet's admission and this package agree on who checks what. Pods that the
// kubelet admits although the node cannot run them are never bound by us; pods that it
// refuses go to the scheduler next.
func TestKubeletAgrees(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelOSStable: "linux"}},
		Status: corev1.NodeStatus{Allocatable: quantities("cpu", "2", "memory", "1Gi", "pods", "10")}}
	stray := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "stray", Namespace: "default", Labels: map[string]string{"app": "other"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 9100, Protocol: corev1.ProtocolTCP}}}}}}
	kubelet := lifecycle.NewPredicateAdmitHandler(func(context.Context, bool) (*corev1.Node, error) { return node, nil }, nothingHelps{},
		func(*schedulerframework.NodeInfo, *lifecycle.PodAdmitAttributes) error { return nil })
	admits := func(spec corev1.PodSpec) lifecycle.PodAdmitResult {
		spec.NodeName = "n1"
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "default"}, Spec: spec}
		return kubelet.Admit(t.Context(), &lifecycle.PodAdmitAttributes{Pod: p, OtherPods: []*corev1.Pod{stray}})
	}
	asks := func(pairs ...string) []corev1.Container { return []corev1.Container{{Resources: requests(pairs...)}} }
	for name, spec := range map[string]corev1.PodSpec{
		"a device": {Containers: asks("example.com/gpu", "1")},
		"anti-affinity": {Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: neighbours()}}},
		"another scheduler": {SchedulerName: "volcano"},
		"a free port":       {Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 9101, Protocol: corev1.ProtocolTCP}}}}},
	} {
		ds := daemonSet()
		ds.Spec.Template.Spec = spec
		if r := admits(spec); !r.Admit {
			t.Errorf("%s: the kubelet refuses it (%s), so it could be bound", name, r.Reason)
		}
		if !Spec(ds, "").Scheduled {
			t.Errorf("%s: bound past the scheduler, and the kubelet does not look", name)
		}
	}
	// The scheduler's view of a node from which a pod was removed that was refused
	// because of its port: the port of the other pod is removed with it.
	seen := schedulerframework.NewNodeInfo(stray)
	twin := stray.DeepCopy()
	twin.Name, twin.UID = "twin", "twin"
	seen.AddPod(twin)
	if err := seen.RemovePod(klog.Background(), twin); err != nil || seen.UsedPorts.Len() != 0 {
		t.Errorf("the scheduler counts who has a port (%v, %v): who binds pods with host ports can be decided again", seen.UsedPorts, err)
	}
	for name, spec := range map[string]corev1.PodSpec{
		"room":       {Containers: asks("cpu", "3")},
		"huge pages": {Containers: asks("hugepages-2Mi", "2Mi")},
		"a label":    {NodeSelector: map[string]string{"pool": "blue"}},
	} {
		ds := daemonSet()
		ds.Spec.Template.Spec = spec
		if Spec(ds, "").Scheduled {
			t.Errorf("%s: left to the scheduler from the start", name)
		}
		r := admits(spec)
		if p := (&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: r.Reason}}); r.Admit || !Pod(p).Refused {
			t.Errorf("%s: admitted %v, reason %q: the next pod is bound by us again", name, r.Admit, r.Reason)
		}
	}
}
