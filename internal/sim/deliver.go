package sim

import (
	"slices"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// attempt returns package delivery's attempt for a write.
func (a *applier) attempt(w *write) *delivery.Attempt {
	switch {
	case w.create != nil:
		return delivery.NewCreate(func(salt int) string { return a.podName(w, salt) }, nil)
	case w.change != nil:
		return delivery.NewChange(w.change.Pod, w.change.UID)
	}
	return delivery.NewDelete(w.remove.Pod, w.remove.UID, w.version, w.rests != nil && w.rests.Ready)
}

// drive does what the attempt asks for until it is over.
func (a *applier) drive(w *write, t *delivery.Attempt) {
	c := a.c
	ask := t.Next()
	next := func(r answer) {
		if c.w.bug == TrustNoAnswer && r.code == unknown && (ask.Verb == delivery.Create || ask.Verb == delivery.Delete || ask.Verb == delivery.Change) {
			a.end(w, delivery.Outcome{Fate: delivery.Unknown}, nil)
			return
		}
		t.Answer(c.clock(), a.answer(w, ask, r))
		if t.Next().Verb == delivery.Done {
			a.finish(w, t.Outcome(), r.pod)
			return
		}
		a.drive(w, t)
	}
	switch ask.Verb {
	case delivery.Create:
		w.names = append(w.names, ask.Name)
		c.write("create", w, func() answer { return c.w.api.create(w, ask.Name) }, next)
	case delivery.Delete:
		w.version = ask.Version
		c.w.check.sent(c, w.remove.UID)
		c.write("delete", w, func() answer {
			a := c.w.api.delete(w)
			if a.code == ok {
				c.w.check.loses(w)
			}
			return a
		}, next)
	case delivery.Change:
		w.version = ask.Version
		c.w.check.sent(c, w.change.UID)
		c.write("change", w, func() answer { return c.w.api.change(w) }, next)
	case delivery.Get:
		c.send(false, func() answer {
			w.read = w.read || w.remove != nil && t.Settling()
			return c.w.api.get(ask.Name)
		}, next)
	case delivery.Rest:
		c.later(ask.Pause, func() { next(answer{}) })
	case delivery.Yield: // no other DaemonSet waits for room here
		next(answer{})
	case delivery.Done: // there was not even a name to try
		a.finish(w, t.Outcome(), nil)
	}
}

// write sends a write to a pod. It counts once it reaches the server, even if the server refuses it early.
func (c *controller) write(what string, w *write, op func() answer, done func(answer)) {
	counted := false
	c.send(true, func() answer {
		counted = true
		c.w.check.arrived(what, w)
		return op()
	}, func(a answer) {
		if a.code == throttled && !counted {
			c.w.check.arrived(what, w)
		}
		done(a)
	})
}

// answer translates an answer of the API for the attempt.
func (a *applier) answer(w *write, ask delivery.Request, r answer) delivery.Answer {
	c := a.c
	d := delivery.Answer{Fate: fates[r.code], Exists: r.code == exists, Conflict: r.code == conflict}
	d.Missing = r.code == notFound && ask.Verb == delivery.Get
	if d.Fate == delivery.Throttled {
		d.Wait = max(r.wait, delivery.LeastWait)
	}
	if p := r.pod; p != nil && r.code == ok {
		patient := w.remove == nil || !w.remove.Now
		d.Pod = delivery.Pod{UID: p.UID, Version: p.version, Ending: !p.Deleted.IsZero() && (patient || p.Forced), Gone: r.gone,
			Ours:  w.create != nil && p.Node == w.create.Node && !slices.Contains(w.known, p.UID),
			Alike: w.rests != nil && alike(p, w.rests),
			Unfit: p.unfit && c.w.bug != ChangesUnfit, Changed: w.change != nil && p.Hash == w.hash}
	}
	return d
}

// fates maps the codes of the API to what they mean for a request.
var fates = [...]delivery.Fate{
	ok: delivery.OK, exists: delivery.Refused, notFound: delivery.Stale, conflict: delivery.Stale, throttled: delivery.Throttled,
	overQuota: delivery.OverQuota, terminating: delivery.Terminating, refused: delivery.Refused, unknown: delivery.Unknown,
}

// alike reports whether two versions of a pod are the same for a rollout.
func alike(a, b *pod) bool {
	return a.UID == b.UID && a.Hash == b.Hash && a.Phase == b.Phase && a.Bound == b.Bound && a.Ready == b.Ready &&
		(a.Changing == b.Changing || b.settled) && a.Deleted.IsZero() && b.Deleted.IsZero()
}

// finish ends an attempt: it applies what the outcome shows, and adjusts the back-off.
func (a *applier) finish(w *write, o delivery.Outcome, seen *pod) {
	c := a.c
	if w.create == nil {
		c.w.check.settled(c, w.uid())
	}
	if w.remove != nil && o.Fate == delivery.OK {
		a.removed(w.remove)
	}
	a.end(w, o, func() {
		switch o.Lesson {
		case delivery.Ours, delivery.Claimed:
			c.index.acknowledge(seen, w)
		case delivery.Seen:
			c.index.assume(seen)
		case delivery.Gone:
			c.index.bury(w.uid())
		case delivery.Unfit:
			c.index.assume(seen)
			c.index.unfit[w.uid()] = true
			c.touch()
		}
	})
}

// removed records what a delete that happened means for the back-off.
func (a *applier) removed(d *plan.Delete) {
	c := a.c
	if d.Reason == plan.PodFailed || d.Reason == plan.PodSucceeded || d.Reason == plan.PodRefused {
		c.backoff[d.Node] = c.backoff[d.Node].After(*d, c.clock())
	}
	if d.Waited && c.w.bug != ForgetsWaiting {
		c.backoff[d.Node] = c.backoff[d.Node].Waits(d.Created, c.clock())
	}
}
