package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// breakNode makes the node fall silent. After the grace period it is unreachable and its pods are not ready, which is
// the node lifecycle controller's part. A watchdog restarts it.
func (k *kubelets) breakNode(ctx context.Context, node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.silent[node] {
		return
	}
	k.silent[node] = true
	k.broke(node, true)
	var pods []*corev1.Pod
	for _, l := range k.on(node) {
		l.end()
		pods = append(pods, l.pod)
	}
	k.work(func() error {
		if err := k.pause(ctx, nodeGrace); err != nil {
			return err
		}
		if err := k.condition(ctx, node, corev1.ConditionUnknown, "NodeStatusUnknown"); err != nil {
			return err
		}
		for _, pod := range pods {
			if err := k.notReady(ctx, pod); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return err
			}
		}
		if err := k.taint(ctx, node, true); err != nil {
			return err
		}
		if err := k.pause(ctx, rebootTime-nodeGrace); err != nil {
			return err
		}
		return k.comeBack(ctx, node)
	})
}

// on returns the pods that are bound to a node. Called with mu held.
func (k *kubelets) on(node string) (all []*life) {
	for _, l := range k.lives {
		if l.pod.Spec.NodeName == node {
			all = append(all, l)
		}
	}
	return all
}

// comeBack makes the node answer after its restart. It does what was asked of it meanwhile.
func (k *kubelets) comeBack(ctx context.Context, node string) error {
	if err := k.condition(ctx, node, corev1.ConditionTrue, "KubeletReady"); err != nil {
		return err
	}
	if err := k.taint(ctx, node, false); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.silent, node)
	for _, l := range k.on(node) {
		if l.stopping {
			k.stop(ctx, l)
		} else {
			l.boot()
			k.begin(ctx, l)
		}
	}
	k.broke(node, false)
	return nil
}

// condition writes a node's Ready condition.
func (k *kubelets) condition(ctx context.Context, node string, ready corev1.ConditionStatus, reason string) error {
	now := metav1.Now()
	body, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: ready, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}}}})
	if err != nil {
		return fmt.Errorf("encode the condition of node %s: %w", node, err)
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: "kubelet"}, "status")
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("write the condition of node %s: %w", node, err)
	}
	return nil
}

// taint sets or removes the taints that go with the condition.
func (k *kubelets) taint(ctx context.Context, node string, unreachable bool) error {
	taints := []corev1.Taint{}
	if unreachable {
		now := metav1.NewTime(time.Now())
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			taints = append(taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect, TimeAdded: &now})
		}
	}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"taints": taints}})
	if err != nil {
		return fmt.Errorf("encode the taints of node %s: %w", node, err)
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "node-lifecycle"})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("taint node %s: %w", node, err)
	}
	return nil
}

// notReady writes that a pod on a silent node is not ready.
func (k *kubelets) notReady(ctx context.Context, pod *corev1.Pod) error {
	body := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"conditions":[{"type":"Ready","status":"False","lastTransitionTime":%q}]}}`,
		pod.UID, time.Now().UTC().Format(time.RFC3339))
	_, err := k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: "node-lifecycle"}, "status")
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("write that pod %s is not ready: %w", pod.Name, err)
	}
	return nil
}
