package sim

import (
	"slices"
	"time"
)

// resource is what a watch is of.
type resource uint8

const (
	sets resource = iota
	nodes
	pods
	policies
	rollouts
	resources // their number
)

// event is one change of an object.
type event struct {
	version uint64
	gone    bool
	set     *daemonSet
	node    *node
	pod     *pod
	policy  *policy // nil: deleted
	keeper  *keeper
}

// log records a change and makes every watch of the resource deliver it.
func (a *api) log(r resource, e event) {
	e.version = a.version
	a.logs[r] = append(a.logs[r], e)
	if b := a.w.builtin; b != nil {
		b.saw(r, e)
	}
	for _, s := range a.streams {
		if s.resource == r && s.connected {
			s.due()
		}
	}
	if r != pods && a.w.chance(25) {
		for _, s := range a.streams {
			if s.resource == pods && s.connected {
				s.bookmark()
			}
		}
	}
}

// stream is the watch of one resource by one controller. It delivers the log in order, each event some time
// after it happened; streams are independent of each other.
type stream struct {
	a         *api
	to        *controller
	resource  resource
	next      int           // the event that is delivered next
	last      time.Duration // when the last planned event arrives
	stalled   time.Duration // nothing arrives before this
	connected bool
	term      int // counts connections: what was due in an earlier one never arrives
}

// open lists the resource, and watches it from there on.
func (a *api) open(to *controller, r resource) *stream {
	s := &stream{a: a, to: to, resource: r}
	a.streams = append(a.streams, s)
	s.relist(0)
	return s
}

// close ends the streams of a controller.
func (a *api) close(c *controller) {
	a.streams = slices.DeleteFunc(a.streams, func(s *stream) bool {
		if s.to == c {
			s.connected = false
			s.term++
		}
		return s.to == c
	})
}

// due plans the delivery of one more event.
func (s *stream) due() {
	w := s.a.w
	s.last = max(s.last, s.stalled, w.now+w.between(time.Millisecond, w.faults.Lag))
	term := s.term
	w.after(s.last-w.now, func() { s.deliver(term) })
}

// deliver brings the next event, unless the watch has been cut off since.
func (s *stream) deliver(term int) {
	w := s.a.w
	if term != s.term || s.next >= len(s.a.logs[s.resource]) {
		return
	}
	if wait := max(s.stalled, s.to.frozen) - w.now; wait > 0 {
		w.after(wait, func() { s.deliver(term) })
		return
	}
	e := s.a.logs[s.resource][s.next]
	s.next++
	s.to.index.event(s.resource, e)
}

// bookmark tells, after a while, how far the watch has got.
func (s *stream) bookmark() {
	w, term := s.a.w, s.term
	w.after(w.between(0, 2*time.Second), func() {
		if term == s.term && s.next == len(s.a.logs[s.resource]) && max(s.stalled, s.to.frozen) <= w.now {
			s.to.index.reached(s.resource, s.a.version)
		}
	})
}

// stall holds back everything for d.
func (s *stream) stall(d time.Duration) { s.stalled = s.a.w.now + d }

// cut ends the watch. After a while it continues where it was, or starts again with a list, which does not
// show what has happened in between.
func (s *stream) cut(resume bool) {
	if !s.connected {
		return
	}
	w := s.a.w
	s.connected = false
	s.term++
	s.last = 0 // a new watch does not inherit the lateness of the old one
	pause := w.between(50*time.Millisecond, 3*time.Second)
	if !resume {
		s.relist(pause)
		return
	}
	term := s.term
	w.after(pause, func() {
		if term == s.term {
			s.connect()
		}
	})
}

// relist lists after a pause. Things happen between the list and its arrival.
func (s *stream) relist(pause time.Duration) {
	w, term := s.a.w, s.term
	w.after(pause, func() {
		if term != s.term {
			return
		}
		a := s.a
		list := listing{version: a.version, set: a.set, nodes: slices.Clone(a.nodes), pods: slices.Clone(a.pods), policy: a.policy, keeper: a.keeper}
		position := len(a.logs[s.resource])
		w.after(w.between(time.Millisecond, 20*time.Millisecond+w.faults.Lag), func() { s.arrive(term, position, list) })
	})
}

func (s *stream) arrive(term, position int, list listing) {
	w := s.a.w
	if term != s.term {
		return
	}
	if wait := s.to.frozen - w.now; wait > 0 {
		w.after(wait, func() { s.arrive(term, position, list) })
		return
	}
	s.next = position
	s.to.index.replace(s.resource, list)
	s.connect()
}

// connect watches from where the stream stands.
func (s *stream) connect() {
	s.connected = true
	for range len(s.a.logs[s.resource]) - s.next {
		s.due()
	}
}

// listing is everything that exists.
type listing struct {
	version uint64
	set     *daemonSet
	nodes   []*node
	pods    []*pod
	policy  *policy
	keeper  *keeper
}
