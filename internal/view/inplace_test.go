package view

import (
	"maps"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func placeTemplate() *corev1.PodTemplateSpec {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent", "app.kubernetes.io/version": "1", "istio.io/rev": "a"}, Annotations: map[string]string{"checksum/config": "x"}},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "setup", Image: "setup:1"}, {Name: "side", Image: "side:1", RestartPolicy: &always}},
			Containers:     []corev1.Container{{Name: "c", Image: "agent:1"}, {Name: "other", Image: "other:1"}},
		},
	}
}

// What a running pod may be changed to, and what not, by how two templates differ.
func TestNotInPlace(t *testing.T) {
	image := func(to *corev1.PodTemplateSpec) { to.Spec.Containers[0].Image = "agent:2" }
	for name, c := range map[string]struct {
		change func(from, to *corev1.PodTemplateSpec)
		why    string // part of the reason; empty: it may
	}{
		"an image":                {func(_, to *corev1.PodTemplateSpec) { image(to) }, ""},
		"a sidecar's image":       {func(_, to *corev1.PodTemplateSpec) { to.Spec.InitContainers[1].Image = "side:2" }, ""},
		"all images":              {func(_, to *corev1.PodTemplateSpec) { image(to); to.Spec.Containers[1].Image = "other:2" }, ""},
		"the version, too":        {func(_, to *corev1.PodTemplateSpec) { image(to); to.Labels["app.kubernetes.io/version"] = "2" }, ""},
		"a label of one's own":    {func(_, to *corev1.PodTemplateSpec) { image(to); to.Labels["tier"] = "x" }, ""},
		"without it":              {func(from, to *corev1.PodTemplateSpec) { image(to); from.Labels["tier"] = "x" }, ""},
		"what a server defaults":  {func(_, to *corev1.PodTemplateSpec) { image(to); to.Spec.DNSPolicy = corev1.DNSClusterFirst }, ""},
		"nothing":                 {func(_, to *corev1.PodTemplateSpec) {}, "no image differs"},
		"a restart":               {func(_, to *corev1.PodTemplateSpec) { to.Annotations["kubectl.kubernetes.io/restartedAt"] = "now" }, "no image differs"},
		"a label alone":           {func(_, to *corev1.PodTemplateSpec) { to.Labels["tier"] = "x" }, "no image differs"},
		"a checksum":              {func(_, to *corev1.PodTemplateSpec) { image(to); to.Annotations["checksum/config"] = "y" }, "annotations"},
		"what a webhook reads":    {func(_, to *corev1.PodTemplateSpec) { image(to); to.Labels["istio.io/rev"] = "b" }, "label istio.io/rev"},
		"an init container":       {func(_, to *corev1.PodTemplateSpec) { image(to); to.Spec.InitContainers[0].Image = "setup:2" }, "more than the images"},
		"an init container alone": {func(_, to *corev1.PodTemplateSpec) { to.Spec.InitContainers[0].Image = "setup:2" }, "no image differs"},
		"environment": {func(_, to *corev1.PodTemplateSpec) {
			image(to)
			to.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A"}}
		}, "more than the images"},
		"a policy of pulling": {func(_, to *corev1.PodTemplateSpec) { to.Spec.Containers[0].Image = "agent:latest" }, "more than the images"},
		"one container more": {func(_, to *corev1.PodTemplateSpec) {
			image(to)
			to.Spec.Containers = append(to.Spec.Containers, corev1.Container{Name: "new", Image: "new:1"})
		}, "more than the images"},
		"no image": {func(_, to *corev1.PodTemplateSpec) { to.Spec.Containers[0].Image = "" }, "no image differs"},
		"a label in the environment": {func(from, to *corev1.PodTemplateSpec) {
			env := []corev1.EnvVar{{Name: "V", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['tier']"}}}}
			from.Spec.Containers[1].Env, to.Spec.Containers[1].Env = env, env
			image(to)
			to.Labels["tier"] = "x"
		}, "in its environment"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := placeTemplate(), placeTemplate()
			c.change(from, to)
			switch err := NotInPlace(from, to); {
			case c.why == "" && err != nil:
				t.Errorf("it may not: %v", err)
			case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
				t.Errorf("want a reason with %q, got %v", c.why, err)
			}
		})
	}
}

// A pod that does not match its revision was changed by somebody who would do it again.
func TestUnfit(t *testing.T) {
	to := placeTemplate()
	to.Spec.Containers[0].Image = "agent:2"
	to.Labels["app.kubernetes.io/version"] = "2"
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		why    string
	}{
		"as it was made": {func(*corev1.Pod) {}, ""},
		"with an injected one": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "proxy", Image: "proxy"})
		}, ""},
		"with one that is injected no more": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "proxy", Image: "proxy"})
		}, "other containers"},
		"without the secret of the registry": {func(p *corev1.Pod) { p.Spec.ImagePullSecrets = nil }, "image pull secrets"},
		"another image that does not change": {func(p *corev1.Pod) { p.Spec.Containers[1].Image = "mirror/other:1" }, ""},
		"from a mirror":                      {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "mirror/agent:1" }, "container c"},
		"relabelled":                         {func(p *corev1.Pod) { p.Labels["app.kubernetes.io/version"] = "0" }, "label app.kubernetes.io/version"},
		"debugged": {func(p *corev1.Pod) {
			p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "d", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}, "debugging"},
		"debugged once": {func(p *corev1.Pod) {
			p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "d", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
		}, ""},
		"resized": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue}}
		}, "resources"},
		"without the container": {func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[1:] }, "lacks"},
		"not observed":          {func(p *corev1.Pod) { p.Generation = 3 }, "has not seen"},
		"never observed":        {func(p *corev1.Pod) { p.Generation, p.Status.ObservedGeneration = 3, 0 }, ""},
		"not started":           {func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "" }, "container c has not started"},
		"another not started":   {func(p *corev1.Pod) { p.Status.ContainerStatuses[1].ContainerID = "" }, ""},
		"changed before":        {func(p *corev1.Pod) { changedBefore(p, "id-0") }, ""},
		"being changed":         {func(p *corev1.Pod) { changedBefore(p, "id-c") }, "has not completed"},
	} {
		t.Run(name, func(t *testing.T) {
			from := placeTemplate()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 2, Labels: maps.Clone(from.Labels)}, Spec: *from.Spec.DeepCopy()}
			pod.Status.ObservedGeneration = 2
			for _, c := range pod.Spec.Containers {
				pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, runs(c.Name, "id-"+c.Name, "sha-"+c.Name, 0, 1))
			}
			pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}} // by its service account
			like := &corev1.Pod{Spec: *pod.Spec.DeepCopy()}
			if c.change(pod); name == "with an injected one" {
				like.Spec = *pod.Spec.DeepCopy()
			}
			switch err := Unfit(pod, from, to, like); {
			case c.why == "" && err != nil:
				t.Errorf("it is not: %v", err)
			case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
				t.Errorf("want a reason with %q, got %v", c.why, err)
			}
		})
	}
}

