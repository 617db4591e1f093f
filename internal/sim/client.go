package sim

import (
	"time"

	"everynode/internal/delivery"
)

// Faults is how bad the network and the server are. Rates are percentages of
// all requests.
type Faults struct {
	Latency time.Duration // the most that each way of a request takes
	Lag     time.Duration // the most that a watch is behind
	// Lost requests get no answer, or an error that says nothing. Half of them have taken effect.
	Lost int
	// Late requests get such an error first and take effect after it. No client can be safe from this: doc.go
	// says what holds all the same.
	Late int
	// Throttled requests are refused with 429.
	Throttled int
	// Slow writes keep the server busy for up to slowest: webhooks that hang, one after the other.
	Slow int
}

// slowest is how long a server works on one request.
const slowest = 60 * time.Second

// calm returns the faults of a good network.
func calm() Faults { return Faults{Latency: 20 * time.Millisecond, Lag: 30 * time.Millisecond} }

// send makes a request: op is carried out when it reaches the server, done is called with the answer. A
// request takes effect within delivery.PromptTimeout or never. The limit for a write is delivery.SlowTimeout
// if a write of this process has lately taken too long, once the lease covers that.
func (c *controller) send(write bool, op func() answer, done func(answer)) {
	if c.dead {
		return
	}
	if !write || c.patient <= c.w.now {
		c.sendWithin(delivery.PromptTimeout, write, op, done)
		return
	}
	c.slow++
	answered := func(a answer) { c.slow--; done(a) }
	if c.long && c.w.bug != ShortLease {
		c.sendWithin(delivery.SlowTimeout, write, op, answered)
		return
	}
	c.later(c.w.between(0, delivery.RetryPeriod), func() { // until the next renewal
		c.long = true
		c.sendWithin(delivery.SlowTimeout, write, op, answered)
	})
}

// term returns how long the lease lasts after the process is cut off or dies. It is long while there are slow
// writes; writes that are over, or were never sent, do not count.
func (c *controller) term() time.Duration {
	if c.slow > 0 && c.long && c.w.bug != ShortLease {
		return delivery.SlowLeaseTerm
	}
	return delivery.LeaseTerm
}

func (c *controller) sendWithin(limit time.Duration, write bool, op func() answer, done func(answer)) {
	w, f := c.w, c.w.faults
	if write && c.crash == beforeSending {
		w.perish(c)
		return
	}
	there, back := w.ways(write)
	giveUp := limit
	if w.chance(50) {
		giveUp = min(there+back, limit) // a broken connection is noticed at once
	}
	serve := func() answer {
		if write {
			w.check.inTerm(c)
		}
		return op()
	}
	reply := func(d time.Duration, a answer) {
		c.later(d, func() {
			if write && c.crash == afterAnswer {
				w.perish(c)
				return
			}
			if write && a.code == unknown && d >= limit {
				c.patient = w.now + delivery.PatienceFor
			}
			if c.slow == 0 {
				c.long = false
			}
			done(a)
		})
	}
	switch {
	case w.chance(f.Throttled):
		reply(min(there+back, limit), answer{code: throttled, wait: time.Second})
	case w.chance(f.Late):
		w.after(min(there+back+w.between(0, time.Second), limit), func() { serve() })
		reply(min(there, limit), answer{code: unknown})
	case w.chance(f.Lost):
		if w.chance(50) && there < giveUp {
			w.after(there, func() { serve() })
		}
		reply(giveUp, answer{code: unknown})
	case there > limit:
		reply(limit, answer{code: unknown})
	default:
		w.after(there, func() {
			a := serve()
			if there+back > limit {
				reply(limit-there, answer{code: unknown})
			} else {
				reply(back, a)
			}
		})
	}
	if write && c.crash == beforeAnswer {
		w.perish(c)
	}
}

// ways returns how long a request takes to reach the server, and its answer to come back.
func (w *world) ways(write bool) (there, back time.Duration) {
	there, back = w.between(time.Millisecond, w.faults.Latency), w.between(time.Millisecond, w.faults.Latency)
	if write && w.chance(w.faults.Slow) {
		there += w.between(time.Second, slowest-2*time.Second)
	}
	return there, back
}

// perish kills a process and lets another take over when its lease has ended.
func (w *world) perish(c *controller) {
	term := c.term()
	c.die()
	w.lease = w.now + w.between(term-delivery.RenewDeadline, term)
	w.succeed(w.lease - w.now)
}

// succeed starts another process after d, unless someone has the lease by then.
func (w *world) succeed(d time.Duration) {
	w.after(d, func() {
		for _, c := range w.controllers {
			if !c.lost {
				return
			}
		}
		if w.lease > w.now {
			w.succeed(w.lease - w.now)
			return
		}
		w.launch()
	})
}
