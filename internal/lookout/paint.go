package lookout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/fleetmap"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/why"
)

// painter makes a picture of rows.
type painter struct {
	*Lookout
	policy  *rollout.Policy // nodes are in its order; nil: by name
	now     time.Time
	patient bool

	out       Picture
	spots     []spot
	findings  map[finding]*found
	order     []finding
	layout    *rollout.Layout // of the policy; nil without one
	before    map[string]int  // pods of other revisions, by hash
	questions []why.Row

	pending, byHand int // nodes that do not have the revision yet, and those of them where somebody must delete a pod
}

// spot is a node on the map.
type spot struct {
	*node
	name  string
	state fleetmap.State
	meant bool
	why   string // the reason
}

// finding is a problem that several nodes may share.
type finding struct {
	state fleetmap.State
	text  string
}

// found is a finding's first node with how many others share it, and what is known about that node.
type found struct {
	fleetmap.Exception
	since time.Time
	row   *why.Row
}

// step is the last state of a node, and since when.
type step struct {
	what  string
	since time.Time
}

// patience is how long a node may be on its way before it is reported.
const patience = time.Minute

// maxExceptions is how many findings a picture has.
const maxExceptions = 10

func (p *painter) paint(rows []why.Row) {
	for i := range rows {
		p.add(&rows[i])
	}
	m := &p.out.Model
	m.Rollout = p.release()
	p.out.Revision, p.out.Done = p.scene.Revision(), p.pending == 0 && p.out.Stopped == "" && m.Rollout == nil
	m.Set, m.Revision, m.Stale, m.Hidden = p.namespace+"/"+p.name, p.out.Revision, p.stale(), p.leftOut()
	m.Command = fmt.Sprintf("everynode why ds/%s -n %s --not-ok", p.name, p.namespace)
	m.Before = slices.SortedFunc(maps.Keys(p.before), func(a, b string) int {
		return cmp.Or(cmp.Compare(p.before[b], p.before[a]), cmp.Compare(a, b))
	})
	m.Phase = p.phase()
	p.place()
	slices.SortStableFunc(p.order, func(a, b finding) int { return cmp.Compare(b.state, a.state) })
	for i, f := range p.order {
		if e := p.findings[f]; i < maxExceptions {
			m.Exceptions = append(m.Exceptions, e.Exception)
		} else {
			m.More += 1 + e.Same
		}
	}
}

// phase describes the state of the update in a few words.
func (p *painter) phase() string {
	switch {
	case p.out.Stopped != "":
		return "does nothing"
	case p.pending == 0:
		return "up to date"
	case p.byHand == p.pending:
		return "waits until pods are deleted (OnDelete)"
	case len(p.before) > 0:
		return "updating"
	}
	return "not all up"
}

func (p *painter) add(r *why.Row) {
	n, there := p.nodes[r.Node]
	if !there {
		return // pods of a deleted node
	}
	asked := *r
	r = p.heard(r)
	s := spot{&n, r.Node, p.stateOf(r, &n), r.Desired, r.Reason}
	p.spots = append(p.spots, s)
	if r.Until != nil {
		p.wake(*r.Until)
	}
	switch r.Reason {
	case plan.SetDeleted.String(), plan.SelectsAll.String(), plan.InvalidSpec.String():
		p.out.Stopped = r.Reason + ": " + r.Why
	}
	if hash, older := p.older(r); older {
		p.before[hash]++
	}
	switch s.state {
	case fleetmap.New:
		p.out.There++
	case fleetmap.Old, fleetmap.Starting, fleetmap.Waiting, fleetmap.Failing:
		if p.pending++; r.Reason == plan.WaitingForDeletion.String() {
			p.byHand++
		}
	}
	if p.find(r, &s) && s.state != fleetmap.Down {
		p.questions = append(p.questions, asked)
	}
}

func (p *painter) wake(at time.Time) {
	if at.After(p.now) && (p.out.WakeAt.IsZero() || at.Before(p.out.WakeAt)) {
		p.out.WakeAt = at
	}
}

// older reports whether the node's pod is of a revision other than the current one. While a release goes back, the
// node should have such a pod, but on the map it is still an old one.
func (p *painter) older(r *why.Row) (hash string, older bool) {
	pod := p.pods[r.Pod]
	if pod == nil {
		return "", false
	}
	hash = pod.Labels[appsv1.ControllerRevisionHashLabelKey]
	return hash, hash != p.scene.Revision() && (hash != "" || !r.Updated)
}

// stateOf is what the map shows for a node.
func (p *painter) stateOf(r *why.Row, n *node) fleetmap.State {
	_, older := p.older(r)
	starting := slices.Contains([]string{plan.Starting.String(), plan.MinReadyWait.String(), plan.ChangingInPlace.String()}, r.Reason)
	switch {
	case !r.Desired && r.Pod == "":
		return fleetmap.NotMeant
	case !n.Ready:
		return fleetmap.Down
	case r.Reason == plan.UpToDate.String() && !older:
		return fleetmap.New
	case fails(r) || starting && r.Updated && p.late(r):
		return fleetmap.Failing
	case starting:
		return fleetmap.Starting
	case r.Available && r.Updated && !older:
		return fleetmap.New
	case r.Available:
		return fleetmap.Old
	}
	return fleetmap.Waiting
}

