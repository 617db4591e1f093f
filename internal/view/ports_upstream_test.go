package view

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsdefaults "k8s.io/kubernetes/pkg/apis/apps/v1"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
	schedulerutil "k8s.io/kubernetes/pkg/scheduler/util"
)

// The host ports that we read from a template, as the API server stores it, are those
// that the scheduler and the kubelet find in its pods.
func TestHostPortsAreThoseOfThePods(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	ports := []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 81, HostPort: 81, HostIP: "127.0.0.1"}, {ContainerPort: 82, Protocol: corev1.ProtocolUDP}}
	for _, hostNetwork := range []bool{false, true} {
		ds := &appsv1.DaemonSet{}
		ds.Spec.Template.Spec = corev1.PodSpec{HostNetwork: hostNetwork,
			InitContainers: []corev1.Container{{Name: "init", Ports: ports[:1]}, {Name: "sidecar", RestartPolicy: &always, Ports: ports[2:]}},
			Containers:     []corev1.Container{{Name: "main", Ports: slices.Clone(ports)}}}
		appsdefaults.SetObjectDefaults_DaemonSet(ds)
		if p := ds.Spec.Template.Spec.Containers[0].Ports[0]; p.HostPort != 0 {
			t.Errorf("host network %v: a stored template has host port %d: hostPorts need not fill it in", hostNetwork, p.HostPort)
		}
		pod := &corev1.Pod{Spec: *ds.Spec.Template.Spec.DeepCopy()}
		coredefaults.SetObjectDefaults_Pod(pod)
		got, want := hostPorts(&ds.Spec.Template.Spec), schedulerutil.GetHostPorts(pod)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("host network %v: %+v is not among %+v", hostNetwork, w, got)
			}
		}
		if len(got) != len(want) || !slices.Equal(hostPorts(&pod.Spec), got) {
			t.Errorf("host network %v: %+v of the template, %+v of the pod", hostNetwork, got, want)
		}
	}
}
