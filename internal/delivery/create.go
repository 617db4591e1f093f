package delivery

// A create is retried here: at once under the next name if another pod has the first (claimed),
// and after a lost answer only once a read has shown the outcome (judgeCreate). A create that
// failed ends; package engine postpones its node.

import "time"

// NewCreate returns an attempt to create one pod. name returns the pod's name for a salt, the
// same each time (D1). Names in taken are skipped: those of the pods that were known when the
// create was decided. However many of these there are, a name is left.
func NewCreate(name func(salt int) string, taken []string) *Attempt {
	a := &Attempt{name: name, taken: taken}
	a.create()
	return a
}

// create tries the next name.
func (a *Attempt) create() {
	if name, is := a.next(); is {
		a.asks(creating, Request{Verb: Create, Name: name})
	} else {
		a.end(Outcome{Fate: Refused, NamesTaken: true})
	}
}

func (a *Attempt) created(now time.Time, r Answer) {
	switch {
	case r.Exists:
		a.asks(claiming, Request{Verb: Get, Name: a.ask.Name})
	case r.Fate == OK:
		a.end(Outcome{Fate: OK, Lesson: Ours})
	case r.Fate == Unknown:
		a.settle(now, Unknown)
	case r.Fate == Stale:
		// The namespace does not exist: another read would not change that.
		a.end(Outcome{Fate: Refused})
	default:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	}
}

// claimed looks at the pod that has the name. If it is ours and the decision did not know it, it
// is either the pod that the create was for, or one that the decision should have known: in both
// cases the engine learns of it. Otherwise the name is taken (D2).
func (a *Attempt) claimed(r Answer) {
	switch {
	case r.Missing:
		a.end(Outcome{Fate: Stale})
	case r.Fate != OK:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	case r.Pod.Ours:
		a.end(Outcome{Fate: Stale, Lesson: Claimed})
	default:
		a.create()
	}
}

// judgeCreate returns what a read says about a create without an answer. If the pod does not
// exist, the create may still take effect: the next attempt uses the same name.
func (a *Attempt) judgeCreate(r Answer) (o Outcome, known bool) {
	switch {
	case r.Fate == OK && r.Pod.Ours:
		return Outcome{Fate: OK, Lesson: Ours}, true
	case r.Fate == OK, r.Missing:
		return Outcome{Fate: Unknown}, true
	}
	return Outcome{}, false
}
