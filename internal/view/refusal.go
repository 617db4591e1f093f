package view

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// refused reports whether a kubelet did not admit the pod, for a reason that another
// decision about its place could have avoided: waiting until the node has room for it,
// as a scheduler does.
//
// The reasons are those of kubelet 1.37.2. The reasons that are not here come again
// wherever and whenever the pod is placed, because they depend only on the pod and the
// node: PodOSNotSupported, PodOSSelectorNodeLabelDoesNotMatch, SysctlForbidden,
// AppArmor, SupplementalGroupsPolicyNotSupported, PodLevelResourcesNotSupported,
// InitContainerRestartPolicyForbidden, SMTAlignmentError, EmptyPodSharedPoolError. Or
// they are about a kubelet in trouble, which does not matter to the scheduler either,
// because DaemonSet pods tolerate it: Evicted, NodeShutdown, InvalidNodeInfo.
func refused(s *corev1.PodStatus) bool {
	return s.Phase == corev1.PodFailed && (strings.HasPrefix(s.Reason, outOf) || placeable()[s.Reason])
}

// outOf is the prefix of the reasons for a resource that is used up; the resource's
// name follows (pkg/kubelet/lifecycle/predicate.go).
const outOf = "OutOf"

func placeable() map[string]bool {
	return map[string]bool{
		// The scheduler's own filters, which the kubelet runs again
		// (predicate.go, pkg/scheduler/eventhandlers.go).
		"NodePorts":       true,
		"NodeAffinity":    true,
		"NodeName":        true,
		"TaintToleration": true,
		// The same from kubelets before 1.22 and before 1.11.
		"PodFitsHostPorts":  true,
		"MatchNodeSelector": true,
		"HostName":          true,
		// A feature that the node does not declare (lifecycle/handlers.go): the
		// scheduler waits for a node that declares it.
		"PodFeatureUnsupported": true,
		// Devices that are in use or missing (lifecycle/predicate.go,
		// cm/admission/errors.go), and those that exist but cannot be combined on one
		// NUMA node (cm/topologymanager).
		"UnexpectedAdmissionError": true,
		"TopologyAffinityError":    true,
		// Detected when volumes are attached (volumemanager).
		"VolumeAttachmentLimitExceeded": true,
		// The pod had to make room for a critical pod (preemption/preemption.go).
		"Preempting": true,
	}
}
