package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// evictEvery is how often a drain lists the pods that are left, and tries again to
// evict those that could not be evicted.
const evictEvery = time.Second

// drainer empties a node with the node's own credentials, which allow just this: to
// cordon the Node, to list and evict its pods, and to delete the Node. kubectl's drain
// library needs more: it also reads DaemonSets, and pods that no longer exist.
type drainer struct {
	node   string
	client kubernetes.Interface
	force  bool // end also pods that no controller recreates, and those that may not be evicted
	within time.Duration
	say    func(string, ...any)
}

// registered reports whether the Node exists.
func (d drainer) registered(ctx context.Context) (bool, error) {
	_, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// cordon keeps new pods away from the node.
func (d drainer) cordon(ctx context.Context) error {
	_, err := d.client.CoreV1().Nodes().Patch(ctx, d.node, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("cordon %s: %w", d.node, err)
	}
	return nil
}

// drain evicts the node's pods through the Eviction API, so that disruption budgets
// hold. With gone it waits until the kubelet has ended them. Without, because no
// kubelet runs, it waits only until each of them is marked for deletion. Pods of
// DaemonSets and static pods stay.
func (d drainer) drain(ctx context.Context, gone bool) error {
	waiting, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	said := map[string]bool{}
	for {
		// Requests use ctx, not waiting: a drain that takes too long must not look
		// like a request that failed.
		left, err := d.pods(ctx)
		if err != nil {
			return err
		}
		if !gone {
			left = slices.DeleteFunc(left, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
		}
		if len(left) == 0 {
			return nil
		}
		refused, err := d.evict(ctx, left)
		if err != nil {
			return err
		}
		for _, pod := range slices.Sorted(maps.Keys(refused)) {
			if !said[pod] {
				d.say("pod %s may not be evicted yet: %s", pod, refused[pod])
				said[pod] = true
			}
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			return d.late(ctx, left, refused)
		}
	}
}

// late is the result of a drain that took too long: an error that lists the pods that
// are left, or with force only a message.
func (d drainer) late(ctx context.Context, left []corev1.Pod, refused map[string]string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var lines []string
	for i := range left {
		name := podName(&left[i])
		why := refused[name]
		if why == "" {
			why = "it does not end"
		}
		lines = append(lines, fmt.Sprintf("  %s: %s", name, why))
	}
	if d.force {
		d.say("these pods are ending although they should not be evicted:\n%s", strings.Join(lines, "\n"))
		return nil
	}
	return fmt.Errorf("%d pods are still on %s after %s:\n%s\nwait longer with --drain-timeout, or end them with --force", len(left), d.node, d.within, strings.Join(lines, "\n"))
}

// pods lists the pods that a drain has to remove from the node.
func (d drainer) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := d.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", d.node).String()})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", d.node, err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return staysOnNode(&p) }), nil
}

// staysOnNode reports whether a drain leaves a pod alone, because it comes back as
// long as the Node exists, or because it has ended.
func staysOnNode(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	return p.Annotations[corev1.MirrorPodAnnotationKey] != "" || owner != nil && owner.Kind == "DaemonSet" ||
		p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// checkLonely returns an error if a drain would end pods that no controller recreates
// elsewhere; with force it does not.
func (d drainer) checkLonely(ctx context.Context) error {
	pods, err := d.pods(ctx)
	if err != nil || d.force {
		return err
	}
	var lonely []string
	for i := range pods {
		if metav1.GetControllerOf(&pods[i]) == nil {
			lonely = append(lonely, podName(&pods[i]))
		}
	}
	if len(lonely) == 0 {
		return nil
	}
	return fmt.Errorf("no controller would recreate these pods on another node: %s; delete them (everynode kubectl delete pod, on a server), or end them with --force", strings.Join(lonely, ", "))
}

// evict requests the eviction of each pod that is not terminating yet, and returns, by
// pod, why the API server refuses it for now.
func (d drainer) evict(ctx context.Context, pods []corev1.Pod) (refused map[string]string, err error) {
	refused = map[string]string{}
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		uid := p.UID
		err := d.client.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
		})
		switch {
		case err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		case apierrors.IsTooManyRequests(err):
			refused[podName(p)] = err.Error()
		default:
			return refused, fmt.Errorf("evict the pod %s: %w", podName(p), err)
		}
	}
	return refused, nil
}

func podName(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// deleteNode deletes the Node. If the API server forbids that, kept says why: the Node
// has something that a node may not remove.
func (d drainer) deleteNode(ctx context.Context) (kept string, err error) {
	err = d.client.CoreV1().Nodes().Delete(ctx, d.node, metav1.DeleteOptions{})
	switch {
	case err == nil || apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsForbidden(err):
		return err.Error(), nil
	}
	return "", fmt.Errorf("delete the Node %s: %w", d.node, err)
}
