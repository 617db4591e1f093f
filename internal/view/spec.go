package view

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
)

// Spec returns what the DaemonSet asks for. hash is the controller-revision-hash of its current revision. For
// a DaemonSet that must not be acted on, or that cannot be read, Halt is set, and HaltDetail says what is
// wrong. The API server accepts no such DaemonSet, but a webhook, a version skew or an edit in etcd may
// produce one.
//
// Scheduled is what the DaemonSet alone says. Binding.Scheduled also takes into account the runtime classes
// and what the engine was started with.
func Spec(ds *appsv1.DaemonSet, hash string) plan.Spec {
	set := plan.Spec{
		Placement:  placement(&ds.Spec.Template.Spec),
		MinReady:   time.Duration(ds.Spec.MinReadySeconds) * time.Second,
		Hash:       hash,
		Generation: Generation(ds),
	}
	// The code that acts on the annotation reports what is wrong with it.
	set.Scheduled, _ = Binding{}.Scheduled(ds)
	if err := strategy(ds.Spec.UpdateStrategy, &set); err != nil {
		set.Halt, set.HaltDetail = plan.InvalidSpec, err.Error()
	}
	if halt, detail := halted(ds, hash); halt != plan.NoReason {
		set.Halt, set.HaltDetail = halt, detail
	}
	return set
}

// halted returns why the DaemonSet must not be acted on; NoReason if it may be. A DaemonSet whose selector
// does not match its own pods would create pods without end, because the controller would not find any of them
// again. Pods have the labels of the template and two more.
func halted(ds *appsv1.DaemonSet, hash string) (plan.Reason, string) {
	if ds.DeletionTimestamp != nil {
		return plan.SetDeleted, ""
	}
	s := ds.Spec.Selector
	if s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return plan.SelectsAll, ""
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	switch {
	case err != nil:
		return plan.InvalidSpec, "spec.selector: " + err.Error()
	case !selector.Matches(labels.Set(ds.Spec.Template.Labels)):
		return plan.InvalidSpec, "spec.selector does not match the labels of spec.template"
	case !selector.Matches(labels.Set(podLabels(ds, hashAsked(ds, selector, hash)))):
		return plan.InvalidSpec, "spec.selector asks for a value of " + appsv1.DefaultDaemonSetUniqueLabelKey + " or " +
			extensionsv1beta1.DaemonSetTemplateGenerationKey + ", but every daemon pod gets another value of that label"
	default:
		return plan.NoReason, ""
	}
}

// hashAsked returns the hash that pods will have, if the selector asks for it: while no revision is known,
// that of the next one.
func hashAsked(ds *appsv1.DaemonSet, selector labels.Selector, hash string) string {
	requirements, _ := selector.Requirements()
	asks := slices.ContainsFunc(requirements, func(r labels.Requirement) bool { return r.Key() == appsv1.DefaultDaemonSetUniqueLabelKey })
	if hash == "" && asks {
		return TemplateHash(&ds.Spec.Template, ds.Status.CollisionCount)
	}
	return hash
}

func strategy(s appsv1.DaemonSetUpdateStrategy, set *plan.Spec) (err error) {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		set.Strategy = plan.OnDelete
		if r := s.RollingUpdate; r != nil {
			// The API server keeps this field, and does not validate it. A policy that drives the DaemonSet
			// uses it.
			set.MaxUnavailable, set.MaxSurge = amountOrNone(r.MaxUnavailable), amountOrNone(r.MaxSurge)
		}
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType, "":
		set.Strategy = plan.RollingUpdate
	default:
		return fmt.Errorf("spec.updateStrategy.type %q is neither RollingUpdate nor OnDelete", s.Type)
	}
	if s.RollingUpdate == nil {
		return nil // both zero: one at a time
	}
	if set.MaxUnavailable, err = amount("maxUnavailable", s.RollingUpdate.MaxUnavailable); err != nil {
		return err
	}
	set.MaxSurge, err = amount("maxSurge", s.RollingUpdate.MaxSurge)
	return err
}

