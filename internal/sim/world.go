package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// world is one run: the clock, what is still to happen, and everything that exists.
type world struct {
	now   time.Duration // since the beginning
	seq   uint64
	queue []moment // a heap
	rng   *rand.Rand
	trace func(string) // nil: nobody watches
	bug   Bug

	clocks      clocks
	sc          *Scenario
	faults      Faults
	api         *api
	kubelets    *kubelets
	builtin     *builtin      // nil: the model controller is in charge
	controllers []*controller // the ones that are alive
	processes   int           // how many controllers were ever started
	lease       time.Duration // no other controller starts before this
	check       *checker
	old         bool // processes that start now are of a version that does not know changes in place
	healed      bool // the events are over, and nothing fails
	quiet       bool // nothing may be written from now on
	err         error
}

// moment is something that happens at a time; those at the same time happen in the order in which they were
// planned.
type moment struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (m *moment) before(o *moment) bool {
	return m.at < o.at || m.at == o.at && m.seq < o.seq
}

// epoch is the beginning, as the API shows it.
var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// clock returns the time now.
func (w *world) clock() time.Time { return epoch.Add(w.now) }

// after schedules do for d from now.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	w.queue = append(w.queue, moment{at: w.now + max(d, 0), seq: w.seq, do: do})
	q, i := w.queue, len(w.queue)-1
	for i > 0 && q[i].before(&q[(i-1)/2]) {
		q[i], q[(i-1)/2] = q[(i-1)/2], q[i]
		i = (i - 1) / 2
	}
}

// step makes the next thing happen. It returns false if there is none before limit, or something has gone
// wrong.
func (w *world) step(limit time.Duration) bool {
	if w.err != nil || len(w.queue) == 0 || w.queue[0].at > limit {
		return false
	}
	m := w.queue[0]
	w.pop()
	w.now = m.at
	m.do()
	return w.err == nil
}

func (w *world) pop() {
	q, last := w.queue, len(w.queue)-1
	q[0], q[last] = q[last], moment{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < last && q[child].before(&q[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	w.queue = q
}

// play makes things happen until the queue is empty or the clock is at limit.
func (w *world) play(limit time.Duration) {
	for w.step(limit) {
	}
	if w.now < limit && len(w.queue) > 0 {
		w.now = limit
	}
}

// between draws a duration, in milliseconds.
func (w *world) between(least, most time.Duration) time.Duration {
	n := int64((most - least) / time.Millisecond)
	if n <= 0 {
		return least
	}
	return least + time.Duration(w.rng.Int64N(n+1))*time.Millisecond
}

// chance returns true in percent out of a hundred cases.
func (w *world) chance(percent int) bool {
	return percent > 0 && w.rng.IntN(100) < percent
}

// fail ends the run. The first failure stays.
func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("at %v: %s", w.now, fmt.Sprintf(format, args...))
	}
}

// tracef tells the watcher, if any, what happens.
func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%10v  ", w.now) + fmt.Sprintf(format, args...))
	}
}
