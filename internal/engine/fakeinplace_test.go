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

// keepers are kubelets that change containers in place, in the steps of kubelet 1.37: they report that they have observed the
// change, and that the pod is Ready, while the old container ends; then there is a new one, which with a probe is not ready for a
// while. They finish what they have begun, and report it under whatever generation the pod has by then. They do not touch
// containers that already have the image that is asked for. They know which pods truly serve.
type keepers struct {
	*cluster
	serves map[string]string // the image that serves, by the pod's UID; guarded by the API's mu
	bad    map[string]bool   // images that do not become ready
	probed bool              // readiness is probed: otherwise a running container is ready, and Ready does not change
	breaks map[string]int32  // by image: how often the container beside it restarts, if there is one
	lacks  map[string]bool   // images that cannot be pulled
	works  map[string]bool   // pods, by UID, that a kubelet is working on
	same   bool              // all images have the same content
	lies   bool              // a new container is reported ready at first, as with a startup probe
	made   int
	worst  int // the most nodes at once whose pods did not serve, since watchTruth
}

func inPlaceCluster(t *testing.T, nodes int, test func(k *keepers), change ...func(*appsv1.DaemonSet)) {
	t.Helper()
	inCluster(t, func(c *cluster) {
		k := &keepers{cluster: c, serves: map[string]string{}, bad: map[string]bool{}, lacks: map[string]bool{}, works: map[string]bool{}, probed: true}
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
				k.runs(p, p.Spec.Containers[0].Image)
				k.readies(p, p.Spec.Containers[0].Image)
			}
		})
	case pod.Status.ObservedGeneration < pod.Generation, pod.Status.ContainerStatuses[0].Image != pod.Spec.Containers[0].Image:
		k.change(pod)
	}
}

// then edits the pod later, if it still exists.
func (k *keepers) then(after time.Duration, pod *corev1.Pod, edit func(*corev1.Pod)) {
	time.AfterFunc(after, func() {
		k.editPod(pod.Name, func(p *corev1.Pod) {
			if p.UID == pod.UID && p.DeletionTimestamp == nil {
				edit(p)
			}
		})
	})
}

// change is one round of a kubelet's work on a pod.
func (k *keepers) change(pod *corev1.Pod) {
	uid, image := string(pod.UID), pod.Spec.Containers[0].Image
	if k.works[uid] {
		return
	}
	k.works[uid] = true
	k.then(10*time.Millisecond, pod, func(p *corev1.Pod) {
		p.Status.ObservedGeneration = p.Generation
		if p.Status.ContainerStatuses[0].Image == image {
			k.works[uid] = false
			return
		}
		delete(k.serves, uid)
		k.then(k.stops, pod, func(p *corev1.Pod) { k.replace(p, image) })
	})
}

// replace is the end of such a round.
func (k *keepers) replace(p *corev1.Pod, image string) {
	uid := string(p.UID)
	k.works[uid] = false
	p.Status.ObservedGeneration = p.Generation
	if k.lacks[image] {
		ready(p, false)
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}
		if p.Spec.Containers[0].Image == image {
			k.works[uid] = true // until the next try, which no test waits for
		}
		return
	}
	k.runs(p, image)
	if k.probed && !k.lies {
		ready(p, false)
	}
	if !k.probed && !k.bad[image] {
		k.serves[uid] = image
	}
	if k.lies {
		k.then(700*time.Millisecond, p, func(p *corev1.Pod) {
			if k.has(p, image) {
				ready(p, false)
			}
		})
	}
	if k.probed {
		k.then(k.starts, p, func(p *corev1.Pod) { k.readies(p, image) })
	}
}

// has reports whether the pod has a container of the image that nobody is about to end.
func (k *keepers) has(p *corev1.Pod, image string) bool {
	return p.Status.ContainerStatuses[0].Image == image && !k.works[string(p.UID)]
}

// runs gives the pod a container of the image.
func (k *keepers) runs(p *corev1.Pod, image string) {
	k.made++
	restarts := int32(0)
	if old := p.Status.ContainerStatuses; len(old) > 0 {
		restarts = old[0].RestartCount + 1
	}
	content := "sha256:" + image
	if k.same {
		content = "sha256:same"
	}
	p.Status.Phase, p.Status.ObservedGeneration = corev1.PodRunning, p.Generation
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", Image: image, ImageID: content, ContainerID: fmt.Sprintf("containerd://%d", k.made),
		RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: k.now()}}}}
	for _, beside := range p.Spec.Containers[1:] {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: beside.Name, Image: beside.Image, ContainerID: "containerd://beside",
			RestartCount: 2 + k.breaks[image], State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: k.now()}}})
	}
}

func (k *keepers) readies(p *corev1.Pod, image string) {
	if !k.bad[image] && k.has(p, image) {
		ready(p, true)
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
		k.serves[string(p.UID)] = image
	}
}

// watchTruth fails the test if, from now on, more than budget of the nodes have no pod that truly serves.
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

// identities returns the UIDs of the pods, by node.
func (k *keepers) identities() map[string]string {
	all := map[string]string{}
	for _, p := range k.pods() {
		all[p.Spec.NodeName] = string(p.UID)
	}
	return all
}