// amountOrNone is amount for a value that nobody has validated.
func amountOrNone(v *intstr.IntOrString) plan.Amount {
	a, err := amount("", v)
	if err != nil {
		return plan.Amount{}
	}
	return a
}

// amount parses a number or a percentage; a missing value is zero.
func amount(field string, v *intstr.IntOrString) (plan.Amount, error) {
	if v == nil {
		return plan.Amount{}, nil
	}
	a, err := readAmount(*v)
	if err != nil {
		return plan.Amount{}, fmt.Errorf("spec.updateStrategy.rollingUpdate.%s %w", field, err)
	}
	return a, nil
}

func readAmount(v intstr.IntOrString) (plan.Amount, error) {
	a := plan.Amount{Value: int(v.IntVal)}
	if v.Type == intstr.String {
		digits, ok := strings.CutSuffix(v.StrVal, "%")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil {
			return plan.Amount{}, fmt.Errorf("%q is neither a number nor a percentage", v.StrVal)
		}
		a = plan.Amount{Value: n, Percent: true}
	}
	if a.Value < 0 || a.Value > math.MaxInt32 {
		return plan.Amount{}, fmt.Errorf("%s is out of range", v.String())
	}
	return a, nil
}

// Generation returns the template generation of DaemonSets that still carry one as an annotation; 0 if there
// is none or it is not a number.
func Generation(ds *appsv1.DaemonSet) int64 {
	g, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return g
}

// SpecWritten returns when the DaemonSet's specification was last written, by the API server's clock.
func SpecWritten(ds *appsv1.DaemonSet) (at time.Time, known bool) {
	if ds.Generation <= 1 {
		return ds.CreationTimestamp.Time, !ds.CreationTimestamp.IsZero()
	}
	for _, m := range ds.ManagedFields {
		if m.Subresource == "" && m.Time != nil && m.Time.After(at) {
			at = m.Time.Time
		}
	}
	return at, !at.IsZero()
}

func placement(spec *corev1.PodSpec) plan.Placement {
	p := plan.Placement{
		NodeName:    spec.NodeName,
		Selector:    maps.Clone(spec.NodeSelector),
		Tolerations: tolerations(withDaemonTolerations(spec)),
	}
	if required := requiredAffinity(spec.Affinity); required != nil {
		p.Terms = make([]plan.Term, 0, len(required.NodeSelectorTerms))
		for i := range required.NodeSelectorTerms {
			p.Terms = append(p.Terms, term(&required.NodeSelectorTerms[i]))
		}
	}
	return p
}

func requiredAffinity(a *corev1.Affinity) *corev1.NodeSelector {
	if a == nil || a.NodeAffinity == nil {
		return nil
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// term converts one node selector term. A term that the scheduler would refuse to parse becomes Invalid, and
// matches nothing, as it does there.
func term(t *corev1.NodeSelectorTerm) plan.Term {
	var out plan.Term
	for _, r := range t.MatchExpressions {
		q := requirement(r)
		if !validRequirement(r) {
			q.Operator = plan.Invalid
		}
		out.Labels = append(out.Labels, q)
	}
	for _, r := range t.MatchFields {
		q := requirement(r)
		if len(q.Values) != 1 || q.Operator != plan.In && q.Operator != plan.NotIn {
			q.Operator = plan.Invalid
		}
		out.Names = append(out.Names, q)
	}
	return out
}

func requirement(r corev1.NodeSelectorRequirement) plan.Requirement {
	return plan.Requirement{
		Key:      r.Key,
		Operator: operators()[r.Operator],
		Values:   append([]string(nil), r.Values...),
	}
}

func operators() map[corev1.NodeSelectorOperator]plan.Operator {
	return map[corev1.NodeSelectorOperator]plan.Operator{
		corev1.NodeSelectorOpIn:           plan.In,
		corev1.NodeSelectorOpNotIn:        plan.NotIn,
		corev1.NodeSelectorOpExists:       plan.Exists,
		corev1.NodeSelectorOpDoesNotExist: plan.DoesNotExist,
		corev1.NodeSelectorOpGt:           plan.Gt,
		corev1.NodeSelectorOpLt:           plan.Lt,
	}
}
