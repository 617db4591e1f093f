package delivery

// How long a write may take, how long it can rely on a lease, and after which pause a failure is retried. The engine
// and the simulator take these numbers from here.

import "time"

// How long a request may take. A write that is answered promptly fits into the ordinary lease. A slower one is sent
// again with all the time that the API server gives itself: webhooks may take 30 s each, one after the other, and the
// server abandons a write when its client goes away. The lease is extended first.
const (
	PromptTimeout = 4 * time.Second
	SlowTimeout   = 62 * time.Second // --request-timeout of the API server is 60 s
	// PatienceFor is how long requests of a kind get more time after one has needed it.
	PatienceFor = 10 * time.Minute
)

// The deadlines of the lease. A leader that cannot renew sends no write later than RenewDeadline after its last
// renewal; another leader may start when the term named in the lease has passed. So a write that is sent at the last
// instant must have ended Transit before that:
//
//	RenewDeadline + PromptTimeout + Transit <= LeaseTerm
//	RenewDeadline + SlowTimeout + Transit <= SlowLeaseTerm
//
// The term is LeaseTerm, and SlowLeaseTerm only while there are writes that may take that long. Other processes use the
// term that they read in the lease.
const (
	LeaseTerm     = 15 * time.Second
	SlowLeaseTerm = 75 * time.Second
	RenewDeadline = 10 * time.Second
	RetryPeriod   = 2 * time.Second
	Transit       = time.Second
)

// Pace says how a failure is retried: after the first pause, and then after twice the last one, up to the longest.
type Pace struct{ First, Longest time.Duration }

// Next returns the pause after the last one; zero: it has not failed lately.
func (p Pace) Next(last time.Duration) time.Duration { return min(max(2*last, p.First), p.Longest) }

// The pauses that paces are made of.
const (
	FirstRetry = 250 * time.Millisecond
	MaxRetry   = time.Minute
	// ShortPause is how long a slot rests after something new is known about it.
	ShortPause = 100 * time.Millisecond
	// LeastWait is how long to wait after a 429 that names no time.
	LeastWait = 500 * time.Millisecond
	// LingerAfter is how long an own write may be ahead of the watch before the pod is read directly. The watch of a
	// healthy server lags by milliseconds.
	LingerAfter = 5 * time.Second
)

// FailedPace returns the pace after a request that was refused or not answered.
func FailedPace() Pace { return Pace{FirstRetry, MaxRetry} }

// StalePace returns the pace after a write whose premises no longer held: nothing went wrong.
func StalePace() Pace { return Pace{ShortPause, MaxRetry} }

// ThrottledPace returns the pace after a write that was answered with 429 and told to wait this long.
func ThrottledPace(asked time.Duration) Pace { return Pace{max(asked, LeastWait), MaxRetry} }

// TakenPace returns the pace after a create whose names are taken. It costs several requests, and a person must fix it.
func TakenPace() Pace { return Pace{FirstRetry, 15 * time.Minute} }

// The limits of a window, which is how many writes may be under way. Two cores of an API server are busy with 8
// requests at a time; more than 32 only take time from the watches.
const (
	FirstWindow = 8
	MaxWindow   = 32
	// ManyOverQuota is how many different nodes must have hit the quota before creates for others are postponed
	// untried.
	ManyOverQuota = 3
	// MaxLanePause is the longest that a DaemonSet pauses by itself after a 429.
	MaxLanePause = 10 * time.Second
)

// A status write waits StatusHold for changes that follow at once, and is tried StatusTries times before its turn ends.
const (
	StatusHold  = 100 * time.Millisecond
	StatusTries = 5
)
