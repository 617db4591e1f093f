package engine

import (
	"time"

	"everynode/internal/delivery"
	"everynode/internal/view"
)

// Which name a create tries first. The names for a place have a fixed order (view.PodName, by its
// salt), and names of pods that a decision knows are skipped: the old pod of an update has ended
// but keeps its name while its kubelet cleans up.
//
// So the first name depends on when the decision is made. If a create was given up but may still
// take effect, and the next one is made when the old pod has gone, there would be two pods. To
// prevent that its name is remembered, and the next create for the same purpose begins with it.

// unsettled is the name, by its salt, of a create that may still take effect.
type unsettled struct {
	predecessor, side string // what the create was for
	salt              int
	until             time.Time // no server carries it out later than that
}

// keepName handles a create that has ended with an unknown outcome.
func (s *state) keepName(w *write, now time.Time) {
	if len(w.names) == 0 {
		return
	}
	salt, last := 0, w.names[len(w.names)-1]
	for w.salted(salt) != last {
		if salt++; salt > len(w.taken)+delivery.MaxNames {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsettled == nil {
		s.unsettled = map[string]unsettled{}
	}
	s.unsettled[w.node()] = unsettled{predecessor: w.create.Predecessor, side: w.side(), salt: salt, until: now.Add(forgetRetry)}
}

// settleName handles a create that has made its pod, or has found it.
func (s *state) settleName(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsettled, node)
}

// firstName returns the salt of the name that the create asks for first.
func (s *state) firstName(w *write, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.unsettled[w.node()]
	if !known || now.After(n.until) || n.predecessor != w.create.Predecessor || n.side != w.side() {
		return 0
	}
	return n.salt
}

// name returns the names of a create in the order in which they are tried.
func (w *write) name(try int) string {
	switch {
	case try == 0:
		return w.salted(w.first)
	case try <= w.first:
		return w.salted(try - 1)
	}
	return w.salted(try)
}

// salted returns a name that depends only on the purpose of the pod. So two engines compute the
// same name, even if they disagree on the template.
func (w *write) salted(salt int) string {
	return view.PodName(w.ds, w.create.Node, w.side(), w.create.Predecessor, salt)
}
