package view

import (
	"math"
	"strconv"
	"time"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
)

// Node returns what the algorithm needs to know about the node. It is a copy, and shares the strings of labels
// with other nodes that have the same.
func Node(n *corev1.Node) plan.Node {
	out := plan.Node{
		Name:   n.Name,
		UID:    string(n.UID),
		Labels: shared(n.Labels),
		// A node that has never reported whether it is ready counts as not ready since it was created.
		ReadyChanged: n.CreationTimestamp.Time,
		NeverReady:   true,
	}
	for _, t := range n.Spec.Taints {
		// A taint of unknown effect has no effect.
		if e := effect(t.Effect); e != plan.AnyEffect {
			out.Taints = append(out.Taints, plan.Taint{Key: t.Key, Value: t.Value, Effect: e})
		}
	}
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		if leaves(c) {
			out.Leaving = true
		}
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
			out.ReadyChanged = c.LastTransitionTime.Time
			out.NeverReady = !out.Ready && neverReady(n, c)
		}
	}
	return out
}

// registrationSlack is how far from its creation a registering node may write that it is not Ready. That time is
// by the kubelet's clock, and the creation by the API server's. If they are further apart, the node may have
// been Ready.
const registrationSlack = 5 * time.Second

// neverReady reports whether a node that is not Ready has never been Ready. A kubelet writes all of its
// conditions when it registers. If it says that the node is not Ready, and since the same moment as the oldest
// of the other conditions, it wrote that when it registered, whatever its clock shows. In the node's first
// minutes this may be wrong: the node controller changes all conditions when it has not heard from the kubelet
// for a while, and the kubelet does so, too, when it is back.
func neverReady(n *corev1.Node, ready *corev1.NodeCondition) bool {
	since := ready.LastTransitionTime.Time
	age := since.Sub(n.CreationTimestamp.Time).Abs()
	if age <= registrationSlack {
		return true
	}
	oldest := time.Time{}
	for i := range n.Status.Conditions {
		switch c := &n.Status.Conditions[i]; c.Type {
		case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure:
			if at := c.LastTransitionTime.Time; oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
		}
	}
	return ready.Status == corev1.ConditionFalse && age <= plan.ClockMargin && since.Sub(oldest).Abs() <= sameMoment
}

// sameMoment is how far apart times may be that a kubelet writes together.
const sameMoment = 2 * time.Second

// leaves reports whether the node has announced that what happens to its pods is intended: it is being shut
// down, drained or maintained. The names are those of the kubelet and of Kubernetes' drafts for draining and
// maintenance.
func leaves(c *corev1.NodeCondition) bool {
	switch c.Type {
	case "GracefulNodeShutdownInProgress", "DrainInProgress", "MaintenanceInProgress":
		return c.Status == corev1.ConditionTrue
	}
	return false
}

// shared copies labels, and shares their strings.
func shared(labels map[string]string) map[string]string {
	if labels == nil {
		return nil
	}
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		out[unique.Make(k).Value()] = unique.Make(v).Value()
	}
	return out
}

// Pod returns what the algorithm needs to know about the pod. It is a copy.
func Pod(p *corev1.Pod) plan.Pod {
	out := plan.Pod{
		Name:       p.Name,
		UID:        string(p.UID),
		Node:       TargetNode(p),
		Bound:      p.Spec.NodeName != "",
		Hash:       p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey],
		Generation: podGeneration(p),
		Phase:      phase(p.Status.Phase),
		Created:    p.CreationTimestamp.Time,
		Refused:    refused(&p.Status),
		Disruptor:  disruptor(&p.Status),
	}
	readiness(&p.Status, &out)
	starts(&p.Status, &out)
	changedInPlace(p, &out)
	if p.DeletionTimestamp != nil {
		out.Deleted = p.DeletionTimestamp.Time
		if g := p.DeletionGracePeriodSeconds; g != nil {
			// The timestamp is the end of the grace period.
			out.Deleted = out.Deleted.Add(-time.Duration(*g) * time.Second)
			out.Forced = *g == 0
		}
	}
	return out
}

