package audit

import (
	"strings"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// Guard is what keeps an edit of node labels, or of the template's placement, from removing the pods of a DaemonSet.
type Guard struct {
	Namespace string `json:"namespace"`
	DaemonSet string `json:"daemonSet"`
	Policy    string `json:"policy"`
	// Removals is how many pods such edits may remove within an hour, a number or a percentage.
	Removals string `json:"removals"`
}

// Guards returns the guards of the DaemonSets that have one, in the same order. A guard that lets all pods go does
// not count.
func Guards(in *Input) []Guard {
	guards := []Guard{}
	for i := range in.DaemonSets {
		ds := &in.DaemonSets[i]
		s := newSubject(ds, in, in.nodes(), nil)
		if ds.DeletionTimestamp == nil && s.guarded(s.desired) {
			guards = append(guards, Guard{s.namespace(), ds.Name, strings.Join(s.guard.policies, ", "), s.guard.words()})
		}
	}
	return guards
}

// guard is how many pods labels and the placement may remove, by the policies that choose a DaemonSet.
type guard struct {
	policies []string // empty: it follows no policy
	unclear  bool     // several policies, or one that is missing or invalid: then the engine lets nothing go
	removals func(running int) int
	text     string
	// policy is the one that updates follow; nil if there is none, or it is unclear which.
	policy *rollout.Policy
}

func (in *Input) guardOf(s *subject) (g guard) {
	ds := *s.ds
	ds.Namespace = s.namespace()
	for i := range in.Policies {
		o := &in.Policies[i]
		if !o.Chooses(&ds) {
			continue
		}
		p, wrong := view.Policy(o)
		g.policies = append(g.policies, o.Name)
		g.unclear = g.unclear || wrong != nil || len(g.policies) > 1
		g.removals, g.text, g.policy = p.MayRemove, words(p.Removals), &p
	}
	if _, named := ds.Annotations[view.PolicyAnnotation]; named && len(g.policies) == 0 {
		g.unclear = true // the policy that it names does not exist: the engine lets nothing go
	}
	if g.unclear {
		g.policy = nil
	}
	return g
}

func (g *guard) words() string {
	if g.unclear {
		return "0"
	}
	return g.text
}

// guarded reports whether the guard stops an edit that would remove so many pods. If the number of pods is not known,
// any limit below all of them counts.
func (s *subject) guarded(pods int) bool {
	g := &s.guard
	switch {
	case len(g.policies) == 0 || g.unclear:
		return g.unclear
	case !s.known:
		return g.text != "100%"
	}
	return pods > g.removals(s.desired)
}

// judgeGuard is about whether anything stops an edit that would remove all pods.
func (j *judgement) judgeGuard() {
	const so = "an edit of nodeSelector or affinity takes every pod away at once, and so does an edit of the labels that it selects"
	severity := Medium
	switch {
	case j.in.Policies == nil || j.known && j.desired == 0 || j.guarded(j.desired):
		return
	case j.known && j.desired == 1:
		severity = Low
	}
	if len(j.guard.policies) == 0 {
		j.find(Unguarded, severity, j.everywhere(), "it follows no RolloutPolicy: %s", so)
		return
	}
	j.find(Unguarded, severity, j.everywhere(), "guard.removals of RolloutPolicy %s is %s: %s", j.guard.policies[0], j.guard.text, so)
}
