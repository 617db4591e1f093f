package why

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// askKubelets completes the rows of pods that are not available with the cause: what their kubelets have
// written into the pods, and, if that is unspecific, what they have reported in events.
func (s *snapshot) askKubelets(ctx context.Context, client kubernetes.Interface, ds *daemonSet, rows []Row) error {
	unclear, pods := s.readPods(rows)
	events, err := podEvents(ctx, client, ds.Namespace, unclear, pods)
	if err == nil {
		for _, r := range unclear {
			r.Cause.FromEvents(pods[r], events)
		}
	}
	for i := range rows {
		rows[i].tellCause()
	}
	return err
}

// readPods writes into the rows what the pods and nodes themselves say. It returns the rows about which
// events may say more, with their pods.
func (s *snapshot) readPods(rows []Row) (unclear []*Row, pods map[*Row]*corev1.Pod) {
	pods = map[*Row]*corev1.Pod{}
	for i := range rows {
		r := &rows[i]
		pod := s.inTrouble(r)
		if pod == nil {
			continue
		}
		if said, silent := s.silent[r.Node]; silent {
			r.Cause = &Cause{pod.Name, view.Cause{Reason: "NodeNotReady", Message: said}}
			continue
		}
		cause, hints := view.CauseOf(pod)
		r.Cause = &Cause{pod.Name, cause}
		if hints {
			unclear, pods[r] = append(unclear, r), pod
		}
	}
	return unclear, pods
}

// inTrouble returns the row's pod if it should be available and is not. It returns nil if the reason is
// already known, or there is no such pod. With surge that pod is the new one, not the old one that still
// serves.
func (s *snapshot) inTrouble(r *Row) *corev1.Pod {
	switch r.Reason {
	case plan.Starting.String(), plan.NotReady.String():
		for _, p := range s.pods[r.Node] {
			if p.DeletionTimestamp == nil && p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == s.hash && !view.Pod(p).Ready {
				return p
			}
		}
	case plan.BackingOff.String(), plan.PodFailed.String(), plan.PodRefused.String(), plan.PodSucceeded.String(), plan.Outdated.String(), plan.OutdatedInPlace.String():
		for _, p := range s.pods[r.Node] {
			if p.DeletionTimestamp == nil && !view.Pod(p).Ready && p.Spec.NodeName != "" {
				return p
			}
		}
	case plan.WaitingForTermination.String():
		if _, silent := s.silent[r.Node]; silent && len(s.pods[r.Node]) > 0 {
			return s.pods[r.Node][0]
		}
	}
	return nil
}

// podEvents returns the warnings about the pods of the rows. For one pod it reads only that pod's events; for
// several, all pod events of the namespace at once, because the API server reads all of them for each query.
func podEvents(ctx context.Context, client kubernetes.Interface, namespace string, rows []*Row, pods map[*Row]*corev1.Pod) ([]corev1.Event, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	about := fields.Set{"type": corev1.EventTypeWarning, "involvedObject.kind": "Pod"}
	if len(rows) == 1 {
		about["involvedObject.uid"] = string(pods[rows[0]].UID)
	}
	events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: about.AsSelector().String()})
	if err != nil {
		return nil, fmt.Errorf("list the events of pods in namespace %s: %w", namespace, err)
	}
	return events.Items, nil
}

// tellCause makes the cause the row's detail. A cause without a reason is dropped.
func (r *Row) tellCause() {
	switch {
	case r.Cause == nil:
	case r.Cause.Reason == "":
		r.Cause = nil
	default:
		r.Detail, r.rank = r.Cause.line(), heldUp
		if r.Cause.Pod != r.Pod && r.Pod != "" {
			r.Detail = "pod " + r.Cause.Pod + ": " + r.Detail
		}
	}
}

// line puts into words a cause that has only one of our own reasons.
func (c *Cause) line() string {
	said := c.Cause
	switch said.Reason {
	case view.NotStarted:
		said.Reason, said.Message = "Running", "its startup probe has not succeeded yet"
	case view.NotReady:
		if said.Init {
			said.Reason, said.Message = "Running", "it has not ended yet"
			break
		}
		said.Reason, said.Message = "Running", "it is not ready, and no failed probe has been reported"
	}
	return said.String()
}
