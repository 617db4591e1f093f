package delivery

// How long a write may take, for how long it can rest on a lease, and after which pause what has failed is tried again. The engine
// and the simulator take these from here.

import "time"

// How long a request may take. A write that is answered promptly fits into the ordinary lease. One that is not is sent again
// with all the time that the API server gives itself: webhooks may take 30 s each, one after the other, and a server that is
// left alone halfway gives the write up. The lease is made longer before.
const (
	PromptTimeout = 4 * time.Second
	SlowTimeout   = 62 * time.Second // --request-timeout of the API server is 60 s
	// PatienceFor is how long requests of a kind get more time after one has needed it.
	PatienceFor = 10 * time.Minute
)

// The deadlines of the lease. A leader that cannot renew sends no write from RenewDeadline after its last renewal on; another
// may start when the term has passed that the lease itself names. So a write that is sent at the last instant must have ended
// Transit before that:
//
//	RenewDeadline + PromptTimeout + Transit <= LeaseTerm
//	RenewDeadline + SlowTimeout + Transit <= SlowLeaseTerm
//
// The term is LeaseTerm, and SlowLeaseTerm only while there are writes that may take that long. Others judge by the term that
// they read in the lease.
const (
	LeaseTerm     = 15 * time.Second
	SlowLeaseTerm = 75 * time.Second
	RenewDeadline = 10 * time.Second
	RetryPeriod   = 2 * time.Second
	Transit       = time.Second
)

// Pace is how something is tried again that failed: after the first pause, and then after twice the last one, up to the longest.
type Pace struct{ First, Longest time.Duration }

// Next is the pause after the last one; zero: it has not failed lately.
func (p Pace) Next(last time.Duration) time.Duration { return min(max(2*last, p.First), p.Longest) }

// The pauses that paces are made of.
const (
	FirstRetry = 250 * time.Millisecond
	MaxRetry   = time.Minute
	// ShortPause is how long a slot rests after something about it was learned.
	ShortPause = 100 * time.Millisecond
	// LeastWait is how long a 429 is obeyed that does not say for how long.
	LeastWait = 500 * time.Millisecond
	// LingerAfter is how long an own write may be ahead of the watch before the pod is read directly. The watch of a healthy
	// server lags by milliseconds.
	LingerAfter = 5 * time.Second
)

// FailedPace is that of what was refused, or not answered.
func FailedPace() Pace { return Pace{FirstRetry, MaxRetry} }

// StalePace is that of a write whose premises did not hold: nothing went wrong.
func StalePace() Pace { return Pace{ShortPause, MaxRetry} }

// ThrottledPace is that of a write that was answered with 429, and asked to wait for so long.
func ThrottledPace(asked time.Duration) Pace { return Pace{max(asked, LeastWait), MaxRetry} }

// TakenPace is that of a create whose names are taken. It costs several requests, and a person must mend it.
func TakenPace() Pace { return Pace{FirstRetry, 15 * time.Minute} }

// The bounds of a window, which is how many writes are under way. Two cores of an API server are busy with 8 requests at a
// time; more than 32 only take time from the watches.
const (
	FirstWindow = 8
	MaxWindow   = 32
	// ManyOverQuota is how many different nodes must have met the quota before creates for others are put off untried.
	ManyOverQuota = 3
	// MaxLanePause is the longest that a DaemonSet rests of its own accord after a 429.
	MaxLanePause = 10 * time.Second
)

// A status waits StatusHold for what follows at once, and is tried StatusTries times before its turn ends.
const (
	StatusHold  = 100 * time.Millisecond
	StatusTries = 5
)
