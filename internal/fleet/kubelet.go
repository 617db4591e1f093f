package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// step is what the kubelet does next with a pod.
type step int

const (
	nothing step = iota
	start        // the containers start
	again        // containers whose image was changed end and start
	ready        // the pod becomes ready
	crash        // the containers end, and back off
	pull         // the image cannot be pulled
	finish       // the containers end permanently, successfully
	fail         // the containers end permanently, with an error
	stop         // the pod is gone
)

// How long a crashed container backs off: at first, and at most.
const (
	firstBackOff = 10 * time.Second
	maxBackOff   = 5 * time.Minute
)

// next returns the next step for a pod in its current state, and the delay before it.
func next(pod *corev1.Pod, f fate) (step, time.Duration) {
	phase := pod.Status.Phase
	switch {
	case pod.DeletionTimestamp != nil:
		return stop, stopDelay(pod, f)
	case phase == corev1.PodSucceeded || phase == corev1.PodFailed:
		return nothing, 0
	case phase != corev1.PodRunning && f.failure == Pull:
		if waitingFor(pod) == reasonPull {
			return nothing, 0
		}
		return pull, f.start
	case phase != corev1.PodRunning:
		return start, f.start
	case changed(pod) && f.failure == Pull:
		return pull, stopDelay(pod, f)
	case changed(pod), f.failure != Pull && waitingFor(pod) == reasonPull:
		return again, stopDelay(pod, f) + f.start
	case f.failure == Pull && waitingFor(pod) == reasonPull:
		return nothing, 0
	case isReady(pod):
		return nothing, 0 // running pods keep running, even if the rules have changed
	case f.failure == Crash && pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
		return fail, f.ready
	case f.failure == Crash:
		return crash, f.ready + backOff(pod)
	case f.failure == Unready:
		return nothing, 0
	case pod.Spec.RestartPolicy == corev1.RestartPolicyNever || pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure:
		return finish, f.ready
	default:
		return ready, f.ready
	}
}

// stopDelay returns how long a pod takes to stop. A pod that never ran takes no time.
func stopDelay(pod *corev1.Pod, f fate) time.Duration {
	if pod.Status.Phase != corev1.PodRunning {
		return 0
	}
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		return min(f.stop, time.Duration(*grace)*time.Second)
	}
	return f.stop
}

// backOff returns how long a crashed pod's containers back off; 0 when they run.
func backOff(pod *corev1.Pod) time.Duration {
	if waitingFor(pod) != reasonCrash {
		return 0
	}
	wait := firstBackOff
	for range restarts(pod) - 1 {
		if wait *= 2; wait >= maxBackOff {
			return maxBackOff
		}
	}
	return wait
}

// kubelet plays the kubelets of all simulated nodes. What it does follows only from what the API server says
// about a pod. So it can be restarted, and it repairs what others overwrite.
type kubelet struct {
	client kubernetes.Interface
	rules  Rules
	names  *formerNames
	nodes  corelisters.NodeLister
	pods   cache.Indexer
	queue  workqueue.TypedRateLimitingInterface[string] // namespace/name of pods
	log    *slog.Logger

	mu    sync.Mutex
	plans map[types.UID]appointment
}

// appointment is a step that waits for its time, or has been done.
type appointment struct {
	step  step
	round int32 // crashes before this one
	at    time.Time
	done  string // the version of the pod to which the step was applied
}

// work handles the pods in the queue until it is shut down.
func (k *kubelet) work(ctx context.Context) {
	serve(k.queue, func(key string) error {
		err := k.act(ctx, key)
		if err != nil && ctx.Err() == nil {
			k.log.Warn("could not write the pod; trying again", "pod", key, "err", err)
			return err
		}
		return nil
	})
}

// act does the next step for one pod, or requeues the pod until it is time.
func (k *kubelet) act(ctx context.Context, key string) error {
	obj, ok, err := k.pods.GetByKey(key)
	if err != nil || !ok {
		return err
	}
	pod := obj.(*corev1.Pod)
	node, err := k.nodes.Get(pod.Spec.NodeName)
	if err != nil || Off(node) {
		return nil // not simulated, gone, or without power
	}
	k.names.rules(node, pod)
	f, err := k.rules.fate(node, pod)
	todo, delay := next(pod, f)
	if err != nil && (todo == start || todo == pull) {
		k.log.Warn("cannot read what the pod should simulate; the cluster's rule applies", "pod", key, "node", node.Name, "err", err)
	}
	wait, due := k.plan(pod, todo, delay)
	if wait > 0 {
		k.queue.AddAfter(key, wait)
	}
	if !due {
		return nil
	}
	err = k.do(ctx, pod, todo)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // the pod is gone, or another one has its name
	case err != nil:
		return err
	}
	k.done(pod)
	return nil
}

// plan makes an appointment for a step, or reports that its time has come. A step that was already done to
// this version of the pod is not due again: the watch is behind.
func (k *kubelet) plan(pod *corev1.Pod, todo step, delay time.Duration) (wait time.Duration, due bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if todo == nothing {
		delete(k.plans, pod.UID)
		return 0, false
	}
	a, known := k.plans[pod.UID]
	if known && a.done != "" && a.done == pod.ResourceVersion {
		return 0, false
	}
	now, round := time.Now(), restarts(pod)
	if !known || a.step != todo || a.round != round {
		a = appointment{step: todo, round: round, at: now.Add(delay)}
		k.plans[pod.UID] = a
	}
	wait = a.at.Sub(now)
	return wait, wait <= 0
}

func (k *kubelet) done(pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.plans[pod.UID]; ok {
		a.done = pod.ResourceVersion
		k.plans[pod.UID] = a
	}
}

// forget drops what is known about a pod that is gone.
func (k *kubelet) forget(pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.plans, pod.UID)
}

func (k *kubelet) do(ctx context.Context, pod *corev1.Pod, todo step) error {
	pods := k.client.CoreV1().Pods(pod.Namespace)
	if todo == stop {
		err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err != nil {
			return fmt.Errorf("end the pod: %w", err)
		}
		return nil
	}
	patch, err := podPatch(pod, todo, metav1.Now())
	if err != nil {
		return fmt.Errorf("encode the pod's status: %w", err)
	}
	_, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write the pod's status: %w", err)
	}
	return nil
}
