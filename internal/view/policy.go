package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// PolicyAnnotation, on a DaemonSet, names the RolloutPolicy that its releases follow.
const PolicyAnnotation = "everynode.io/rollout-policy"

// The version and kind of a RolloutPolicy.
const (
	PolicyVersion = "everynode.io/v1alpha1"
	PolicyKind    = "RolloutPolicy"
)

// RolloutPolicy is how releases of DaemonSets are rolled out, as people write it. Every field of its spec is
// optional.
type RolloutPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RolloutPolicySpec `json:"spec"`
}

// RolloutPolicySpec is the spec of a RolloutPolicy: see rollout.Policy.
type RolloutPolicySpec struct {
	// DaemonSets selects the DaemonSets that follow the policy. If it is left out, those that name the policy
	// follow it: see PolicyAnnotation.
	DaemonSets *PolicySubjects `json:"daemonSets,omitempty"`
	Waves      []PolicyWave    `json:"waves,omitempty"`
	Failure    *PolicyFailure  `json:"failure,omitempty"`
	Windows    []PolicyWindow  `json:"windows,omitempty"`
	Guard      *PolicyGuard    `json:"guard,omitempty"`
}

// PolicySubjects select DaemonSets by namespace, by label, or by both.
type PolicySubjects struct {
	Namespaces []string              `json:"namespaces,omitempty"`
	Selector   *metav1.LabelSelector `json:"selector,omitempty"`
}

// PolicyWave is a rollout.Wave.
type PolicyWave struct {
	Name       string             `json:"name"`
	Nodes      intstr.IntOrString `json:"nodes"`
	Prefer     *PolicyLabels      `json:"prefer,omitempty"`
	Cover      []string           `json:"cover,omitempty"`
	Soak       metav1.Duration    `json:"soak,omitempty"`
	Approval   bool               `json:"approval,omitempty"`
	OneAtATime string             `json:"oneAtATime,omitempty"`
}

// PolicyLabels are labels that a node must have.
type PolicyLabels struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// PolicyFailure is a rollout.Failure. Then is "Pause" or "Rollback".
type PolicyFailure struct {
	Nodes       *intstr.IntOrString `json:"nodes,omitempty"`
	StartWithin *metav1.Duration    `json:"startWithin,omitempty"`
	Restarts    *int32              `json:"restarts,omitempty"`
	Then        string              `json:"then,omitempty"`
}

