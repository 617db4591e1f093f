package rollout

import "time"

// Phase is where a release is.
type Phase uint8

// The phases. In Rolling alone nodes are granted the target.
const (
	Idle        Phase = iota // the target is the stable revision
	Rolling                  // nodes are granted the target, up to the quota
	Soaking                  // the wave has all its nodes, and is watched
	Waiting                  // for a person, or for a window
	Paused                   // a person said so
	Halted                   // too many nodes failed; what has the target keeps it, to be looked at
	RollingBack              // nodes go back to the stable revision
	Aborted                  // they have; the template still names the target
	Held                     // something cannot be read, or contradicts itself
)

// String is the phase as users see it.
func (p Phase) String() string {
	return [...]string{"Idle", "Rolling", "Soaking", "Waiting", "Paused", "Halted", "RollingBack", "Aborted", "Held"}[p]
}

// Reason is why a release is in its phase.
type Reason uint8

// The reasons. Idle has none.
const (
	NoReason         Reason = iota
	UnderQuota              // there are nodes to be granted the target
	NotSettled              // nodes have the target and are not well yet
	NotSoaked               // the soak is not over
	NotApproved             // a person has to let the next wave begin
	WindowClosed            // no window is open
	PauseRequested          // spec.paused
	TooManyFailed           // more nodes failed than may
	AbortRequested          // spec.abort
	FailedBack              // more nodes failed than may, and the policy says to go back
	Reverted                // the template has the stable revision again
	APIUnwell               // the API server answers late, or not
	ViewIncomplete          // the engine has not seen all of the cluster yet
	PolicyUnreadable        // the policy has errors
	PolicyGone              // the policy is gone in the middle of a release
	SeveralPolicies         // more than one policy names the DaemonSet
	StableGone              // the stable revision is not there any more
	StableUnknown           // pods of several revisions, and nothing says which of them is good
	ClockSkew               // the clock is wrong by more than a soak can be trusted with
)

// String is the reason as users see it.
func (r Reason) String() string {
	return [...]string{"", "UnderQuota", "NotSettled", "NotSoaked", "NotApproved", "WindowClosed", "PauseRequested", "TooManyFailed",
		"AbortRequested", "FailedBack", "Reverted", "APIUnwell", "ViewIncomplete", "PolicyUnreadable", "PolicyGone", "SeveralPolicies", "StableGone",
		"StableUnknown", "ClockSkew"}[r]
}

// ofPolicy says that the reason is about a policy. To go back takes none.
func (r Reason) ofPolicy() bool {
	return r == PolicyUnreadable || r == PolicyGone || r == SeveralPolicies
}

// State is what must be known of a release to go on with it: by whoever leads next, and
// before anything is done.
type State struct {
	Stable, Target string // revisions
	Phase          Phase
	Reason         Reason
	// Wave and Group are the open step, see Step; Quota is how many nodes may have the target.
	Wave   int
	Group  string
	Quota  int
	Opened time.Time // when the step was opened; zero: none is
	Soaked time.Duration
	// Stopped: too many nodes failed, and nobody has let the release go on since.
	Stopped bool
	// Back: nodes go back, or have gone; WhyBack is its reason.
	Back    bool
	WhyBack Reason
	// Unsure: nobody knows which revision is good.
	Unsure bool
	// Ignored is what was asked for and changes nothing, and why; empty: nothing.
	Ignored string

	// calmSince is until when the soak was counted, while it goes on. It is this process' own: what nobody
	// has watched does not count.
	calmSince time.Time
}

// Grants says whether nodes may be granted the target.
func (s *State) Grants() bool { return s.Phase == Rolling && s.Reason == UnderQuota }

// Kept is the state as it is kept: without what only this process knows.
func (s State) Kept() State {
	s.calmSince = time.Time{}
	return s
}

// Seen is what is seen of a DaemonSet when Advance is called.
type Seen struct {
	// Target is the revision of the template.
	Target string
	// Pods is how many available pods each revision has; those that are not available count as
	// present with none.
	Pods map[string]int
	// Exposed nodes have a pod of the target, or are about to get one. UnderWay are those of them
	// that are neither well nor excused, Failed those that have failed. Other nodes have a pod
	// of neither revision.
	Exposed, UnderWay, Failed, Other int
	// Candidates are nodes that could be granted the target now, if the quota had no end.
	Candidates int
	// Bound is how many nodes may be under way at a time.
	Bound int
	// Problem is why nothing may go on; NoReason: nothing.
	Problem Reason
	// Unwell: the API server answers late, or not.
	Unwell   bool
	Layout   *Layout
	Requests Requests
}

// Requests are what people ask for, in the spec of a DaemonSetRollout. They stay there, so each
// names what it is about.
type Requests struct {
	Paused bool
	// Promote approves a wave, or, with All, opens all that are left at once.
	Promote Promotion
	// Abort is the target that is to be taken back.
	Abort string
	// Resume lets a release go on that has stopped.
	Resume Resumption
}

// Promotion is of a wave of one target; All: of all that are left, without their soak.
type Promotion struct {
	Target, Wave string
	All          bool
}

// Resumption is of one target, and forgives so many failed nodes. So one that stays
// in the spec forgives nothing that comes later.
type Resumption struct {
	Target   string
	Failures int
}
