package lookout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/fleetmap"
	"everynode/internal/fleetview"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/why"
)

// memory is what is remembered of a DaemonSet for the pages that show it.
type memory struct {
	ids       map[finding]int // of findings, for as long as they last
	lastID    int
	lastPhase string             // the last phase that was seen
	moments   []fleetview.Moment // seen by this process, the oldest first
}

// maxMoments is how many moments a page shows, and how many of those seen are remembered.
const maxMoments = 30

// sight is what a page shows of one DaemonSet.
type sight struct {
	*painter
	*frame
	wave map[string]uint8 // by node
}

// frame is what the Sets of a fleet share: the places of nodes, and the numbers of reasons.
type frame struct {
	places  map[string]int // by node
	size    int
	numbers map[string]uint8 // by reason
}

// sight returns what a page shows of the rows, and when it changes only because time passes. The caller holds the
// lock.
func (l *Lookout) sight(f *frame, rows []why.Row, now time.Time) (*fleetview.Set, time.Time) {
	p := newPainter(l, now, true)
	p.paint(rows)
	l.asked = p.questions
	s := &sight{p, f, map[string]uint8{}}
	set := &fleetview.Set{Head: s.head(), Findings: s.list()}
	s.waves(&set.Head)
	set.Cells = s.cells()
	s.remember(&set.Head)
	set.History = s.history()
	return set, p.out.WakeAt
}

func (s *sight) head() fleetview.Head {
	m := &s.out.Model
	h := fleetview.Head{Namespace: s.namespace, Name: s.name, Revision: m.Revision, Before: m.Before, Phase: m.Phase, Stopped: s.out.Stopped,
		Strategy: string(s.set.Spec.UpdateStrategy.Type), More: m.More, Release: s.standing(), Pods: map[string]int{}}
	for _, p := range s.pods {
		if p.DeletionTimestamp == nil {
			h.Pods[p.Labels[appsv1.ControllerRevisionHashLabelKey]]++
		}
	}
	if h.Release != nil {
		h.Phase = h.Release.Phase
		if h.Release.Wave != "" {
			h.Phase += " in wave " + h.Release.Wave
		}
	}
	if b := s.scene.Budget(); b.MaxUnavailable+b.MaxSurge > 0 {
		h.Budget = &fleetview.Budget{MaxUnavailable: b.MaxUnavailable, MaxSurge: b.MaxSurge, Used: b.Used}
	}
	return h
}

// standing is what the controller reports about a release that is not through, or about pods that the guard holds.
func (s *sight) standing() *fleetview.Release {
	if s.rollout == nil {
		return nil
	}
	of, m := &s.rollout.Status, s.out.Model.Rollout
	held := 0
	if of.Guard != nil {
		held = of.Guard.Held
	}
	if m == nil && held == 0 {
		return nil
	}
	r := &fleetview.Release{Number: of.Release, Phase: of.Phase, Reason: of.Reason, Message: of.Message, Stable: of.Stable, Target: of.Target, Quota: of.Quota,
		Eligible: of.Nodes.Eligible, Exposed: of.Nodes.Exposed, Failed: of.Nodes.Failed, Soak: of.Soak, Paused: s.rollout.Spec.Paused, Held: held}
	if m != nil {
		r.Wave, r.Stands = m.Wave, m.Stopped
	}
	if of.Policy != nil {
		r.Policy = of.Policy.Name
	}
	return r
}

// waves adds the steps of the policy to h, and records the step of each node.
func (s *sight) waves(h *fleetview.Head) {
	if s.layout == nil {
		return
	}
	states := map[string]fleetmap.State{}
	for i := range s.spots {
		states[s.spots[i].name] = s.spots[i].state
	}
	done := 0
	for i, step := range s.layout.Steps {
		wave := &s.policy.Waves[step.Wave]
		w := fleetview.Wave{Name: nameOf(wave.Name, step.Group), Nodes: step.Quota - done, Approval: wave.Approval, Soak: short(wave.Soak)}
		w.Open = h.Release != nil && h.Release.Wave == w.Name
		for _, name := range s.layout.Order[done:step.Quota] {
			s.wave[name] = uint8(min(i, fleetview.NoWave-1))
			if states[name] == fleetmap.New {
				w.There++
			}
		}
		done = step.Quota
		h.Waves = append(h.Waves, w)
	}
}

func nameOf(wave, group string) string {
	if group == "" {
		return wave
	}
	return wave + "/" + group
}

