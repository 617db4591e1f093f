package view

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
)

// Binder names the component that binds pods to their nodes.
type Binder string

// The binders. ByEngine binds the pods whose template alone decides where they
// may run; the scheduler still gets the others.
const (
	ByEngine    Binder = "engine"
	ByScheduler Binder = "scheduler"
)

// BindByAnnotation, on a DaemonSet, says who binds its pods. It overrides what the engine was started with,
// and it is not part of the template: changing it changes no pod.
const BindByAnnotation = "everynode.io/bind-by"

// ParseBinder parses the name of a binder.
func ParseBinder(s string) (Binder, error) {
	switch b := Binder(s); b {
	case ByEngine, ByScheduler:
		return b, nil
	}
	return "", fmt.Errorf("%q is neither %q nor %q", s, ByEngine, ByScheduler)
}

// Binding is what decides who binds the pods of a DaemonSet, besides the DaemonSet itself. The zero value
// knows no runtime classes.
type Binding struct {
	// Default is who binds pods where no annotation says it; empty: the engine.
	Default Binder
	// Plain is the set of runtime classes that are known not to restrict the choice of nodes.
	Plain map[string]bool
}

// Scheduled returns whether the scheduler must bind the pods. The error is about the annotation. With an
// error the scheduler gets the pods, because it can bind any pod.
func (b Binding) Scheduled(ds *appsv1.DaemonSet) (bool, error) {
	by := b.Default
	if said, ok := ds.Annotations[BindByAnnotation]; ok {
		var err error
		if by, err = ParseBinder(said); err != nil {
			return true, fmt.Errorf("annotation %s: %w; the scheduler binds the pods", BindByAnnotation, err)
		}
	}
	return by == ByScheduler || b.onlyScheduler(&ds.Spec.Template.Spec), nil
}

// RuntimeClass returns the name of the runtime class that the pods ask for; empty if they ask for none.
func RuntimeClass(ds *appsv1.DaemonSet) string {
	if name := ds.Spec.Template.Spec.RuntimeClassName; name != nil {
		return *name
	}
	return ""
}

// PlainClass reports whether a runtime class adds nothing to a pod that matters to its placement: no node
// selector, no tolerations, no overhead, which only the scheduler accounts for.
func PlainClass(c *nodev1.RuntimeClass) bool {
	rules := c.Scheduling != nil && len(c.Scheduling.NodeSelector)+len(c.Scheduling.Tolerations) > 0
	return !rules && (c.Overhead == nil || !extended(c.Overhead.PodFixed))
}

// onlyScheduler reports whether finding a place for such a pod takes more than the template and the node:
// other pods, devices, volumes, a scheduling gate, another scheduler. These are the filters of Kubernetes'
// scheduler that the kubelet does not repeat when it admits a pod (pkg/scheduler/framework/plugins).
//
// A kubelet does check host ports. But the scheduler's view of a node does not count who uses a port
// (HostPortInfo.Remove): once a refused pod is gone, the scheduler takes the port to be free, binds the next
// pod, and the kubelet refuses it.
func (b Binding) onlyScheduler(spec *corev1.PodSpec) bool {
	if s := spec.SchedulerName; s != "" && s != corev1.DefaultSchedulerName {
		return true
	}
	if c := spec.RuntimeClassName; c != nil && *c != "" && !b.Plain[*c] {
		return true
	}
	return len(spec.ResourceClaims) > 0 || len(spec.SchedulingGates) > 0 || spec.SchedulingGroup != nil ||
		besideOthers(spec) || asksForDevices(spec) || boundVolumes(spec) || AsksForPorts(spec)
}

// besideOthers reports whether other pods decide where the pod may run.
func besideOthers(spec *corev1.PodSpec) bool {
	for i := range spec.TopologySpreadConstraints {
		// No API server stores an empty value; unknown values are left to the scheduler.
		if spec.TopologySpreadConstraints[i].WhenUnsatisfiable != corev1.ScheduleAnyway {
			return true
		}
	}
	a := spec.Affinity
	return a != nil && (a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 ||
		a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0)
}

// asksForDevices reports whether a container, or the pod as a whole, asks for a resource that the kubelet
// does not check: it admits a pod that asks for an extended resource the node does not have.
func asksForDevices(spec *corev1.PodSpec) bool {
	asks := func(r *corev1.ResourceRequirements) bool {
		return r != nil && (extended(r.Requests) || extended(r.Limits) || len(r.Claims) > 0)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if asks(&containers[i].Resources) {
				return true
			}
		}
	}
	return asks(spec.Resources) || extended(spec.Overhead)
}

// extended reports whether the list asks for a resource that a kubelet does not account for by
// itself. A kubelet knows how many huge pages it has.
func extended(list corev1.ResourceList) bool {
	for name, amount := range list {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage, corev1.ResourcePods:
			continue
		}
		if !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) && !amount.IsZero() {
			return true
		}
	}
	return false
}

// boundVolumes reports whether the pod has a volume that is bound only when a node is chosen,
// that counts towards a limit of its node, or that only one pod at a time may write to.
func boundVolumes(spec *corev1.PodSpec) bool {
	for i := range spec.Volumes {
		v := &spec.Volumes[i].VolumeSource
		switch {
		case v.PersistentVolumeClaim != nil, v.Ephemeral != nil,
			v.GCEPersistentDisk != nil, v.AWSElasticBlockStore != nil, v.AzureDisk != nil, v.AzureFile != nil,
			v.Cinder != nil, v.VsphereVolume != nil, v.PortworxVolume != nil, v.RBD != nil, v.ISCSI != nil:
			return true
		}
	}
	return false
}
