package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
)

// kubeletWorkers is how many pods are started and stopped at a time. More do not make the API server faster.
const kubeletWorkers = 32

// kubelet stands in for the kubelets of all nodes. A pod runs and is ready as soon as it is bound or changed, and is
// gone as soon as it is deleted. That is one status write and one delete in a pod's life, the least that the API
// needs. While real is set it writes what a real kubelet does. It does not renew leases: those of 5,000 nodes would
// keep the machine busy with nothing else.
type kubelet struct {
	rest rest.Interface
	// queue is unbounded: if a watch has to wait, it loses events that the server forgets.
	queue *workqueue.Typed[*corev1.Pod]
	fail  func(error)
	real  atomic.Bool

	mu   sync.Mutex
	done map[types.UID]work // work that a worker has accepted
	// changed is the generation up to which a worker has accepted a pod's changes.
	changed map[types.UID]int64
}

// work is what a kubelet has done about a pod.
type work int

const (
	toStart work = iota + 1
	toStop
)

func newKubelet(client kubernetes.Interface) *kubelet {
	return &kubelet{rest: client.CoreV1().RESTClient(), queue: workqueue.NewTyped[*corev1.Pod](), done: map[types.UID]work{}, changed: map[types.UID]int64{}}
}

// look handles a pod that is bound or has changed.
func (k *kubelet) look(pod *corev1.Pod) {
	var todo work
	switch {
	case pod.DeletionTimestamp != nil:
		todo = toStop
	case pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "":
		todo = toStart
	case pod.Generation > pod.Status.ObservedGeneration:
		k.lookAgain(pod)
		return
	default:
		return
	}
	k.mu.Lock()
	old := k.done[pod.UID]
	if todo > old {
		k.done[pod.UID] = todo
	}
	k.mu.Unlock()
	if todo > old {
		k.queue.Add(pod)
	}
}

// lookAgain handles a running pod that was changed.
func (k *kubelet) lookAgain(pod *corev1.Pod) {
	k.mu.Lock()
	later := pod.Generation > k.changed[pod.UID]
	if later {
		k.changed[pod.UID] = pod.Generation
	}
	k.mu.Unlock()
	if later {
		k.queue.Add(pod)
	}
}

// run works until ctx ends.
func (k *kubelet) run(ctx context.Context) {
	defer context.AfterFunc(ctx, k.queue.ShutDown)()
	var all sync.WaitGroup
	for range kubeletWorkers {
		all.Go(func() {
			for {
				pod, over := k.queue.Get()
				if over || ctx.Err() != nil {
					return
				}
				if err := k.act(ctx, pod); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
					k.fail(fmt.Errorf("the kubelet could not write pod %s: %w", pod.Name, err))
				}
				k.queue.Done(pod)
			}
		})
	}
	all.Wait()
}

func (k *kubelet) act(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		k.mu.Lock()
		delete(k.done, pod.UID) // a UID is never used again
		delete(k.changed, pod.UID)
		k.mu.Unlock()
		if k.real.Load() {
			if err := k.stopping(ctx, pod); err != nil {
				return err
			}
		}
		return k.remove(ctx, pod)
	}
	if k.real.Load() {
		if pod.Status.Phase == corev1.PodRunning {
			return k.changing(ctx, pod)
		}
		return k.starting(ctx, pod)
	}
	err := k.setRunning(ctx, pod)
	for apierrors.IsConflict(err) {
		live := &corev1.Pod{}
		if err = k.rest.Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).Do(ctx).Into(live); err != nil {
			return err
		}
		if live.UID != pod.UID || live.DeletionTimestamp != nil {
			return nil
		}
		err = k.setRunning(ctx, live)
	}
	return err
}

// remove deletes the pod, as a kubelet does when its containers have ended. It does not decode the answer.
func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) error {
	err := k.rest.Delete().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
		Body(&metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID}}).Do(ctx).Error()
	if apierrors.IsConflict(err) {
		return nil // another pod has this name already
	}
	return err
}

// setRunning writes the status of a pod that has just become ready. It leaves out what the server takes from its own
// copy.
func (k *kubelet) setRunning(ctx context.Context, pod *corev1.Pod) error {
	meta := pod.ObjectMeta
	meta.ManagedFields = nil
	next := &corev1.Pod{ObjectMeta: meta, Status: statusOf(pod, containerOf(pod), true)}
	return k.rest.Put().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("status").
		VersionedParams(&metav1.UpdateOptions{FieldManager: "kubelet"}, metav1.ParameterCodec).Body(next).Do(ctx).Error()
}
