package main

import (
	"context"
	"encoding/json"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/bench/testbed"
)

// What a real kubelet writes about a pod, in the order observed of kubelet 1.37: it reads the pod before each write
// of its status, and requests the token of its account. There are no pauses in between, since the bench measures what
// the requests cost, not how long containers take.

// starting sends the writes for a pod that starts.
func (k *kubelet) starting(ctx context.Context, pod *corev1.Pod) error {
	if err := k.token(ctx, pod); err != nil {
		return err
	}
	waiting := statusOf(pod, nil, false)
	waiting.Phase, waiting.PodIP, waiting.PodIPs = corev1.PodPending, "", nil
	sandbox := statusOf(pod, nil, false)
	sandbox.Phase = corev1.PodPending
	running := statusOf(pod, containerOf(pod), false)
	return k.write(ctx, pod, waiting, sandbox, running, statusOf(pod, containerOf(pod), true))
}

// stopping sends the writes for a pod that ends, without the delete.
func (k *kubelet) stopping(ctx context.Context, pod *corev1.Pod) error {
	ended := containerOf(pod)
	ended.ContainerID += "-ended"
	terminated := statusOf(pod, nil, false)
	terminated.Phase = corev1.PodSucceeded
	return k.write(ctx, pod, statusOf(pod, containerOf(pod), false), statusOf(pod, ended, false), terminated)
}

// changing sends the writes for a pod whose images have changed: the change is observed, still with the old
// container. Then the new container runs, but is not ready. Then it is ready.
func (k *kubelet) changing(ctx context.Context, pod *corev1.Pod) error {
	old := pod.DeepCopy()
	old.Generation--
	before := statusOf(pod, containerOf(old), true)
	before.ObservedGeneration = pod.Generation
	return k.write(ctx, pod, before, statusOf(pod, containerOf(pod), false), statusOf(pod, containerOf(pod), true))
}

// write sends one status after another, each after a read.
func (k *kubelet) write(ctx context.Context, pod *corev1.Pod, all ...corev1.PodStatus) error {
	for i := range all {
		if err := k.rest.Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).Do(ctx).Error(); err != nil {
			return err
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": all[i]})
		if err != nil {
			return fmt.Errorf("encode a status: %w", err)
		}
		err = k.rest.Patch(types.StrategicMergePatchType).Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("status").
			VersionedParams(&metav1.PatchOptions{FieldManager: "kubelet"}, metav1.ParameterCodec).Body(patch).Do(ctx).Error()
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *kubelet) token(ctx context.Context, pod *corev1.Pod) error {
	ask := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3607)),
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}}}
	return k.rest.Post().Namespace(pod.Namespace).Resource("serviceaccounts").Name(pod.Spec.ServiceAccountName).SubResource("token").Body(ask).Do(ctx).Error()
}

// statusOf returns the status of a pod with that container; nil means that it is still being created.
func statusOf(pod *corev1.Pod, container *corev1.ContainerStatus, ready bool) corev1.PodStatus {
	now := metav1.Now()
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, QOSClass: pod.Status.QOSClass, ObservedGeneration: pod.Generation,
		HostIP: "10.0.0.1", HostIPs: []corev1.HostIP{{IP: "10.0.0.1"}}, PodIP: "100.64.0.7", PodIPs: []corev1.PodIP{{IP: "100.64.0.7"}},
	}
	if pod.Status.StartTime != nil {
		s.StartTime = pod.Status.StartTime
	}
	is := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}
	for _, kind := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: is[ready], LastTransitionTime: now})
	}
	if container == nil {
		container = &corev1.ContainerStatus{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
	}
	container.Ready = ready
	s.ContainerStatuses = []corev1.ContainerStatus{*container}
	return s
}

// containerOf returns the container that a pod has in its generation: a new image means a new container.
func containerOf(pod *corev1.Pod) *corev1.ContainerStatus {
	n := int(pod.Generation)
	return &corev1.ContainerStatus{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, RestartCount: int32(max(n-1, 0)),
		ImageID: "registry.example.com/observability/agent@sha256:" + testbed.Hash("image", n), ContainerID: "containerd://" + testbed.Hash("container", n),
		Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}
}
