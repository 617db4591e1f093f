package engine

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/view"
)

// keepers are kubelets that change containers where their pods run, in the steps of kubelet 1.37: they say that they
// have observed the change, and that the pod is Ready, while the old container ends; then there is a new one, which with
// a probe is not ready for a while. They know which pods serve in truth.
type keepers struct {
	*cluster
	serves map[string]string // the image that serves, by the pod's UID; guarded by the API's mu
	bad    map[string]bool   // images that do not become ready
	probed bool              // readiness is probed: else a container that runs is ready, and Ready does not turn
	lies   bool              // a new container is said to be ready at first, as with a startup probe
	made   int
	worst  int // nodes at once whose pods did not serve, since watchTruth
}

func inPlaceCluster(t *testing.T, nodes int, test func(k *keepers), change ...func(*appsv1.DaemonSet)) {
	t.Helper()
	inCluster(t, func(c *cluster) {
		k := &keepers{cluster: c, serves: map[string]string{}, bad: map[string]bool{}, probed: true}
		c.after = k.kubelet
		c.addNodes(nodes)
		c.addSet(append([]func(*appsv1.DaemonSet){asksInPlace}, change...)...)
		c.start()
		c.run(time.Minute)
		c.covered(nodes, "agent:1")
		test(k)
	})
}

func asksInPlace(ds *appsv1.DaemonSet) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[view.UpdateAnnotation] = view.InPlaceIfPossible
	ds.Spec.Template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1}
}

func (k *keepers) kubelet(pod *corev1.Pod) {
	switch {
	case k.dead[pod.Spec.NodeName]:
	case pod.DeletionTimestamp != nil:
		delete(k.serves, string(pod.UID))
		k.cluster.kubelet(pod)
	case pod.Status.Phase == corev1.PodPending:
		k.then(k.starts, pod, func(p *corev1.Pod) {
			if p.Status.Phase == corev1.PodPending {
				k.runs(p)
				k.readies(p)
			}
		})
	case pod.Status.ObservedGeneration < pod.Generation:
		k.change(pod)
	}
}

// then edits the pod later, if it is still that one in that generation.
func (k *keepers) then(after time.Duration, pod *corev1.Pod, edit func(*corev1.Pod)) {
	time.AfterFunc(after, func() {
		k.editPod(pod.Name, func(p *corev1.Pod) {
			if p.UID == pod.UID && p.Generation == pod.Generation && p.DeletionTimestamp == nil {
				edit(p)
			}
		})
	})
}

func (k *keepers) change(pod *corev1.Pod) {
	k.then(10*time.Millisecond, pod, func(p *corev1.Pod) {
		p.Status.ObservedGeneration = p.Generation
		delete(k.serves, string(p.UID))
	})
	k.then(k.stops, pod, func(p *corev1.Pod) {
		k.runs(p)
		if k.probed && !k.lies {
			ready(p, false)
		}
		if !k.probed && !k.bad[p.Spec.Containers[0].Image] {
			k.serves[string(p.UID)] = p.Spec.Containers[0].Image
		}
	})
	if k.lies {
		k.then(k.stops+700*time.Millisecond, pod, func(p *corev1.Pod) { ready(p, false) })
	}
	if k.probed {
		k.then(k.stops+k.starts, pod, k.readies)
	}
}

// runs gives the pod a container of its image.
func (k *keepers) runs(p *corev1.Pod) {
	k.made++
	restarts := int32(0)
	if old := p.Status.ContainerStatuses; len(old) > 0 {
		restarts = old[0].RestartCount + 1
	}
	image := p.Spec.Containers[0].Image
	p.Status.Phase, p.Status.ObservedGeneration = corev1.PodRunning, p.Generation
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", Image: image, ImageID: "sha256:" + image, ContainerID: fmt.Sprintf("containerd://%d", k.made),
		RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: k.now()}}}}
}

func (k *keepers) readies(p *corev1.Pod) {
	if image := p.Spec.Containers[0].Image; !k.bad[image] {
		ready(p, true)
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
		k.serves[string(p.UID)] = image
	}
}

// watchTruth fails the test whenever more than budget of the nodes have no pod that serves, in truth; from now on.
func (k *keepers) watchTruth(nodes, budget int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	inner := k.after
	k.after = func(pod *corev1.Pod) {
		inner(pod)
		if down := nodes - len(k.serves); down > k.worst {
			if k.worst = down; down > budget {
				k.t.Errorf("%d nodes of %d do not serve, the budget is %d", down, nodes, budget)
			}
		}
	}
}

// identities is the UIDs of the pods, by node.
func (k *keepers) identities() map[string]string {
	all := map[string]string{}
	for _, p := range k.pods() {
		all[p.Spec.NodeName] = string(p.UID)
	}
	return all
}