// PolicyWindow is a rollout.Window. Days are Mon to Sun, From and To are HH:MM, TimeZone is a name of the IANA
// database.
type PolicyWindow struct {
	Days     []string `json:"days,omitempty"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	TimeZone string   `json:"timeZone"`
}

// PolicyGuard limits how many pods changes of labels and taints may remove.
type PolicyGuard struct {
	Removals *intstr.IntOrString `json:"removals,omitempty"`
}

// Policy converts a RolloutPolicy. wrong has a sentence for each field that cannot be parsed or makes no sense; if
// there is any, the policy must not be followed.
func Policy(o *RolloutPolicy) (p rollout.Policy, wrong []string) {
	r := policyReader{}
	p = rollout.Default()
	p.Name, p.Generation = o.Name, o.Generation
	r.subjects(o.Spec.DaemonSets)
	if o.Spec.Waves != nil {
		p.Waves = r.waves(o.Spec.Waves)
	}
	r.failure(&p.Failure, o.Spec.Failure)
	for i := range o.Spec.Windows {
		p.Windows = append(p.Windows, r.window(fmt.Sprintf("spec.windows[%d]", i), &o.Spec.Windows[i]))
	}
	if g := o.Spec.Guard; g != nil && g.Removals != nil {
		p.Removals = r.amount("spec.guard.removals", *g.Removals)
	}
	unread := slices.Clone(r.wrong)
	for _, sentence := range p.Check() {
		// A field that could not be parsed is reported once.
		field, _, _ := strings.Cut(sentence, ": ")
		if !slices.ContainsFunc(unread, func(said string) bool { return strings.HasPrefix(said, field) }) {
			r.say("%s", sentence)
		}
	}
	return p, r.wrong
}

// Chooses reports whether releases of the DaemonSet follow the policy. A policy that the DaemonSet names wins over
// all policies that would select it.
func (o *RolloutPolicy) Chooses(ds *appsv1.DaemonSet) bool {
	if name, named := ds.Annotations[PolicyAnnotation]; named {
		return name == o.Name
	}
	s := o.Spec.DaemonSets
	if s == nil {
		return false
	}
	selector := labels.Everything()
	if s.Selector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(s.Selector); err != nil {
			return false // Policy reports this
		}
	}
	return selector.Matches(labels.Set(ds.Labels)) && (len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, ds.Namespace))
}

// policyReader collects what is wrong.
type policyReader struct{ wrong []string }

func (r *policyReader) say(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

func (r *policyReader) subjects(s *PolicySubjects) {
	if s == nil {
		return
	}
	if _, err := metav1.LabelSelectorAsSelector(s.Selector); err != nil {
		r.say("spec.daemonSets.selector: %v", err)
	}
	if len(s.Namespaces) == 0 && (s.Selector == nil || len(s.Selector.MatchLabels) == 0 && !slices.ContainsFunc(s.Selector.MatchExpressions, requiresLabel)) {
		r.say("spec.daemonSets: it chooses every DaemonSet, or every one without certain labels, including that of the network plugin; "+
			"give namespaces, or labels that they must have, or leave the field out and annotate DaemonSets with %s", PolicyAnnotation)
	}
}

func requiresLabel(r metav1.LabelSelectorRequirement) bool {
	return r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpExists
}

func (r *policyReader) waves(given []PolicyWave) []rollout.Wave {
	waves := make([]rollout.Wave, len(given))
	for i := range given {
		g := &given[i]
		waves[i] = rollout.Wave{Name: g.Name, Nodes: r.amount(fmt.Sprintf("spec.waves[%d].nodes", i), g.Nodes),
			Cover: g.Cover, Soak: g.Soak.Duration, Approval: g.Approval, OneAtATime: g.OneAtATime}
		if g.Prefer != nil {
			waves[i].Prefer = g.Prefer.MatchLabels
		}
		for _, wrong := range validation.IsDNS1123Label(g.Name) {
			r.say("spec.waves[%d].name: %q: %s", i, g.Name, wrong)
		}
		keys := slices.Concat(g.Cover, slices.Sorted(maps.Keys(waves[i].Prefer)))
		if g.OneAtATime != "" {
			keys = append(keys, g.OneAtATime)
		}
		for _, key := range keys {
			for _, wrong := range validation.IsQualifiedName(key) {
				r.say("spec.waves[%d]: %q is not the key of a label: %s", i, key, wrong)
			}
		}
	}
	return waves
}

func (r *policyReader) failure(to *rollout.Failure, given *PolicyFailure) {
	if given == nil {
		return
	}
	if given.Nodes != nil {
		to.Nodes = r.amount("spec.failure.nodes", *given.Nodes)
	}
	if given.StartWithin != nil {
		to.StartWithin = given.StartWithin.Duration
	}
	if given.Restarts != nil {
		to.Restarts = int(*given.Restarts)
	}
	switch given.Then {
	case "", "Pause":
	case "Rollback":
		to.Back = true
	default:
		r.say("spec.failure.then: %q is neither Pause nor Rollback", given.Then)
	}
}

func (r *policyReader) amount(field string, v intstr.IntOrString) plan.Amount {
	a, err := readAmount(v)
	if err != nil {
		r.say("%s: %v", field, err)
	}
	return a
}

func (r *policyReader) window(field string, given *PolicyWindow) rollout.Window {
	w := rollout.Window{From: r.clock(field+".from", given.From), To: r.clock(field+".to", given.To)}
	for _, name := range given.Days {
		d, ok := weekday(name)
		if !ok {
			r.say("%s.days: %q is none of Mon, Tue, Wed, Thu, Fri, Sat, Sun", field, name)
		}
		w.Days = append(w.Days, d)
	}
	var err error
	if w.Zone, err = time.LoadLocation(given.TimeZone); err != nil || given.TimeZone == "" || given.TimeZone == "Local" {
		r.say("%s.timeZone: %q is not the name of a time zone, like Europe/Berlin or UTC", field, given.TimeZone)
	}
	return w
}

func weekday(name string) (time.Weekday, bool) {
	for d := range time.Weekday(7) {
		if name == d.String()[:3] {
			return d, true
		}
	}
	return 0, false
}

// clock parses HH:MM, up to 24:00, as minutes.
func (r *policyReader) clock(field, text string) int {
	t, err := time.Parse("15:04", strings.Replace(text, "24:00", "00:00", 1))
	if err != nil || len(text) != len("15:04") {
		r.say("%s: %q is not a time like 09:00, from 00:00 to 24:00", field, text)
		return 0
	}
	if text == "24:00" {
		return 24 * 60
	}
	return t.Hour()*60 + t.Minute()
}
