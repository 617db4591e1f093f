package sim

import (
	"time"

	"everynode/internal/rollout"
)

// memo is what a process has last read about a release, or knows to be kept.
type memo struct {
	state  rollout.State
	at     time.Duration
	told   rollout.State
	held   bool          // by the guard
	toldAt time.Duration // 0: never, or it has read since
}

func (k *checker) memo(c *controller) *memo {
	if k.memos[c.process] == nil {
		k.memos[c.process] = &memo{at: k.w.now}
	}
	return k.memos[c.process]
}

// takes is called when a process has read the kept state.
func (k *checker) takes(c *controller, o *keeper) {
	l := k.memo(c)
	if *l = (memo{at: k.w.now}); o != nil {
		l.state = o.state
	}
}

// sees is called when a process looks at a template. A release whose kept state was deleted is over once the template is another.
func (l *memo) sees(c *course, hash string) {
	if c.own == nil && l.state.Target != hash {
		l.state = rollout.State{}
	}
}

// writes is called when a process writes a new state. A wave has soaked no longer than the kept state says plus the
// time that the process has watched since (R16). A state in which only time has passed is written every ten seconds at
// most (R14).
func (k *checker) writes(c *controller, next *step) {
	l, s := k.memo(c), &next.state
	most := k.w.now - l.at
	if was := &l.state; s.Release == was.Release && s.Wave == was.Wave && s.Group == was.Group && s.Opened.Equal(was.Opened) {
		most += was.Soaked
	}
	switch {
	case s.Soaked > most:
		k.w.fail("R16: wave %s has soaked for %v; %v of that were watched", s.Wave, s.Soaked, most)
	case l.toldAt > 0 && c.course.own != nil && k.w.now < l.toldAt+rollout.CountEvery && sameCourse(*s, l.told) && len(next.lets) == 0 && (next.guard.Held > 0) == l.held:
		k.w.fail("R14: a state that only counts on is written %v after the last one", k.w.now-l.toldAt)
	}
	if was := &l.state; c.course.own == nil && was.Target != was.Stable && s.Target == was.Target && s.Grants() {
		k.w.fail("R12: what was kept of release %d was deleted, and %s is granted in release %d; nobody has asked for that", was.Release, s.Target, s.Release)
	}
	l.leaves(c, s)
	l.widens(c, s)
}

// told is called when a process has learned that what it wrote at that time is kept.
func (k *checker) told(c *controller, next *step, at time.Duration) {
	l := k.memo(c)
	l.state, l.at = next.state, at
	l.told, l.held, l.toldAt = next.state, next.guard.Held > 0, k.w.now
}

// overwritten reports whether another process has written the state since.
func (k *course) overwritten(now *keeper) bool {
	was := keeper{}
	if k.own != nil {
		was = *k.own
	}
	return now != nil && now.version > was.version && (now.state != was.state || !sameGuard(now.guard, was.guard))
}
