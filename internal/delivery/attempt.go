package delivery

import (
	"slices"
	"time"
)

// Verb is what an Attempt asks for.
type Verb uint8

// The verbs.
const (
	Done   Verb = iota // nothing more: see Outcome
	Create             // create the pod under Name
	Delete             // delete the pod Name of the UID that the attempt is about
	Change             // make the pod Name one of another revision where it runs
	Get                // read the pod Name as it is now
	Rest               // answer after Pause
	Yield              // let others have the room of this write: it may take long until anybody knows what became of it
)

// Request is what is to be asked next.
type Request struct {
	Verb    Verb
	Name    string        // of the pod
	Version uint64        // of Delete and Change: the only one that may be deleted or changed; 0: any
	Pause   time.Duration // of Rest
}

// Fate is what became of a request, or of a whole write.
type Fate uint8

// The fates.
const (
	OK          Fate = iota // it was done
	Refused                 // the server will not have this one; others may fare better
	OverQuota               // the namespace has no quota left for it
	Terminating             // the namespace is going away
	Throttled               // the server asks to slow down; nothing was done
	Stale                   // it was decided on something that is not so any more
	Unknown                 // it may have been done or not
	Stopped                 // whoever sends has stopped
)

// String is the outcome as metrics have it.
func (f Fate) String() string {
	return [...]string{"done", "refused", "over_quota", "namespace_terminating", "throttled", "stale", "unknown", "abandoned"}[f]
}

// Answer is what came back. Its zero value is that of a Rest or Yield that is
// over.
type Answer struct {
	Fate Fate          // of the request
	Wait time.Duration // of Throttled: how long the server asks to wait
	// Exists, of a create: another pod has the name.
	Exists bool
	// Conflict, of a delete or change: there is a pod of that name, and it is not the one,
	// or not in the version, that was to be deleted or changed.
	Conflict bool
	// Missing, of a read: the server has said that it has no pod of that name.
	Missing bool
	// Pod, of OK: what a create or change made, a delete left, or a read showed.
	Pod Pod
}

// Pod is as much of a pod as a write has to know.
type Pod struct {
	UID     string
	Version uint64
	// Ours: it is of the DaemonSet and on the node that the create is for, and
	// the decision did not know it.
	Ours bool
	// Alike: it is what the decision to delete or change it rests on, but for the version.
	Alike bool
	// Unfit: it cannot be changed where it runs. Changed: it is of the revision that it is to be changed to.
	Unfit, Changed bool
	// Ending: its deletion has been asked for, in the way of the attempt: an attempt that gives no time
	// to end is not done as long as the pod has any.
	Ending bool
	// Gone: the delete has removed it.
	Gone bool
}

// Lesson is what the end of a write teaches of the pod in the last answer.
type Lesson uint8

// The lessons.
const (
	Nothing Lesson = iota
	Ours           // the write has made it, changed it, or has asked for its end
	Seen           // it is as a read has shown it
	Claimed        // Seen, and made by an earlier create of the same name
	Gone           // the pod of the delete or change is gone
	Unfit          // Seen, and it cannot be changed where it runs
)

// Outcome is what became of a write.
type Outcome struct {
	Fate   Fate
	Wait   time.Duration // of Throttled
	Lesson Lesson
	// Settled: a read has told, as the answer to the write did not.
	Settled bool
	// NamesTaken, of Refused: other pods have all the names that were tried.
	NamesTaken bool
}

// Undone says that the write has had no effect. One without an answer, of which a read says so, may still take effect later.
func (o *Outcome) Undone() bool {
	switch o.Fate {
	case OK, Stopped:
		return false
	case Unknown:
		return o.Settled
	}
	return true
}

// MaxNames is how many names are tried for one pod, besides those that pods of
// the DaemonSet are known to have. The second is needed only when a pod that is
// not known has the first.
const MaxNames = 8

// The pauses between reads that are to tell what became of a write, and how long
// the write keeps its room meanwhile.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = time.Minute
	roomFor    = 2 * time.Second
)

type phase uint8

const (
	over phase = iota
	creating
	claiming // reads the pod that has the name
	deleting
	comparing // reads the pod that is no longer in the version that was named
	weighing  // reads the pod that is to be changed
	changing
	settling // reads until the outcome is known
)

// Attempt is one write and what has happened to it.
type Attempt struct {
	ask   Request
	phase phase
	out   Outcome

	// Of a create.
	name  func(salt int) string
	taken []string
	salt  int // the next
	tries int

	changes bool // it is a change

	// Of a delete or change.
	uid       string
	version   uint64
	serving   bool
	conflicts int

	// While it settles.
	write   Fate // what the write itself was told
	pod     string
	began   time.Time
	pause   time.Duration
	yielded bool
}

// Next is what to ask now, until Answer is called; the same each time.
func (a *Attempt) Next() Request { return a.ask }

// Outcome is what became of the write. It counts once Next is Done.
func (a *Attempt) Outcome() Outcome { return a.out }

// Settling says that the write was sent, and that reads are to tell what became of it.
func (a *Attempt) Settling() bool { return a.phase == settling }

// Answer takes what came back for Next. now is by a clock that does not jump.
func (a *Attempt) Answer(now time.Time, r Answer) {
	switch {
	case a.phase == over:
	case r.Fate == Stopped:
		a.end(Outcome{Fate: Stopped})
	case a.phase == creating:
		a.created(now, r)
	case a.phase == claiming:
		a.claimed(r)
	case a.phase == deleting:
		a.deleted(now, r)
	case a.phase == comparing:
		a.compared(now, r)
	case a.phase == weighing:
		a.weighed(r)
	case a.phase == changing:
		a.changed(now, r)
	case a.phase == settling:
		a.settled(now, r)
	}
}

func (a *Attempt) end(o Outcome) {
	a.phase, a.ask, a.out = over, Request{Verb: Done}, o
}

func (a *Attempt) asks(p phase, r Request) { a.phase, a.ask = p, r }

// settle reads the pod until it is known what became of the write, which was
// told that fate. What is wrong with a read says nothing of the write.
func (a *Attempt) settle(now time.Time, write Fate) {
	a.write, a.pod, a.began, a.pause = write, a.ask.Name, now, firstPause
	a.asks(settling, Request{Verb: Get, Name: a.pod})
}

func (a *Attempt) settled(now time.Time, r Answer) {
	switch a.ask.Verb {
	case Get:
		if o, known := a.judge(r); known {
			o.Settled = true
			a.end(o)
			return
		}
		a.asks(settling, Request{Verb: Rest, Pause: a.pause})
		a.pause = min(2*a.pause, maxPause)
	case Rest:
		if !a.yielded && now.Sub(a.began) >= roomFor {
			a.yielded = true
			a.asks(settling, Request{Verb: Yield})
			return
		}
		a.asks(settling, Request{Verb: Get, Name: a.pod})
	case Yield:
		a.asks(settling, Request{Verb: Get, Name: a.pod})
	}
}

// judge says what a read tells of the write.
func (a *Attempt) judge(r Answer) (o Outcome, known bool) {
	switch {
	case a.name != nil:
		return a.judgeCreate(r)
	case a.changes:
		return a.judgeChange(r)
	}
	return a.judgeDelete(r)
}

// next is the next name to try; false when there were enough.
func (a *Attempt) next() (name string, is bool) {
	if a.tries == MaxNames {
		return "", false
	}
	a.tries++
	for {
		name = a.name(a.salt)
		a.salt++
		if !slices.Contains(a.taken, name) {
			return name, true
		}
	}
}