// TargetNode returns the node that the pod runs on, or, if it is not bound, the one that its affinity names.
// Empty if it names none.
func TargetNode(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	node, _ := namedByAffinity(p)
	return node
}

// ForScheduler reports whether the pod was made for the scheduler to bind: its affinity names the node.
// Kubernetes' controller writes that into every pod, NewPod only into those that the scheduler must place.
func ForScheduler(p *corev1.Pod) bool {
	_, is := namedByAffinity(p)
	return is
}

// namedByAffinity returns the node that the required affinity names by its field, and whether it names any. node
// is empty if it names more than one: we must not choose.
func namedByAffinity(p *corev1.Pod) (node string, named bool) {
	required := requiredAffinity(p.Spec.Affinity)
	if required == nil {
		return "", false
	}
	for i := range required.NodeSelectorTerms {
		for _, r := range required.NodeSelectorTerms[i].MatchFields {
			if r.Key != metav1.ObjectNameField || r.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			if len(r.Values) != 1 {
				return "", true
			}
			return r.Values[0], true
		}
	}
	return "", false
}

// podGeneration reads the label as upstream compares it: as a string.
func podGeneration(p *corev1.Pod) int64 {
	label := p.Labels[extensionsv1beta1.DaemonSetTemplateGenerationKey]
	g, err := strconv.ParseInt(label, 10, 64)
	if err != nil || strconv.FormatInt(g, 10) != label {
		return 0
	}
	return g
}

func phase(p corev1.PodPhase) plan.Phase {
	switch p {
	case corev1.PodSucceeded:
		return plan.Succeeded
	case corev1.PodFailed:
		return plan.Failed
	case corev1.PodRunning, corev1.PodUnknown:
		return plan.Running // an unknown phase may mean that it runs
	default:
		return plan.Pending
	}
}

// startupSlack is how long after its start the first status of a pod may say that it is not ready yet. Times in
// the API are whole seconds.
const startupSlack = 2 * time.Second

func readiness(s *corev1.PodStatus, out *plan.Pod) {
	c := readyCondition(s)
	if c == nil {
		return
	}
	if out.Ready = c.Status == corev1.ConditionTrue; out.Ready {
		out.ReadySince = c.LastTransitionTime.Time
		return
	}
	// The condition exists, and is not true, from the pod's first status on. It has changed later only if it was
	// true in between.
	out.WasReady = s.StartTime != nil && c.LastTransitionTime.Sub(s.StartTime.Time) > startupSlack
}

// starts reads how often a pod's containers have restarted, and whether one of them can never start.
func starts(s *corev1.PodStatus, out *plan.Pod) {
	for _, all := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range all {
			c := &all[i]
			out.Restarts = max(out.Restarts, uint8(min(c.RestartCount, math.MaxUint8)))
			out.Stuck = out.Stuck || c.State.Waiting != nil && stuck(c.State.Waiting.Reason)
		}
	}
}

// stuck reports whether a container that waits for this reason of the kubelet's does not start until somebody
// changes the template, or an object that it names.
func stuck(reason string) bool {
	switch reason {
	case "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError":
		return true
	}
	return false
}

// disruptor returns who will delete the pod, according to its condition DisruptionTarget.
func disruptor(s *corev1.PodStatus) plan.Disruptor {
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Reason {
		case "DeletionByTaintManager":
			return plan.TaintManager
		case "EvictionByEvictionAPI":
			return plan.EvictionAPI
		case corev1.PodReasonPreemptionByScheduler:
			return plan.Preemption
		case "DeletionByPodGC":
			return plan.PodCollector
		case corev1.PodReasonTerminationByKubelet:
			return plan.Kubelet
		default:
			return plan.OtherDisruptor
		}
	}
	return plan.Unannounced
}
