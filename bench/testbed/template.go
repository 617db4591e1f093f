package testbed

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	Namespace = "bench"
	AgentName = "agent"
	LabelApp  = "app.kubernetes.io/instance"
	LabelKind = "app.kubernetes.io/component"
)

// DaemonSet returns a DaemonSet with the template of an ordinary log and metrics
// agent. It runs on the nodes that have the label on, or on all if on is "".
func DaemonSet(name, on string, maxUnavailable intstr.IntOrString) *appsv1.DaemonSet {
	labels := map[string]string{"app.kubernetes.io/name": "agent", LabelApp: name, "app.kubernetes.io/part-of": "observability"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{LabelApp: name}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &maxUnavailable}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
					"prometheus.io/scrape": "true", "prometheus.io/port": "9100",
					"checksum/config": "6b1b36cbb04b41490bfc0ab2bfa26f86d1f4b5e2c8a7d6f0e9b8a7c6d5e4f3a2"}},
				Spec: podSpec(),
			},
		},
	}
	if on != "" {
		ds.Spec.Template.Spec.NodeSelector = map[string]string{on: "true"}
	}
	return ds
}

func podSpec() corev1.PodSpec {
	grace := int64(30)
	return corev1.PodSpec{
		ServiceAccountName: AgentName, PriorityClassName: "system-node-critical", TerminationGracePeriodSeconds: &grace,
		Tolerations: []corev1.Toleration{
			{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
			{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		},
		Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
				{Key: "node.example.com/pool", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"virtual", "serverless"}},
			}}}}}},
		Containers: []corev1.Container{container()},
		Volumes: []corev1.Volume{
			hostPath("varlog", "/var/log"), hostPath("containers", "/var/lib/containers"), hostPath("proc", "/proc"), hostPath("sys", "/sys"),
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "agent"}}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

// Plain makes the pods of a DaemonSet as small as possible. The API server
// stores each pod at least twice.
func Plain(ds *appsv1.DaemonSet) *appsv1.DaemonSet {
	labels := map[string]string{LabelApp: ds.Name}
	ds.Spec.Template = corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{ServiceAccountName: AgentName, AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
			Containers: []corev1.Container{{Name: AgentName, Image: Image("1")}}},
	}
	return ds
}

func container() corev1.Container {
	return corev1.Container{
		Name: "agent", Image: Image("1"),
		Args:  []string{"--config=/etc/agent/agent.yaml", "--host-root=/host", "--listen=:9100", "--log-level=info"},
		Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9100, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{
			field("NODE_NAME", "spec.nodeName"), field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("POD_IP", "status.podIP"),
			{Name: "CLUSTER", Value: "production-eu-west-1"}, {Name: "SINK", Value: "https://ingest.example.com/v1"}, {Name: "GOMAXPROCS", Value: "2"},
			{Name: "TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "agent"}, Key: "token"}}},
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "varlog", MountPath: "/var/log", ReadOnly: true}, {Name: "containers", MountPath: "/var/lib/containers", ReadOnly: true},
			{Name: "proc", MountPath: "/host/proc", ReadOnly: true}, {Name: "sys", MountPath: "/host/sys", ReadOnly: true},
			{Name: "config", MountPath: "/etc/agent", ReadOnly: true}, {Name: "tmp", MountPath: "/tmp"},
		},
		LivenessProbe: probe("/healthz", 10), ReadinessProbe: probe("/ready", 5),
		SecurityContext: &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"DAC_READ_SEARCH"}}},
	}
}

// Image returns a version of the agent.
func Image(version string) string { return "registry.example.com/observability/agent:v1.8." + version }

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func hostPath(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}
}

func probe(path string, period int32) *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: 3,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("metrics")}}}
}
