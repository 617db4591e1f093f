package forecast

import (
	"math"
	"slices"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Wave is a step of a release under a policy.
type Wave struct {
	Name  string
	Group string
	// Nodes are the nodes that the step reaches, best rank first; Total is how many nodes have the new revision
	// at its end.
	Nodes []string
	Total int
	// AtATime is how many nodes may be without a pod, or have two, at a time. The release stops when StopsAt
	// nodes have failed.
	AtATime, StopsAt int
	// Opens is when the wave begins. Ends is when all is done and has soaked, if nothing fails, and people approve, and
	// allow what the guard holds, at once. Works is the time in between that is not soak.
	Opens, Ends time.Time
	Works, Soak time.Duration
	// Approval means that after this wave a person has to let the next one begin.
	Approval bool
	// Uncovered are the label combinations from the policy's cover that no node up to this wave has.
	Uncovered []string

	// moved are those of Nodes whose pods wait for the wave, and course is what happens there. Its times count from Opens,
	// without the time in which the windows are closed.
	moved  []string
	course *Forecast
}

// Waves plays the change wave by wave, under a policy. uid is the DaemonSet's UID, from which the ranks of its
// nodes follow. If there is nothing to release, why gives the reason.
func Waves(in *Input, p *rollout.Policy, uid string) (waves []Wave, why string) {
	nodes := in.reachable()
	switch {
	case len(in.Pods) == 0:
		return nil, "the DaemonSet has no pod yet, so there is nothing to lose"
	case len(nodes) == 0:
		return nil, "no node would have a pod after this change"
	case !slices.ContainsFunc(in.Pods, func(p plan.Pod) bool { return p.Hash != in.Set.Hash }):
		return nil, "every pod already has this template"
	}
	layout := rollout.NewLayout(p, uid, nodes)
	set := in.Set
	set.Strategy = plan.RollingUpdate // with a policy the engine deletes outdated pods
	moved, changed := in.moved(), map[string]bool{}
	at, done := in.Now, 0
	for _, s := range layout.Steps {
		for _, name := range layout.Order[done:s.Quota] {
			changed[name] = true
		}
		desired := in.desired(func(name string) bool { return changed[name] })
		most, surge := set.Budget(desired)
		policy, bound := &p.Waves[s.Wave], max(most, surge)
		w := Wave{Name: policy.Name, Group: s.Group, Nodes: layout.Order[done:s.Quota], Total: s.Quota, Soak: policy.Soak, Uncovered: s.Uncovered,
			AtATime: min(bound, s.Quota-done), StopsAt: p.Failure.Allowance(s.Quota, bound) + 1, Approval: policy.Approval}
		w.moved = slices.DeleteFunc(slices.Clone(w.Nodes), func(name string) bool { return !moved[name] })
		w.course = Play(in.wave(w.moved, desired))
		w.Works = w.course.Took
		w.Opens = opens(p, at)
		w.Ends = within(p, w.Opens, w.Works).Add(w.Soak)
		waves = append(waves, w)
		at, done = w.Ends, s.Quota
	}
	return waves, ""
}

// reachable returns the nodes that should run a pod after the change, and those that should until then: those lose it in
// their wave.
func (in *Input) reachable() (nodes []rollout.Node) {
	for i := range in.Nodes {
		n := &in.Nodes[i]
		if in.Set.Placement.Admits(n).Run || in.Before != nil && in.Before.Placement.Admits(n).Run {
			nodes = append(nodes, rollout.Node{Name: n.Name, Labels: n.Labels, Down: !n.Ready || n.Leaving})
		}
	}
	return nodes
}

// desired is how many nodes should run a pod while those that are changed have the change, and the others do not.
func (in *Input) desired(changed func(name string) bool) (nodes int) {
	for i := range in.Nodes {
		n, set := &in.Nodes[i], &in.Set
		if in.Before != nil && !changed(n.Name) {
			set = in.Before
		}
		if set.Placement.Admits(n).Run {
			nodes++
		}
	}
	return nodes
}

// moved is the set of nodes whose pods wait for a wave: not those to which another controller gives a pod, or takes it away,
// as soon as the change is made.
func (in *Input) moved() map[string]bool {
	moved, has := map[string]bool{}, map[string]bool{}
	for i := range in.Pods {
		has[in.Pods[i].Node] = true
	}
	for i := range in.Nodes {
		n := &in.Nodes[i]
		moved[n.Name] = !in.Assisted || has[n.Name] && in.Set.Placement.Admits(n).Run
	}
	return moved
}

// wave returns the change on the nodes of these names, which a release reaches in this order, with the budget of all
// nodes, of which so many should have a pod.
func (in *Input) wave(names []string, of int) *Input {
	ranks := make(map[string]int, len(names))
	for i, name := range names {
		ranks[name] = i
	}
	part := in.part(func(name string) bool { _, ok := ranks[name]; return ok }, of)
	stable := part.Set
	stable.Hash, stable.Generation = "", 0
	if b := in.Before; b != nil {
		stable.Hash, stable.Generation, stable.Placement, stable.Scheduled = b.Hash, b.Generation, b.Placement, b.Scheduled
	}
	// No pod fails in a forecast. StartWithin is zero, so that no time passes in waiting for that.
	part.release = &plan.Release{Number: 1, Stable: stable, Ranks: ranks, Steps: []int{len(names)}, Quota: len(names), Grants: true, Restarts: math.MaxInt32}
	return part
}

// part returns the change on the chosen nodes, with the budget of all nodes, of which so many should have a pod.
func (in *Input) part(chosen func(name string) bool, of int) *Input {
	part := *in
	part.Set.Strategy = plan.RollingUpdate
	most, surge := part.Set.Budget(of)
	part.Set.MaxUnavailable, part.Set.MaxSurge = plan.Amount{Value: most}, plan.Amount{Value: surge}
	part.Nodes = slices.DeleteFunc(slices.Clone(in.Nodes), func(n plan.Node) bool { return !chosen(n.Name) })
	part.Pods = slices.DeleteFunc(slices.Clone(in.Pods), func(p plan.Pod) bool { return !chosen(p.Node) })
	return &part
}

// opens returns the earliest time at which the policy lets nodes begin.
func opens(p *rollout.Policy, at time.Time) time.Time {
	if p.Open(at) {
		return at
	}
	if next := p.Turns(at); !next.IsZero() {
		return next
	}
	return at
}

// within returns when the work is done if it only proceeds in the policy's windows.
func within(p *rollout.Policy, at time.Time, work time.Duration) time.Time {
	for {
		at = opens(p, at)
		closes := p.Turns(at)
		if closes.IsZero() || !at.Add(work).After(closes) {
			return at.Add(work)
		}
		work -= closes.Sub(at)
		at = closes
	}
}
