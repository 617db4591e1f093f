package engine

import (
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// refusedNodes are the nodes on which the API server refuses the pods of one release. They are remembered until such a pod
// exists, however long nothing is tried: they say why the release has stopped.
type refusedNodes struct {
	by    goal
	nodes map[string]refusal
}

// refusal is a row of such answers. Lost answers and those that only ask to wait are not among them, and do not end it.
type refusal struct {
	first, last time.Time
	asked       time.Duration // how long to wait
	what        string
}

func (r refusal) known() plan.Refusal { return plan.Refusal{For: r.last.Sub(r.first), Last: r.last} }

// again returns the row with one more such answer.
func (r refusal) again(now time.Time, asked time.Duration, what string) refusal {
	if r.first.IsZero() || !r.known().Continues(now, r.asked) {
		r.first = now
	}
	return refusal{r.first, now, asked, what}
}

// notice forgets a node that has a pod of the release.
func (r *refusedNodes) notice(node string, pods []*plan.Pod) {
	if slices.ContainsFunc(pods, func(p *plan.Pod) bool {
		return p.Hash == r.by.target && !p.Assumed && p.Deleted.IsZero() && p.Phase != plan.Failed && p.Phase != plan.Succeeded
	}) {
		delete(r.nodes, node)
	}
}

// refuses reports whether the API server, or a webhook that it asks, does not accept the pod. A quota that has no room beside
// the old pod may have some later.
func (w *write) refuses(r *result) bool {
	return r.own || r.fate == delivery.Refused || r.fate == delivery.OverQuota && !w.succeeds
}

// refusedOrNot records that a create of a release's target was refused, or was not.
func (s *state) refusedOrNot(w *write, of *result, err error, now time.Time) {
	if w.create == nil || w.reaches == (releaseID{}) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch by, last := w.goal(), s.refusals.by; {
	case by.release.keeper == last.release.keeper && by.release.number < last.release.number:
		return // it was slow
	case by != last:
		s.refusals = refusedNodes{by: by, nodes: map[string]refusal{}}
	}
	switch {
	case of.fate == delivery.OK:
		delete(s.refusals.nodes, w.node())
	case w.refuses(of):
		s.refusals.nodes[w.node()] = s.refusals.nodes[w.node()].again(now, of.wait, w.blame(err))
	}
}

// refusal returns how the API server refuses the node's pod in the release under way; the zero value: it does not.
func (s *state) refusal(node string) refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by := s.refusals.by; by.release.number == 0 || by != (goal{s.course.reaches(true), s.hash}) {
		return refusal{}
	}
	return s.refusals.nodes[node]
}
