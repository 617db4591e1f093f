package engine

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// Pods that do not last: package plan says how long the next one waits (plan.Remakes). This file collects what plan
// needs for that.

// remade is what is remembered about a node where a pod was recently created.
type remade struct {
	plan.Remakes
	told uint8 // the count that an event has reported
}

// made records that a pod of that revision was created. Revisions that decisions no longer use are ignored.
func (s *state) made(node, hash string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial.succeeded(now)
	if hash != s.remadeOf {
		return
	}
	if s.remakes == nil {
		s.remakes = map[string]remade{}
	}
	r := s.remakes[node]
	r.Remakes = r.Next(now)
	r.told = min(r.told, r.Again)
	s.remakes[node] = r
}

// remembered returns what is known about a node when a create is decided there.
func (s *state) remembered(node string, now time.Time) plan.Remakes {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.remakes[node]; !r.Expired(now) {
		return r.Remakes
	}
	return plan.Remakes{}
}

// recall handles a create that was under way longer than a pod must live to count as lasting: what was known about the
// node when it was decided has not expired. made says that the pod was created; otherwise it may have been created and
// be gone, and the next one has waited long enough.
func (s *state) recall(w *write, made bool, now time.Time) {
	if w.remade.Last.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.remakes[w.node()]
	if w.edition != s.remadeOf || !r.Expired(now) {
		return
	}
	if s.remakes == nil {
		s.remakes = map[string]remade{}
	}
	r.Remakes = w.remade.Recalled(made, now)
	s.remakes[w.node()] = r
}

// edited forgets the history of the last template's pods: the edit may end the trouble.
func (s *state) edited(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remadeOf != hash {
		s.remadeOf, s.remakes = hash, nil
	}
}

// notice remembers what happens to the pod that was last created on a node, and that a release has a pod there.
func (s *state) notice(node string, pods []*plan.Pod, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, known := s.remakes[node]; known {
		r.Remakes = r.Noticed(pods, now)
		s.remakes[node] = r
	}
	s.refusals.notice(node, pods)
}

// tellRemakes returns what an event must report about the node, once for each pause.
func (s *state) tellRemakes(node string) (plan.Remakes, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.remakes[node]
	if !known || r.told == r.Again {
		return plan.Remakes{}, false
	}
	r.told = r.Again
	s.remakes[node] = r
	return r.Remakes, true
}

// pauses makes sure that a change of the node leads to a try soon, and reports the problem on the DaemonSet.
func (e *engine) pauses(ds *appsv1.DaemonSet, st *state, v *plan.Verdict) {
	e.index.heed(string(ds.UID), v.Node, st.now)
	if r, is := st.tellRemakes(v.Node); is {
		e.events.doNotLast(ds, v, r, v.Until.Sub(st.now))
	}
}

// doNotLast reports that a node's pods are deleted, or changed, as soon as they appear.
func (r *recorder) doNotLast(ds *appsv1.DaemonSet, v *plan.Verdict, of plan.Remakes, pause time.Duration) {
	r.event(ds, corev1.EventTypeWarning, v.Reason.String(), "%s", view.NotLastText(v.Node, int(of.Again), v.Detail, pause))
}

// heed makes the DaemonSet look at the node after any change of it: things that plan.Placement does not read may
// matter to whatever deletes its pods. A change since the decision counts.
func (ix *index) heed(owner, node string, since time.Time) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	o, n := ix.owned[owner], ix.nodes[node]
	switch {
	case o == nil || n == nil:
	case n.Changed.After(since):
		ix.mark(o, node)
	default:
		if o.heeds == nil {
			o.heeds = map[string]struct{}{}
		}
		o.heeds[node] = struct{}{}
	}
}

// touchHeeding marks the node for the DaemonSets that wait for a change of it.
func (ix *index) touchHeeding(node string) {
	for _, o := range ix.owned {
		if _, is := o.heeds[node]; is {
			delete(o.heeds, node)
			ix.mark(o, node)
		}
	}
}
