package delivery

import "time"

// A change brings a pod to another revision in place. It depends on the whole pod, which nobody keeps in
// memory, so the pod is read first, and the change applies only to that version.

// NewChange returns an attempt to change the pod of that name and UID, and no other.
func NewChange(name, uid string) *Attempt {
	a := &Attempt{uid: uid, changes: true}
	a.asks(weighing, Request{Verb: Get, Name: name})
	return a
}

// weighed looks at the current pod. If it is not as the decision assumed, the decision is made again.
func (a *Attempt) weighed(r Answer) {
	switch {
	case r.Missing, r.Fate == OK && r.Pod.UID != a.uid:
		a.end(Outcome{Fate: Stale, Lesson: Gone})
	case r.Fate == Unknown:
		a.end(Outcome{Fate: Stale}) // a lost read has changed nothing
	case r.Fate != OK:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	case !r.Pod.Alike:
		a.end(Outcome{Fate: Stale, Lesson: Seen})
	case r.Pod.Unfit:
		a.end(Outcome{Fate: Stale, Lesson: Unfit})
	default:
		a.asks(changing, Request{Verb: Change, Name: a.ask.Name, Version: r.Pod.Version})
	}
}

func (a *Attempt) changed(now time.Time, r Answer) {
	switch {
	case r.Fate == OK && r.Pod.UID == a.uid:
		a.end(Outcome{Fate: OK, Lesson: Ours})
	case r.Conflict && a.conflicts < MaxConflicts:
		a.conflicts++
		a.asks(weighing, Request{Verb: Get, Name: a.ask.Name})
	case r.Conflict:
		a.end(Outcome{Fate: Stale}) // it keeps changing
	case r.Fate == OK, r.Fate == Stale, r.Fate == Unknown:
		a.settle(now, r.Fate)
	default:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	}
}

// judgeChange returns what a read says about a change that had no certain answer.
func (a *Attempt) judgeChange(r Answer) (o Outcome, known bool) {
	switch {
	case r.Missing, r.Fate == OK && r.Pod.UID != a.uid:
		return Outcome{Fate: Stale, Lesson: Gone}, true
	case r.Fate == OK && r.Pod.Changed:
		return Outcome{Fate: OK, Lesson: Ours}, true
	case r.Fate == OK && a.write == Unknown:
		return Outcome{Fate: Unknown, Lesson: Seen}, true
	case r.Fate == OK:
		return Outcome{Fate: Stale, Lesson: Seen}, true
	}
	return Outcome{}, false
}