// short formats a duration without zero units at the end: 10m and not 10m0s. Zero is "".
func short(d time.Duration) string {
	if d == 0 {
		return ""
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// cells returns one cell for each place, also for places without a node.
func (s *sight) cells() fleetview.Cells {
	cells := make(fleetview.Cells, s.size)
	for i := range cells {
		cells[i].Wave = uint8(fleetview.NoWave)
	}
	for i := range s.spots {
		spot := &s.spots[i]
		place, there := s.places[spot.name]
		if !there {
			continue
		}
		c := &cells[place]
		c.State, c.Reason = fleetview.CellState(spot.state), s.numbers[spot.why]
		if wave, in := s.wave[spot.name]; in {
			c.Wave = wave
		}
	}
	return cells
}

// list returns the findings.
func (s *sight) list() []fleetview.Finding {
	all := []fleetview.Finding{}
	ids := map[finding]int{}
	for i, f := range s.order {
		if i >= maxExceptions {
			break
		}
		id, known := s.ids[f]
		if !known {
			s.lastID++
			id = s.lastID
		}
		ids[f] = id
		e := s.findings[f]
		one := fleetview.Finding{ID: id, State: int(e.State), Reason: int(s.numbers[e.row.Reason]), Text: e.Text, Node: e.Node, Nodes: 1 + e.Same, Log: hasLog(e.row)}
		if !e.since.IsZero() {
			one.Since = e.since.UnixMilli()
		}
		all = append(all, one)
	}
	s.ids = ids
	fleetview.SortFindings(all)
	return all
}

// hasLog reports whether a container of the row's pod has printed something, or may have.
func hasLog(r *why.Row) bool {
	c := r.Cause
	return c != nil && c.Container != "" && !c.MissesImage() && (c.LastEnd != nil || c.Restarts > 0 || !c.Passing() || c.Reason == "Unhealthy")
}

// remember records a change of the phase.
func (s *sight) remember(h *fleetview.Head) {
	if h.Phase == s.lastPhase {
		return
	}
	if s.lastPhase != "" {
		text := h.Phase
		if h.Release != nil && h.Release.Message != "" {
			text += ": " + h.Release.Message
		}
		s.moments = append(s.moments, fleetview.Moment{At: s.now.UnixMilli(), Kind: "phase", Text: text})
		s.moments = s.moments[max(0, len(s.moments)-maxMoments):]
	}
	s.lastPhase = h.Phase
}

// history is what the cluster has kept of the past, and what this process has seen.
func (s *sight) history() fleetview.History {
	h := fleetview.History{Revisions: []fleetview.Revision{}, Moments: slices.Clone(s.moments)}
	for _, name := range slices.Sorted(maps.Keys(s.revisions)) {
		r := s.revisions[name]
		hash := r.object.Labels[appsv1.ControllerRevisionHashLabelKey]
		v := fleetview.Revision{Number: r.object.Revision, Hash: hash, Created: r.object.CreationTimestamp.UnixMilli(), Images: r.images,
			Cause: r.object.Annotations["kubernetes.io/change-cause"], Is: s.is(hash)}
		h.Revisions = append(h.Revisions, v)
		h.Moments = append(h.Moments, fleetview.Moment{At: v.Created, Kind: "revision", Text: fmt.Sprintf("revision %d (%s): %s", v.Number, hash, strings.Join(v.Images, ", "))})
	}
	slices.SortStableFunc(h.Revisions, func(a, b fleetview.Revision) int { return cmp.Compare(b.Number, a.Number) })
	h.Moments = append(h.Moments, s.ofRelease()...)
	slices.SortStableFunc(h.Moments, func(a, b fleetview.Moment) int { return cmp.Compare(b.At, a.At) })
	h.Moments = h.Moments[:min(len(h.Moments), maxMoments)]
	return h
}

// is returns the revision's role in the release: stable, target, or both.
func (s *sight) is(hash string) string {
	var is []string
	if r := s.rollout; r != nil && hash != "" {
		if r.Status.Stable == hash {
			is = append(is, "stable")
		}
		if r.Status.Target == hash {
			is = append(is, "target")
		}
	}
	return strings.Join(is, ", ")
}

// ofRelease is what the controller has recorded with a time.
func (s *sight) ofRelease() (all []fleetview.Moment) {
	if s.rollout == nil {
		return nil
	}
	of := &s.rollout.Status
	if w := of.Wave; w != nil && w.Opened != nil && of.Phase != rollout.Idle.String() {
		all = append(all, fleetview.Moment{At: w.Opened.UnixMilli(), Kind: "wave", Text: fmt.Sprintf("release %d: wave %s opened", of.Release, nameOf(w.Name, w.Group))})
	}
	for i := range of.Failures {
		f := &of.Failures[i]
		all = append(all, fleetview.Moment{At: f.Since.UnixMilli(), Kind: "failure", Text: strings.TrimSuffix(f.Node+" failed: "+f.Reason+": "+f.Message, ": ")})
	}
	return all
}

// reasonNumbers returns the reasons that cells can have, and their numbers by name.
func reasonNumbers() (all []fleetview.Reason, numbers map[string]uint8) {
	numbers = map[string]uint8{}
	all = append(all, fleetview.Reason{})
	for _, r := range plan.Reasons() {
		numbers[r.String()] = uint8(len(all))
		all = append(all, fleetview.Reason{Name: r.String(), Sentence: r.Sentence()})
	}
	return all, numbers
}
