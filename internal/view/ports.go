package view

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// TakenPort is a host port that a pod asks for and another pod of its node uses.
type TakenPort struct {
	Port     int32
	Protocol corev1.Protocol
	// Namespace and Pod are those of the pod that uses it.
	Namespace, Pod string
}

func (t TakenPort) String() string {
	return fmt.Sprintf("host port %d/%s, which pod %s/%s has", t.Port, t.Protocol, t.Namespace, t.Pod)
}

// For is String for readers of one namespace: it does not name pods of other namespaces, which they may not
// be allowed to know about.
func (t TakenPort) For(namespace string) string {
	if t.Namespace == namespace {
		return t.String()
	}
	return fmt.Sprintf("host port %d/%s, which a pod of another namespace has", t.Port, t.Protocol)
}

// AsksForPorts reports whether the pod wants a port of its node.
func AsksForPorts(spec *corev1.PodSpec) bool { return len(hostPorts(spec)) > 0 }

// TakenPorts returns the host ports that keep the pod off a node with these pods on it, as the scheduler
// compares them: two addresses differ only if both are given.
func TakenPorts(spec *corev1.PodSpec, others []corev1.Pod) (taken []TakenPort) {
	for _, want := range hostPorts(spec) {
		for i := range others {
			o := &others[i]
			if ended := o.Status.Phase == corev1.PodFailed || o.Status.Phase == corev1.PodSucceeded; ended {
				continue
			}
			if slices.ContainsFunc(hostPorts(&o.Spec), func(has corev1.ContainerPort) bool { return collide(want, has) }) {
				taken = append(taken, TakenPort{want.HostPort, protocol(want), o.Namespace, o.Name})
			}
		}
	}
	return taken
}

// hostPorts returns the host ports of all containers that run for as long as the pod does, which are those
// that schedulers and kubelets count. On the node's network every container port is a host port: the API
// server fills that into a pod, and since Kubernetes 1.28 no longer into a template (SetDefaults_Pod,
// SetDefaults_PodSpec).
func hostPorts(spec *corev1.PodSpec) (ports []corev1.ContainerPort) {
	take := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if spec.HostNetwork {
				setDefault(&p.HostPort, p.ContainerPort)
			}
			if p.HostPort > 0 {
				ports = append(ports, p)
			}
		}
	}
	for i := range spec.Containers {
		take(&spec.Containers[i])
	}
	for i := range spec.InitContainers {
		if r := spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			take(&spec.InitContainers[i])
		}
	}
	return ports
}

func collide(a, b corev1.ContainerPort) bool {
	return a.HostPort == b.HostPort && protocol(a) == protocol(b) && (anyAddress(a) || anyAddress(b) || a.HostIP == b.HostIP)
}

func protocol(p corev1.ContainerPort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

func anyAddress(p corev1.ContainerPort) bool {
	return p.HostIP == "" || p.HostIP == "0.0.0.0"
}