// fails reports whether the node's pod cannot run or does not keep running, or cannot be created.
func fails(r *why.Row) bool {
	switch r.Reason {
	case plan.NotReady.String(), plan.BackingOff.String(), plan.PodsDoNotLast.String(), plan.WriteFailed.String(),
		plan.PodFailed.String(), plan.PodSucceeded.String(), plan.PodRefused.String():
		return true
	}
	return r.Cause != nil && !r.Cause.Passing()
}

// late reports whether a pod has used up the time that the policy allows for it to become available.
func (p *painter) late(r *why.Row) bool {
	within := rollout.Default().Failure.StartWithin
	if p.policy != nil {
		within = p.policy.Failure.StartWithin
	}
	if r.Reason != plan.Starting.String() || r.Since == nil || within <= 0 {
		return false
	}
	p.wake(r.Since.Add(within))
	return !p.now.Before(r.Since.Add(within))
}

// find adds a finding if the node needs a look, and reports whether it did.
func (p *painter) find(r *why.Row, s *spot) bool {
	since := p.since(r, s)
	text := r.Reason + ": " + cmp.Or(r.Detail, r.Why)
	switch s.state {
	case fleetmap.Down:
		text = "the node is not Ready: " + s.said
	case fleetmap.Failing:
	case fleetmap.Starting, fleetmap.Waiting:
		if p.patient && p.now.Sub(since) < patience {
			p.wake(since.Add(patience))
			return false
		}
	default:
		return false
	}
	f := finding{s.state, text}
	if e := p.findings[f]; e != nil {
		e.Same++
		return true
	}
	p.order = append(p.order, f)
	p.findings[f] = &found{fleetmap.Exception{Node: r.Node, State: s.state, Since: clock(since, p.now), Text: text}, since, r}
	return true
}

// since is when the node reached its state: as the API has it, or else as this process has seen it.
func (p *painter) since(r *why.Row, s *spot) time.Time {
	what := fmt.Sprintf("%s %s %d", r.Reason, r.Pod, s.state)
	if p.reached[r.Node].what != what {
		p.reached[r.Node] = step{what, p.now}
	}
	written := r.Since != nil && (s.state == fleetmap.Starting || s.state == fleetmap.Failing || r.Reason == plan.WaitingForTermination.String())
	switch {
	case s.state == fleetmap.Down:
		return s.ReadyChanged
	case written:
		return *r.Since
	}
	return p.reached[r.Node].since
}

// noZone is the row of nodes without a zone, if others have one.
const noZone = "(no zone)"

// place sorts the nodes into zones, in the order in which a release reaches them.
func (p *painter) place() {
	rank := p.ranks()
	slices.SortFunc(p.spots, func(a, b spot) int {
		return cmp.Or(atEnd(a.zone == "", b.zone == ""), why.Naturally(a.zone, b.zone), cmp.Compare(rank(&a), rank(&b)), why.Naturally(a.name, b.name))
	})
	zones := []fleetmap.Zone{}
	for i := range p.spots {
		s := &p.spots[i]
		if n := len(zones); n == 0 || zones[n-1].Name != s.zone {
			zones = append(zones, fleetmap.Zone{Name: s.zone})
		}
		last := &zones[len(zones)-1]
		last.Nodes = append(last.Nodes, s.state)
	}
	if n := len(zones); n > 1 && zones[n-1].Name == "" {
		zones[n-1].Name = noZone
	}
	p.out.Model.Zones = zones
}

func atEnd(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// ranks returns each node's place in the order of a release. That is the order of the policy's waves while no node is
// down and none was reached, so that nodes keep their places. Without a policy all ranks are equal. Nodes that should
// not have a pod come last.
func (p *painter) ranks() func(*spot) int {
	rank := map[string]int{}
	if p.policy != nil {
		var nodes []rollout.Node
		states := map[string]fleetmap.State{}
		for i := range p.spots {
			if s := &p.spots[i]; s.meant {
				nodes = append(nodes, rollout.Node{Name: s.name, Labels: s.Labels})
				states[s.name] = s.state
			}
		}
		layout := rollout.NewLayout(p.policy, string(p.uid), nodes)
		p.layout = layout
		for i, name := range layout.Order {
			rank[name] = i
		}
		if p.given != nil || p.out.Model.Rollout != nil { // otherwise there is no release in waves
			p.waves(layout, states)
		}
	}
	return func(s *spot) int {
		if !s.meant {
			return len(p.spots)
		}
		return rank[s.name]
	}
}

func (p *painter) waves(layout *rollout.Layout, states map[string]fleetmap.State) {
	done := 0
	for _, step := range layout.Steps {
		w := fleetmap.Wave{Name: p.policy.Waves[step.Wave].Name, Nodes: step.Quota - done}
		if step.Group != "" {
			w.Name += "/" + step.Group
		}
		for _, name := range layout.Order[done:step.Quota] {
			if states[name] == fleetmap.New {
				w.There++
			}
		}
		if done = step.Quota; w.Nodes > 0 {
			p.out.Model.Waves = append(p.out.Model.Waves, w)
		}
	}
}

// leftOut says what is left out because the user may not read it. Who has no release has no waves either.
func (p *painter) leftOut() string {
	if p.rollouts != nil && p.rollout == nil {
		return ""
	}
	return p.hidden
}
