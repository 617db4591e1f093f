package view

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func requests(pairs ...string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: quantities(pairs...)}
}

func volume(v corev1.VolumeSource) corev1.PodSpec {
	return corev1.PodSpec{Volumes: []corev1.Volume{{Name: "other"}, {Name: "v", VolumeSource: v}}}
}

func neighbours() []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}}}
}

// Pods that depend on filters of the scheduler that neither the template nor the
// kubelet can answer stay unbound; pods that depend only on the others do not.
func TestWhoBinds(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	preferred := []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: neighbours()[0]}}
	for name, c := range map[string]struct {
		spec      corev1.PodSpec
		scheduler bool
	}{
		"nothing": {corev1.PodSpec{}, false},
		"anti-affinity": {corev1.PodSpec{Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: neighbours()}}}, true},
		"affinity": {corev1.PodSpec{Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: neighbours()}}}, true},
		"preferences only": {corev1.PodSpec{Affinity: &corev1.Affinity{
			PodAffinity:     &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: preferred},
			PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: preferred},
			NodeAffinity:    &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}}, false},
		"spread":           {corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.ScheduleAnyway}, {WhenUnsatisfiable: corev1.DoNotSchedule}}}, true},
		"spread if it can": {corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.ScheduleAnyway}}}, false},

		"native resources": {corev1.PodSpec{Containers: []corev1.Container{{Resources: requests("cpu", "1", "memory", "1Gi", "ephemeral-storage", "1Gi", "hugepages-2Mi", "2Mi")}}}, false},
		"a device":         {corev1.PodSpec{Containers: []corev1.Container{{}, {Resources: requests("example.com/gpu", "1")}}}, true},
		"no device":        {corev1.PodSpec{Containers: []corev1.Container{{Resources: requests("example.com/gpu", "0")}}}, false},
		"a limit":          {corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: quantities("example.com/gpu", "1")}}}}, true},
		"init container":   {corev1.PodSpec{InitContainers: []corev1.Container{{Resources: requests("example.com/gpu", "1")}}}, true},
		"sidecar":          {corev1.PodSpec{InitContainers: []corev1.Container{{RestartPolicy: &always, Resources: requests("example.com/gpu", "1")}}}, true},
		"device class":     {corev1.PodSpec{Containers: []corev1.Container{{Resources: requests("deviceclass.resource.kubernetes.io/fpga", "1")}}}, true},
		"pod level":        {corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: quantities("cpu", "1", "example.com/gpu", "1")}}, true},
		"pod level native": {corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: quantities("cpu", "1")}}, false},
		"overhead":         {corev1.PodSpec{Overhead: quantities("cpu", "1")}, false},
		"resource claim":   {corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu"}}}, true},

		"default scheduler": {corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName}, false},
		"other scheduler":   {corev1.PodSpec{SchedulerName: "volcano"}, true},
		"gate":              {corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "wait"}}}, true},
		"group":             {corev1.PodSpec{SchedulingGroup: &corev1.PodSchedulingGroup{}}, true},
		"unknown class":     {corev1.PodSpec{RuntimeClassName: ptr("gvisor")}, true},
		"plain class":       {corev1.PodSpec{RuntimeClassName: ptr("runc")}, false},

		"port on the node's network":      {corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 9100}}}}}, true},
		"port of a sidecar on it":         {corev1.PodSpec{HostNetwork: true, InitContainers: []corev1.Container{{RestartPolicy: &always, Ports: []corev1.ContainerPort{{ContainerPort: 9100}}}}}, true},
		"port of an init container on it": {corev1.PodSpec{HostNetwork: true, InitContainers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 9100}}}}}, false},
		"no port on it":                   {corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "a"}}}, false},
		"port of the pod's own network":   {corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 9100}}}}}, false},
		"host port":                       {corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}}}, true},
		"container port":                  {corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}, false},

		"claim":     {volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}), true},
		"ephemeral": {volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), true},
		"iscsi":     {volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{}}), true},
		"host path": {volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}), false},
		"inline":    {volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "secrets"}}), false},
	} {
		ds := daemonSet()
		ds.Spec.Template.Spec = c.spec
		got, err := Binding{Plain: map[string]bool{"runc": true}}.Scheduled(ds)
		if got != c.scheduler || err != nil {
			t.Errorf("%s: by the scheduler %v (%v), want %v", name, got, err, c.scheduler)
		}
		if alone := Spec(ds, "").Scheduled; alone != (got || name == "plain class") {
			t.Errorf("%s: Spec says %v", name, alone)
		}
	}
}

