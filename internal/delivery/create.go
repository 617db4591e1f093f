package delivery

// A create is tried again here: at once under the next name if another pod has the
// first (claimed), and not before a read has told what became of it if the answer was
// lost (judgeCreate). One that failed ends; package engine puts its node off.

import "time"

// NewCreate is an attempt to make one pod. name is the pod's name for each salt,
// the same each time (D1). Names in taken are passed over: those of the pods
// beside which the create was decided. However many of these there are, there is
// a name for the next.
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
		// The namespace is not there: nothing that a new read would mend.
		a.end(Outcome{Fate: Refused})
	default:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	}
}

// claimed looks at the pod that has the name. If it is ours and the decision did
// not know it, it is what the create was for, or what should have been decided
// on: either way it is learned. Else the name is taken (D2).
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

// judgeCreate is what a read tells of a create without an answer. If the pod is
// not there, the create may still arrive: the next attempt has the same name.
func (a *Attempt) judgeCreate(r Answer) (o Outcome, known bool) {
	switch {
	case r.Fate == OK && r.Pod.Ours:
		return Outcome{Fate: OK, Lesson: Ours}, true
	case r.Fate == OK, r.Missing:
		return Outcome{Fate: Unknown}, true
	}
	return Outcome{}, false
}
