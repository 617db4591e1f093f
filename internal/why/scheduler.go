package why

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// askScheduler completes the rows of pods that wait to be bound with what their scheduler has said about
// them, and with the host ports that other pods occupy.
func (s *snapshot) askScheduler(ctx context.Context, client kubernetes.Interface, rows []Row) error {
	var hidden error // the pods of another namespace may not be read
	for i := range rows {
		r := &rows[i]
		if r.Reason != plan.WaitingForScheduler.String() {
			continue
		}
		pod := s.unbound(r.Node)
		if pod == nil {
			continue
		}
		r.Detail = "waits for the scheduler: " + saidOf(pod)
		if !view.AsksForPorts(&pod.Spec) {
			continue
		}
		there, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", r.Node).String()})
		if err != nil {
			err = fmt.Errorf("list the pods of node %s, for their host ports: %w", r.Node, err)
		}
		if apierrors.IsForbidden(err) {
			hidden = err
			continue
		}
		if err != nil {
			return err
		}
		for _, t := range view.TakenPorts(&pod.Spec, there.Items) {
			r.Detail += "; it wants " + t.String()
		}
	}
	return hidden
}

// unbound returns the pod of the DaemonSet that waits to be bound to the node.
func (s *snapshot) unbound(node string) *corev1.Pod {
	for _, p := range s.pods[node] {
		if p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
			return p
		}
	}
	return nil
}

// saidOf returns what a scheduler has written into the pod's status.
func saidOf(p *corev1.Pod) string {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue && c.Message != "" {
			return c.Message
		}
	}
	name := p.Spec.SchedulerName
	if name == "" {
		name = corev1.DefaultSchedulerName
	}
	return name + " has reported nothing yet"
}