// changedBefore changes the pod in place; its first container had that ID before.
func changedBefore(p *corev1.Pod, id string) {
	p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "h"
	p.Annotations = map[string]string{ChangedAnnotation: `{"revision":"h","generation":2,"containers":[{"name":"c","id":"` + id + `","imageID":"sha-0"}]}`}
}

func TestAsksInPlace(t *testing.T) {
	ds := &appsv1.DaemonSet{}
	if asks, err := AsksInPlace(ds); asks || err != nil {
		t.Error(asks, err)
	}
	ds.Annotations = map[string]string{UpdateAnnotation: "InPlaceIfPossible"}
	if asks, err := AsksInPlace(ds); !asks || err != nil {
		t.Error(asks, err)
	}
	ds.Annotations[UpdateAnnotation] = "inplace"
	if asks, err := AsksInPlace(ds); asks || err == nil || !strings.Contains(err.Error(), `"inplace" is not "InPlaceIfPossible"`) {
		t.Error(asks, err)
	}
}

// The revisions that count are those that the DaemonSet owns, that can be read, and that differ only in
// images.
func TestInPlaceFrom(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", UID: "set", Annotations: map[string]string{UpdateAnnotation: InPlaceIfPossible}}}
	ds.Spec.Template = *placeTemplate()
	revision := func(hash string, change func(*corev1.PodTemplateSpec)) appsv1.ControllerRevision {
		of := ds.DeepCopy()
		change(&of.Spec.Template)
		r, err := NewRevision(of, 1)
		if err != nil {
			t.Fatal(err)
		}
		r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
		return *r
	}
	image := func(to *corev1.PodTemplateSpec) { to.Spec.Containers[0].Image = "agent:0" }
	all := []appsv1.ControllerRevision{
		revision("present", image),
		revision("image", image),
		revision("env", func(to *corev1.PodTemplateSpec) { to.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A"}} }),
		revision("unreadable", image), revision("of-another", image),
	}
	all[3].Data.Raw = []byte("{")
	all[4].OwnerReferences[0].UID = "other"
	if got := InPlaceFrom(ds, "present", all); !maps.Equal(got, map[string]bool{"image": true}) {
		t.Errorf("got %v", got)
	}
	delete(ds.Annotations, UpdateAnnotation)
	if got := InPlaceFrom(ds, "present", all); got != nil {
		t.Errorf("nobody has asked, and %v", got)
	}
}
