package delivery

import "time"

// A delete of a rollout requires that the pod is as it was when the delete was decided, and its
// resource version is the simplest proof. But some pods keep changing in irrelevant ways: an
// agent annotates them, a condition is refreshed.

// MaxConflicts is how many successive versions of a pod a delete may miss. Then the delete no
// longer requires a version, if that is safe.
const MaxConflicts = 3

// NewDelete returns an attempt to delete the pod of that name and UID, and no other. version is the
// version that the decision rests on; 0: any. serving says that the pod was ready then, so budget
// was spent on it.
func NewDelete(name, uid string, version uint64, serving bool) *Attempt {
	a := &Attempt{uid: uid, version: version, serving: serving}
	a.remove(name)
	return a
}

func (a *Attempt) remove(name string) {
	a.asks(deleting, Request{Verb: Delete, Name: name, Version: a.version})
}

func (a *Attempt) deleted(now time.Time, r Answer) {
	switch {
	case r.Conflict && a.version != 0:
		a.asks(comparing, Request{Verb: Get, Name: a.ask.Name})
	case r.Fate == OK && r.Pod.UID == a.uid:
		a.end(Outcome{Fate: OK, Lesson: left(r.Pod)})
	case r.Fate == OK, r.Fate == Stale, r.Fate == Unknown:
		a.settle(now, r.Fate)
	default:
		a.end(Outcome{Fate: r.Fate, Wait: r.Wait})
	}
}

func left(p Pod) Lesson {
	if p.Gone {
		return Gone
	}
	return Ours
}

// compared sends the delete again at once if nothing has changed that the decision rests on.
func (a *Attempt) compared(now time.Time, r Answer) {
	a.conflicts++
	many := a.conflicts > MaxConflicts
	switch {
	case r.Fate != OK, !r.Pod.Alike, r.Pod.Version == a.version, many && !a.serving:
		a.settle(now, Stale)
		return
	case many:
		// The budget was spent on a serving pod. If it stops serving just now, the delete costs
		// less.
		a.version = 0
	default:
		a.version = r.Pod.Version
	}
	a.remove(a.ask.Name)
}

// judgeDelete returns what a read says about a delete that had no certain answer, or was refused
// because the pod had changed.
func (a *Attempt) judgeDelete(r Answer) (o Outcome, known bool) {
	switch {
	case r.Missing, r.Fate == OK && r.Pod.UID != a.uid:
		return Outcome{Fate: OK, Lesson: Gone}, true
	case r.Fate == OK && r.Pod.Ending:
		return Outcome{Fate: OK, Lesson: Ours}, true
	case r.Fate == OK && a.write == Unknown:
		return Outcome{Fate: Unknown, Lesson: Seen}, true
	case r.Fate == OK:
		return Outcome{Fate: Stale, Lesson: Seen}, true
	}
	return Outcome{}, false
}
