package compat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"everynode/internal/view"
)

// kubelet stands in for the kubelets of all nodes, and for the scheduler. A pod runs and is ready as soon as it is
// bound, and is gone as soon as it is deleted, unless a field says otherwise. Fields are changed through change.
type kubelet struct {
	client kubernetes.Interface
	queue  workqueue.TypedRateLimitingInterface[string]
	store  cache.Store

	mu    sync.Mutex
	dead  map[string]bool                   // nodes whose kubelet does nothing
	stays map[string]bool                   // nodes whose pods stay Terminating
	binds bool                              // whether the scheduler works
	delay time.Duration                     // how long a pod takes to be ready, and to end
	slow  map[string]bool                   // nodes where that takes ten times as long
	due   map[string]time.Time              // when a delayed action is due
	ports bool                              // whether only one pod at a time can use a host port
	phase func(*corev1.Pod) corev1.PodPhase // the phase that a bound pod reaches; Pending: it does not run
	runs  func(image string) bool           // whether running pods get a container of that image; nil: statuses do not mention containers
}

func newKubelet(client kubernetes.Interface) *kubelet {
	return &kubelet{
		client: client, dead: map[string]bool{}, stays: map[string]bool{}, slow: map[string]bool{}, due: map[string]time.Time{}, binds: true,
		phase: func(*corev1.Pod) corev1.PodPhase { return corev1.PodRunning },
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, 100*time.Millisecond)),
	}
}

func (k *kubelet) look(pod *corev1.Pod) { k.queue.Add(pod.Namespace + "/" + pod.Name) }

// change changes how the kubelet behaves, also towards existing pods.
func (k *kubelet) change(do func(*kubelet)) {
	k.mu.Lock()
	do(k)
	k.mu.Unlock()
	for _, key := range k.store.ListKeys() {
		k.queue.Add(key)
	}
}

// onlyImages makes pods with one of these images ready, and leaves others Pending.
func onlyImages(images ...string) func(*kubelet) {
	return func(k *kubelet) {
		k.phase = func(p *corev1.Pod) corev1.PodPhase {
			if slices.Contains(images, p.Spec.Containers[0].Image) {
				return corev1.PodRunning
			}
			return corev1.PodPending
		}
	}
}

func anyImage(k *kubelet) {
	k.phase = func(*corev1.Pod) corev1.PodPhase { return corev1.PodRunning }
}

func (k *kubelet) run(ctx context.Context, store cache.Store) (stop func()) {
	k.store = store
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				key, shutdown := k.queue.Get()
				if shutdown {
					return
				}
				if err := k.act(ctx, key); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
					k.queue.AddRateLimited(key)
				} else {
					k.queue.Forget(key)
				}
				k.queue.Done(key)
			}
		})
	}
	k.change(func(*kubelet) {})
	return func() {
		k.queue.ShutDown()
		all.Wait()
	}
}

// act takes the next action for one pod.
func (k *kubelet) act(ctx context.Context, key string) error {
	obj, ok, err := k.store.GetByKey(key)
	if err != nil || !ok {
		return err
	}
	pod := obj.(*corev1.Pod)
	k.mu.Lock()
	node := pod.Spec.NodeName
	dead, stays, binds, phase := k.dead[node], k.stays[node], k.binds, k.phase(pod)
	taken, runs := k.ports && k.portTaken(pod), k.runs
	k.mu.Unlock()
	switch {
	case node == "" && taken:
		k.queue.AddAfter(key, 100*time.Millisecond)
	case node == "" && binds:
		return k.bind(ctx, pod)
	case node == "" || dead:
	case k.later(key, pod):
	case pod.DeletionTimestamp != nil:
		if !stays {
			return k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
				GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		}
	case pod.Status.Phase == corev1.PodPending && taken:
		pod = pod.DeepCopy()
		pod.Status.Reason = "NodePorts"
		return setReady(ctx, k.client, pod, corev1.PodFailed, corev1.ConditionFalse)
	case pod.Status.Phase == corev1.PodPending && phase != corev1.PodPending:
		ready := corev1.ConditionFalse
		if phase == corev1.PodRunning {
			ready = corev1.ConditionTrue
		}
		return setReady(ctx, k.client, contained(pod, runs), phase, ready)
	case runs != nil && pod.Status.Phase == corev1.PodRunning:
		if now := contained(pod, runs); !equality.Semantic.DeepEqual(now.Status, pod.Status) {
			_, err := k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, now, metav1.UpdateOptions{})
			return err
		}
	}
	return nil
}

