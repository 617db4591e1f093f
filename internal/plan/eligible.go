package plan

import (
	"slices"
	"strconv"
)

// Eligibility is whether a template admits a node.
type Eligibility struct {
	// Run means that the node should have a pod, Keep that it may keep the one it has. Run implies Keep.
	Run, Keep bool
	// Reason is why Run is false: NotNamed, NotSelected, AffinityNotMatched, TaintNotTolerated (Keep) or
	// TaintEvicts. NoReason if Run is true.
	Reason Reason
	// Detail is the label or the taint that decided.
	Detail string
}

// nameField is the field that Term.Names asks for.
const nameField = "metadata.name"

// Admits returns whether a pod of the template may run on the node (I2, I3). Resources and ports are not
// considered: they change by the second, the kubelet judges them, and a DaemonSet wants its pod on the node
// anyway.
func (p Placement) Admits(n *Node) Eligibility {
	if p.NodeName != "" && p.NodeName != n.Name {
		return Eligibility{Reason: NotNamed, Detail: p.NodeName}
	}
	if key, ok := p.unselected(n.Labels); ok {
		return Eligibility{Reason: NotSelected, Detail: key + "=" + p.Selector[key]}
	}
	if p.Terms != nil && !slices.ContainsFunc(p.Terms, func(t Term) bool { return t.matches(n) }) {
		return Eligibility{Reason: AffinityNotMatched}
	}
	if t := p.untolerated(n, NoExecute); t != nil {
		return Eligibility{Reason: TaintEvicts, Detail: t.String()}
	}
	if t := p.untolerated(n, NoSchedule); t != nil {
		return Eligibility{Keep: true, Reason: TaintNotTolerated, Detail: t.String()}
	}
	return Eligibility{Run: true, Keep: true}
}

// unselected returns the first key, by name, of the node selector that the labels lack. It goes by name
// because maps have no stable order (I8).
func (p Placement) unselected(labels map[string]string) (key string, found bool) {
	for k, want := range p.Selector {
		if got, ok := labels[k]; ok && got == want {
			continue
		}
		if !found || k < key {
			key, found = k, true
		}
	}
	return key, found
}

// matches reports whether every requirement holds. A term without requirements,
// or with one that cannot be read, matches nothing.
func (t Term) matches(n *Node) bool {
	if len(t.Labels) == 0 && len(t.Names) == 0 {
		return false
	}
	for i := range t.Labels {
		if !t.Labels[i].matchesLabel(n.Labels) {
			return false
		}
	}
	for i := range t.Names {
		if !t.Names[i].matchesName(n.Name) {
			return false
		}
	}
	return true
}

// matchesLabel follows labels.Requirement: NotIn and DoesNotExist hold where
// the key is absent, Gt and Lt only where it holds an integer.
func (r *Requirement) matchesLabel(labels map[string]string) bool {
	got, has := labels[r.Key]
	switch r.Operator {
	case In:
		return has && slices.Contains(r.Values, got)
	case NotIn:
		return !has || !slices.Contains(r.Values, got)
	case Exists:
		return has
	case DoesNotExist:
		return !has
	case Gt, Lt:
		return has && len(r.Values) == 1 && compareInts(r.Operator, got, r.Values[0])
	default:
		return false
	}
}

// matchesName follows fields.Selector, for which an unknown field is empty.
func (r *Requirement) matchesName(name string) bool {
	if len(r.Values) != 1 {
		return false
	}
	if r.Key != "" && r.Key != nameField {
		name = ""
	}
	switch r.Operator {
	case In:
		return name == r.Values[0]
	case NotIn:
		return name != r.Values[0]
	default:
		return false
	}
}

func compareInts(op Operator, got, want string) bool {
	g, err := strconv.ParseInt(got, 10, 64)
	if err != nil {
		return false
	}
	w, err := strconv.ParseInt(want, 10, 64)
	if err != nil {
		return false
	}
	if op == Gt {
		return g > w
	}
	return g < w
}

// untolerated returns the first taint of that effect that nothing tolerates.
func (p Placement) untolerated(n *Node, effect Effect) *Taint {
	for i := range n.Taints {
		t := &n.Taints[i]
		if t.Effect == effect && !slices.ContainsFunc(p.Tolerations, func(o Toleration) bool { return o.tolerates(t) }) {
			return t
		}
	}
	return nil
}

// tolerates follows core/v1: an empty key tolerates every key, AnyEffect every
// effect. Gt and Lt compare the taint's value to the toleration's.
func (o Toleration) tolerates(t *Taint) bool {
	switch {
	case o.Effect != AnyEffect && o.Effect != t.Effect:
		return false
	case o.Key != "" && o.Key != t.Key:
		return false
	case o.Exists:
		return true
	case o.Compare == Gt || o.Compare == Lt:
		return canonical(o.Value) && canonical(t.Value) && compareInts(o.Compare, t.Value, o.Value)
	default:
		return o.Value == t.Value
	}
}

// canonical reports whether s is an integer as it would be printed. Tolerations
// are strict where node affinity is not: "007" and "+7" are not numbers here.
func canonical(s string) bool {
	v, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(v, 10) == s
}

// String returns the taint as kubectl writes it: key=value:Effect.
func (t *Taint) String() string {
	s := t.Key
	if t.Value != "" {
		s += "=" + t.Value
	}
	return s + ":" + t.Effect.String()
}

// String returns the effect's name in core/v1; empty for AnyEffect.
func (e Effect) String() string {
	switch e {
	case NoSchedule:
		return "NoSchedule"
	case PreferNoSchedule:
		return "PreferNoSchedule"
	case NoExecute:
		return "NoExecute"
	default:
		return ""
	}
}
