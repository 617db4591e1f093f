package view

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"everynode/internal/plan"
)

// validRequirement reports whether the scheduler could parse it.
func validRequirement(r corev1.NodeSelectorRequirement) bool {
	op, ok := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn:           selection.In,
		corev1.NodeSelectorOpNotIn:        selection.NotIn,
		corev1.NodeSelectorOpExists:       selection.Exists,
		corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		corev1.NodeSelectorOpGt:           selection.GreaterThan,
		corev1.NodeSelectorOpLt:           selection.LessThan,
	}[r.Operator]
	if !ok {
		return false
	}
	_, err := labels.NewRequirement(r.Key, op, r.Values)
	return err == nil
}

// withDaemonTolerations returns the template's tolerations and those that every DaemonSet pod gets, so that a
// node in trouble keeps the pods that may be there to repair it. A toleration that the template already has
// is not added again.
func withDaemonTolerations(spec *corev1.PodSpec) []corev1.Toleration {
	all := slices.Clone(spec.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		found := false
		for i := range all {
			// One with a time limit is replaced.
			if all[i].MatchToleration(&t) {
				all[i], found = t, true
			}
		}
		if !found {
			all = append(all, t)
		}
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return all
}

// tolerations leaves out what cannot match: an unknown operator or effect.
//
// Gt and Lt are always honoured. Kubernetes has a feature gate for them, but while it is off the API server
// does not store them.
func tolerations(in []corev1.Toleration) []plan.Toleration {
	out := make([]plan.Toleration, 0, len(in))
	for _, t := range in {
		o := plan.Toleration{Key: t.Key, Value: t.Value, Effect: effect(t.Effect)}
		if o.Effect == plan.AnyEffect && t.Effect != "" {
			continue
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
		case corev1.TolerationOpExists:
			o.Exists = true
		case corev1.TolerationOpGt:
			o.Compare = plan.Gt
		case corev1.TolerationOpLt:
			o.Compare = plan.Lt
		default:
			continue
		}
		out = append(out, o)
	}
	return out
}

func effect(e corev1.TaintEffect) plan.Effect {
	switch e {
	case corev1.TaintEffectNoSchedule:
		return plan.NoSchedule
	case corev1.TaintEffectPreferNoSchedule:
		return plan.PreferNoSchedule
	case corev1.TaintEffectNoExecute:
		return plan.NoExecute
	default:
		return plan.AnyEffect
	}
}