// The annotation overrides what the engine was started with. Neither takes from the
// scheduler the pods that only it can place, and an invalid value leaves pods to the
// scheduler.
func TestBindBy(t *testing.T) {
	gpu := corev1.PodSpec{Containers: []corev1.Container{{Resources: requests("example.com/gpu", "1")}}}
	for _, c := range []struct {
		byDefault  Binder
		annotation string
		spec       corev1.PodSpec
		scheduler  bool
		wrong      string
	}{
		{byDefault: "", scheduler: false},
		{byDefault: ByEngine, scheduler: false},
		{byDefault: ByScheduler, scheduler: true},
		{annotation: "scheduler", scheduler: true},
		{byDefault: ByScheduler, annotation: "engine", scheduler: false},
		{byDefault: ByScheduler, annotation: "engine", spec: gpu, scheduler: true},
		{annotation: "Scheduler", scheduler: true, wrong: `everynode.io/bind-by: "Scheduler" is neither "engine" nor "scheduler"`},
	} {
		ds := daemonSet()
		ds.Spec.Template.Spec = c.spec
		if c.annotation != "" {
			ds.Annotations = map[string]string{BindByAnnotation: c.annotation}
		}
		got, err := Binding{Default: c.byDefault}.Scheduled(ds)
		if got != c.scheduler || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: by the scheduler %v, error %v", c, got, err)
		}
	}
}

func TestPlainClass(t *testing.T) {
	for name, c := range map[string]struct {
		class nodev1.RuntimeClass
		plain bool
	}{
		"handler only":   {nodev1.RuntimeClass{Handler: "runc"}, true},
		"no rules":       {nodev1.RuntimeClass{Scheduling: &nodev1.Scheduling{}}, true},
		"node selector":  {nodev1.RuntimeClass{Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a": "b"}}}, false},
		"tolerations":    {nodev1.RuntimeClass{Scheduling: &nodev1.Scheduling{Tolerations: []corev1.Toleration{{}}}}, false},
		"overhead":       {nodev1.RuntimeClass{Overhead: &nodev1.Overhead{PodFixed: quantities("memory", "1Gi")}}, true},
		"device as such": {nodev1.RuntimeClass{Overhead: &nodev1.Overhead{PodFixed: quantities("example.com/vm", "1")}}, false},
	} {
		if got := PlainClass(&c.class); got != c.plain {
			t.Errorf("%s: plain %v, want %v", name, got, c.plain)
		}
	}
}

// A pod for the scheduler never names its node, even if the template has affinity of
// its own.
func TestScheduledPodIsUnbound(t *testing.T) {
	ds := daemonSet()
	ds.Spec.Template.Spec.SchedulerName = "volcano"
	node := plan.Node{Name: "n1", Ready: true}
	var v plan.Verdict
	plan.Classify(&plan.Input{Set: Spec(ds, "h")}, "n1", &node, nil, &v)
	if len(v.Creates()) != 1 {
		t.Fatalf("%d creates", len(v.Creates()))
	}
	pod := NewPod(ds, "h", v.Creates()[0], "p")
	if pod.Spec.NodeName != "" || TargetNode(pod) != "n1" || pod.Spec.SchedulerName != "volcano" {
		t.Errorf("bound to %q, for %q, by %q", pod.Spec.NodeName, TargetNode(pod), pod.Spec.SchedulerName)
	}
}