// contained returns the pod with its kubelet's report about the container, for the newest generation: a container of
// the image that the pod asks for if that runs, otherwise still the previous one. It does not change whether the pod
// is ready.
func contained(pod *corev1.Pod, runs func(image string) bool) *corev1.Pod {
	if runs == nil {
		return pod
	}
	pod = pod.DeepCopy()
	s, c := &pod.Status, pod.Spec.Containers[0]
	s.ObservedGeneration = pod.Generation
	if len(s.ContainerStatuses) > 0 && (s.ContainerStatuses[0].Image == c.Image || !runs(c.Image)) {
		return pod
	}
	restarts := int32(0)
	if len(s.ContainerStatuses) > 0 {
		restarts = s.ContainerStatuses[0].RestartCount + 1
	}
	s.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, Image: c.Image, ImageID: "sha256:" + c.Image, ContainerID: fmt.Sprintf("containerd://%s-%d", pod.UID, restarts),
		RestartCount: restarts, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
	return pod
}

// later reports whether the pod must wait until it becomes ready or ends. If so, the pod is looked at again then.
func (k *kubelet) later(key string, pod *corev1.Pod) bool {
	ends := pod.DeletionTimestamp != nil
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.delay == 0 || !ends && pod.Status.Phase != corev1.PodPending {
		return false
	}
	what, now := fmt.Sprintf("%s %v", pod.UID, ends), time.Now()
	due, known := k.due[what]
	if !known {
		delay := k.delay/2 + rand.N(k.delay)
		if k.slow[pod.Spec.NodeName] {
			delay *= 10
		}
		due = now.Add(delay)
		k.due[what] = due
	}
	if !now.Before(due) {
		return false
	}
	k.queue.AddAfter(key, due.Sub(now))
	return true
}

// portTaken reports whether another pod on the node has the pod's host port.
func (k *kubelet) portTaken(pod *corev1.Pod) bool {
	return slices.ContainsFunc(k.store.List(), func(obj any) bool {
		other := obj.(*corev1.Pod)
		return other.UID != pod.UID && other.Spec.NodeName == target(pod) && other.Status.Phase == corev1.PodRunning &&
			slices.ContainsFunc(other.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
				return slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(q corev1.ContainerPort) bool { return p.HostPort == q.HostPort })
			})
	})
}

// bind binds a pod to the node that its affinity names.
func (k *kubelet) bind(ctx context.Context, pod *corev1.Pod) error {
	node := target(pod)
	if node == "" || len(pod.Spec.SchedulingGates) > 0 || pod.DeletionTimestamp != nil {
		return nil
	}
	if _, err := k.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); err != nil {
		return err
	}
	err := k.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if apierrors.IsConflict(err) {
		return nil // it is bound already; the store is behind
	}
	return err
}

// setReady writes a pod's status as its kubelet would.
func setReady(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, phase corev1.PodPhase, ready corev1.ConditionStatus) error {
	pod = pod.DeepCopy()
	now := metav1.Now()
	pod.Status.Phase = phase
	if pod.Status.StartTime == nil {
		pod.Status.StartTime = &now
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: now}}
	_, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}

// target returns the node that a pod is on or meant for.
func target(pod *corev1.Pod) string { return view.TargetNode(pod) }

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
