package sim

import "time"

// Faults is how bad the network and the server are. Rates are percentages of
// all requests.
type Faults struct {
	Latency time.Duration // the most that each way of a request takes
	Lag     time.Duration // the most that a watch is behind
	// Lost requests get no answer, or an error that says nothing, whether
	// they took effect (one half) or not.
	Lost int
	// Late requests get such an error first and take effect after it. No
	// client can be safe from this: doc.go says what holds all the same.
	Late int
	// Throttled requests are refused with 429.
	Throttled int
}

// calm is a good network.
func calm() Faults { return Faults{Latency: 20 * time.Millisecond, Lag: 30 * time.Millisecond} }

// send makes a request: op is carried out when it reaches the server, done is
// called with the answer. A request reaches the server within requestTimeout
// or never.
func (c *controller) send(write bool, op func() answer, done func(answer)) {
	w, f := c.w, c.w.faults
	if c.dead {
		return
	}
	if write && c.crash == beforeSending {
		w.perish(c)
		return
	}
	there, back := w.between(time.Millisecond, f.Latency), w.between(time.Millisecond, f.Latency)
	giveUp := requestTimeout
	if w.chance(50) {
		giveUp = min(there+back, requestTimeout) // a broken connection shows at once
	}
	reply := func(d time.Duration, a answer) {
		c.later(d, func() {
			if write && c.crash == afterAnswer {
				w.perish(c)
				return
			}
			done(a)
		})
	}
	switch {
	case w.chance(f.Throttled):
		reply(there+back, answer{code: throttled})
	case w.chance(f.Late):
		w.after(min(there+back+w.between(0, time.Second), requestTimeout), func() { op() })
		reply(there, answer{code: unknown})
	case w.chance(f.Lost):
		if w.chance(50) && there < giveUp {
			w.after(there, func() { op() })
		}
		reply(giveUp, answer{code: unknown})
	case there > requestTimeout:
		reply(requestTimeout, answer{code: unknown})
	default:
		w.after(there, func() {
			a := op()
			if there+back > requestTimeout {
				reply(requestTimeout-there, answer{code: unknown})
			} else {
				reply(back, a)
			}
		})
	}
	if write && c.crash == beforeAnswer {
		w.perish(c)
	}
}

// perish kills a process and lets another take over when its lease has ended.
func (w *world) perish(c *controller) {
	c.die()
	w.lease = w.now + w.between(leaseDuration-renewDeadline, leaseDuration)
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
