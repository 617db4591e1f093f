package view

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// refused reports whether a kubelet did not admit the pod, for a reason that another
// decision about its place could have avoided: by waiting until the node takes
// it, as a scheduler does.
//
// The reasons are those of kubelet 1.37.2. Those that are not here are about the
// pod and the node as they are, and would come again wherever and whenever it is
// placed: PodOSNotSupported, PodOSSelectorNodeLabelDoesNotMatch, SysctlForbidden,
// AppArmor, SupplementalGroupsPolicyNotSupported, PodLevelResourcesNotSupported,
// InitContainerRestartPolicyForbidden, SMTAlignmentError, EmptyPodSharedPoolError;
// or about a kubelet in trouble, which the scheduler does not see either, since
// daemon pods tolerate it: Evicted, NodeShutdown, InvalidNodeInfo.
func refused(s *corev1.PodStatus) bool {
	return s.Phase == corev1.PodFailed && (strings.HasPrefix(s.Reason, outOf) || placeable()[s.Reason])
}

// outOf begins the reasons for a resource that is used up; its name follows
// (pkg/kubelet/lifecycle/predicate.go).
const outOf = "OutOf"

func placeable() map[string]bool {
	return map[string]bool{
		// The scheduler's own filters, which the kubelet runs again
		// (predicate.go, pkg/scheduler/eventhandlers.go).
		"NodePorts":       true,
		"NodeAffinity":    true,
		"NodeName":        true,
		"TaintToleration": true,
		// The same from kubelets before 1.22 and 1.11.
		"PodFitsHostPorts":  true,
		"MatchNodeSelector": true,
		"HostName":          true,
		// A feature that the node does not declare (lifecycle/handlers.go): the
		// scheduler waits for a node that does.
		"PodFeatureUnsupported": true,
		// Devices that are taken, or not there (lifecycle/predicate.go,
		// cm/admission/errors.go), and those that are there, but not side by
		// side (cm/topologymanager).
		"UnexpectedAdmissionError": true,
		"TopologyAffinityError":    true,
		// Found out when volumes are attached (volumemanager).
		"VolumeAttachmentLimitExceeded": true,
		// It had to make room for a critical pod (preemption/preemption.go).
		"Preempting": true,
	}
}
