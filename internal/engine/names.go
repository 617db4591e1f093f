package engine

import (
	"time"

	"everynode/internal/delivery"
	"everynode/internal/view"
)

// Which name a create asks for first. The names of a place come in an order that everybody knows
// (view.PodName, by its salt), and those of pods that a decision knows are passed over: the old pod
// of an update has ended, and still has its name, for as long as its kubelet needs to clean up.
//
// So the first name depends on when the decision is made. A create that may arrive after it was
// given up, and the next one, made when the old pod has gone, would then make two pods. For that
// reason its name is kept, and the next create for the same purpose begins with it.

// unsettled is the name, by its salt, of a create of which nobody knows whether it still arrives.
type unsettled struct {
	predecessor, side string // what the create was for
	salt              int
	until             time.Time // no server carries it out later than that
}

// keepName is for a create that has ended without anybody knowing what becomes of it.
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

// settleName is for a create that has made its pod, or has found it.
func (s *state) settleName(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsettled, node)
}

// firstName is the salt of the name that the create asks for first.
func (s *state) firstName(w *write, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.unsettled[w.node()]
	if !known || now.After(n.until) || n.predecessor != w.create.Predecessor || n.side != w.side() {
		return 0
	}
	return n.salt
}

// name is the names of a create in the order in which they are tried.
func (w *write) name(try int) string {
	switch {
	case try == 0:
		return w.salted(w.first)
	case try <= w.first:
		return w.salted(try - 1)
	}
	return w.salted(try)
}

// salted is a function of what the pod is for. That holds of two engines, too, and
// of two that disagree on the template.
func (w *write) salted(salt int) string {
	return view.PodName(w.ds, w.create.Node, w.side(), w.create.Predecessor, salt)
}
