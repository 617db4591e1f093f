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
	Change             // change the pod Name in place to another revision
	Get                // read the pod Name as it is now
	Rest               // answer after Pause
	Yield              // give up this write's slot in the window: it may take long until its outcome is known
)

// Request is the next request to send.
type Request struct {
	Verb    Verb
	Name    string        // of the pod
	Version uint64        // of Delete and Change: the only version that may be deleted or changed; 0: any
	Pause   time.Duration // of Rest
}

// Fate is the outcome of a request, or of a whole write.
type Fate uint8

// The fates.
const (
	OK          Fate = iota // it was done
	Refused                 // the server refuses this one; others may succeed
	OverQuota               // the namespace has no quota left for it
	Terminating             // the namespace is going away
	Throttled               // the server asks to slow down; nothing was done
	Stale                   // it was decided on something that is no longer true
	Unknown                 // it may have been done or not
	Stopped                 // the sender has stopped
)

// String returns the outcome as metrics have it.
func (f Fate) String() string {
	return [...]string{"done", "refused", "over_quota", "namespace_terminating", "throttled", "stale", "unknown", "abandoned"}[f]
}

// Answer is what came back. Its zero value means that a Rest or Yield is over.
type Answer struct {
	Fate Fate          // of the request
	Wait time.Duration // of Throttled: how long the server asks to wait
	// Exists, of a create: another pod has the name.
	Exists bool
	// Conflict, of a delete or change: there is a pod of that name, but it is a different pod, or in a
	// different version, from the one to delete or change.
	Conflict bool
	// Missing, of a read: the server has said that it has no pod of that name.
	Missing bool
	// Pod, of OK: the pod as created, changed, left by a delete, or read.
	Pod Pod
}

// Pod is what a write has to know about a pod.
type Pod struct {
	UID     string
	Version uint64
	// Ours: it belongs to the DaemonSet and the node that the create is for, and the decision did not know
	// it.
	Ours bool
	// Alike: except for the version, it is as it was when its delete or change was decided.
	Alike bool
	// Unfit: it cannot be changed in place. Changed: it already has the revision that it should be changed
	// to.
	Unfit, Changed bool
	// Ending: its deletion has been requested, as strongly as by the attempt: an attempt without a grace
	// period is not done while the pod has one.
	Ending bool
	// Gone: the delete has removed it.
	Gone bool
}

// Lesson is what the end of a write says about the pod in the last answer.
type Lesson uint8

// The lessons.
const (
	Nothing Lesson = iota
	Ours           // the write has created it, changed it, or requested its deletion
	Seen           // it is as a read has shown it
	Claimed        // Seen, and made by an earlier create of the same name
	Gone           // the pod of the delete or change is gone
	Unfit          // Seen, and it cannot be changed where it runs
)

// Outcome is the outcome of a write.
type Outcome struct {
	Fate   Fate
	Wait   time.Duration // of Throttled
	Lesson Lesson
	// Settled: a read has shown the outcome, because the answer to the write did not.
	Settled bool
	// NamesTaken, of Refused: other pods have all the names that were tried.
	NamesTaken bool
}

// IsRefusal reports whether the API server has answered that it does not do this now.
func (f Fate) IsRefusal() bool { return f == Refused || f == OverQuota || f == Throttled }

// Undone reports whether the write has had no effect. A write without an answer may still take effect
// later, even if a read says so.
func (o *Outcome) Undone() bool {
	switch o.Fate {
	case OK, Stopped:
		return false
	case Unknown:
		return o.Settled
	}
	return true
}

// MaxNames is how many names are tried for one pod, besides the names of known pods of the DaemonSet. The
// second is needed only when an unknown pod has the first.
const MaxNames = 8

// The pauses between reads that determine the outcome of a write, and how long the write keeps its slot in
// the window meanwhile.
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
	comparing // reads the pod that no longer has the expected version
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
	write   Fate // the answer to the write itself
	pod     string
	began   time.Time
	pause   time.Duration
	yielded bool
}

// Next returns the request to send now; the same until Answer is called.
func (a *Attempt) Next() Request { return a.ask }

// Outcome returns the outcome of the write. It is valid once Next is Done.
func (a *Attempt) Outcome() Outcome { return a.out }

// Settling reports whether the write was sent and reads are determining its outcome.
func (a *Attempt) Settling() bool { return a.phase == settling }

// Answer takes the answer to Next. now is by a monotonic clock.
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

// settle reads the pod until the outcome of the write, which got that answer, is known. A failed read says
// nothing about the write.
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

// judge returns what a read says about the write.
func (a *Attempt) judge(r Answer) (o Outcome, known bool) {
	switch {
	case a.name != nil:
		return a.judgeCreate(r)
	case a.changes:
		return a.judgeChange(r)
	}
	return a.judgeDelete(r)
}

// next returns the next name to try; false if enough were tried.
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
