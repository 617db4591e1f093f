package rollout

import (
	"slices"
	"time"
)

// Phase is where a release is.
type Phase uint8

// The phases. In Rolling alone nodes are granted the target.
const (
	Idle        Phase = iota // the target is the stable revision
	Rolling                  // nodes are granted the target, up to the quota
	Soaking                  // the wave has all its nodes, and is watched
	Waiting                  // for a person, for a window, or for a node that is well
	Paused                   // a person said so
	Halted                   // too many nodes failed; what has the target keeps it, to be looked at
	RollingBack              // nodes go back to the stable revision
	Aborted                  // they have; the template still names the target
	Held                     // something cannot be read, or contradicts itself
)

func phases() [Held + 1]string {
	return [...]string{"Idle", "Rolling", "Soaking", "Waiting", "Paused", "Halted", "RollingBack", "Aborted", "Held"}
}

// String is the phase as users see it, and as it is kept.
func (p Phase) String() string { return phases()[p] }

// PhaseOf is the phase of that name.
func PhaseOf(name string) (p Phase, known bool) {
	all := phases()
	i := slices.Index(all[:], name)
	return Phase(max(i, 0)), i >= 0
}

// Reason is why a release is in its phase.
type Reason uint8

// The reasons. Idle has one while nodes that have missed a release wait for a person or a window.
const (
	NoReason         Reason = iota
	UnderQuota              // there are nodes to be granted the target
	NotSettled              // nodes have the target and are not well yet
	NoneWell                // no node that has the target is well, so there is nothing to watch; a person may promote the wave
	NotSoaked               // the soak is not over
	NotApproved             // a person has to let the next wave begin
	WindowClosed            // no window is open
	PauseRequested          // spec.paused
	TooManyFailed           // more nodes failed than may
	AbortRequested          // spec.abort
	FailedBack              // more nodes failed than may, and the policy says to go back
	Reverted                // the template has the stable revision again
	APIUnwell               // the API server answers late, with errors, or not
	ViewIncomplete          // the engine has not seen all of the cluster yet
	PolicyUnreadable        // the policy has errors
	PolicyGone              // the policy is gone in the middle of a release
	SeveralPolicies         // more than one policy names the DaemonSet
	StableGone              // the stable revision is not there any more
	StableUnknown           // pods of several revisions, and nothing says which of them is good
	ClockSkew               // the clock is wrong by more than a soak can be trusted with
	NotDriven               // another controller has the pods, and the DaemonSet does not leave it to a policy when they go
	NotObserved             // another controller has the pods, and has not taken notice of the last change
)

func reasons() [NotObserved + 1]string {
	return [...]string{"", "UnderQuota", "NotSettled", "NoneWell", "NotSoaked", "NotApproved", "WindowClosed", "PauseRequested", "TooManyFailed",
		"AbortRequested", "FailedBack", "Reverted", "APIUnwell", "ViewIncomplete", "PolicyUnreadable", "PolicyGone", "SeveralPolicies", "StableGone",
		"StableUnknown", "ClockSkew", "NotDriven", "NotObserved"}
}

// String is the reason as users see it, and as it is kept.
func (r Reason) String() string { return reasons()[r] }

// ReasonOf is the reason of that name; the empty one is NoReason.
func ReasonOf(name string) (r Reason, known bool) {
	all := reasons()
	i := slices.Index(all[:], name)
	return Reason(max(i, 0)), i >= 0
}

// ofPolicy says that the reason is about a policy. To go back takes none.
func (r Reason) ofPolicy() bool {
	return r == PolicyUnreadable || r == PolicyGone || r == SeveralPolicies
}

// State is what must be known of a release to go on with it: by whoever leads next, and
// before anything is done.
type State struct {
	Stable, Target string // revisions
	// Release counts the releases of the DaemonSet. A revision may be released again, so
	// requests name this number.
	Release int
	Phase   Phase
	Reason  Reason
	// Wave, by its name, and Group are the open step; Quota is how many nodes may have the
	// target, the most so far.
	Wave   string
	Group  string
	Quota  int
	Opened time.Time // when the step was opened; zero: none is
	// Soaked is how long all was well in the open step. It is the step's, not each node's: of nodes
	// that come late in it a part was watched.
	Soaked time.Duration
	// Stops counts how often the release has stopped for a person; Stopped: it has, and nobody has
	// let it go on since.
	Stops   int
	Stopped bool
	// Unsure is why it has stopped: nobody knows which revision is good.
	Unsure bool
	// Forgiven is how many failed nodes a person has let pass. They hold no place under way.
	Forgiven int
	// Back: nodes go back to the stable revision, or have gone; WhyBack is its reason.
	Back    bool
	WhyBack Reason
	// Reverting: the template has the stable revision again, and nodes go back to it.
	Reverting bool
	// Ignored is what was asked for and changes nothing, and why; empty: nothing.
	Ignored string

	// calmSince is until when the soak was counted, while it goes on. It is this process' own: what nobody
	// has watched does not count.
	calmSince time.Time
	// well is how many nodes were well at the last look; this process' own, too.
	well int
	// noneSince is since when no node has been well, and nothing can be granted; zero: one is. This process' own, too.
	noneSince time.Time
}

// Stands says that the release goes no further until a person does something, or until nodes come up that were down.
func (s *State) Stands() bool {
	return s.Phase == Halted || s.Phase == Aborted || s.Phase == Held || s.Phase == Waiting && s.Reason == NoneWell
}

// Grants says whether nodes may be granted the target: those of the open step and of the steps before
// it, by rank, while fewer than Bound and Forgiven together are under way.
func (s *State) Grants() bool { return s.Phase == Rolling && s.Reason == UnderQuota }

// Kept is the state as it is kept: without what only this process knows.
func (s State) Kept() State {
	s.calmSince, s.well, s.noneSince = time.Time{}, 0, time.Time{}
	return s
}

// Seen is what is seen of a DaemonSet when Advance is called.
type Seen struct {
	// Target is the revision of the template.
	Target string
	// Pods is how many available pods each revision has; those that are not available count as
	// present with none.
	Pods map[string]int
	// Exposed nodes have a pod of the target, or are about to get one. Well are those of them whose
	// pod is available, UnderWay those that are neither well nor excused, Failed those that
	// have failed. Other nodes have a pod of neither revision: without a release, those that go back or have missed one. Stranded nodes have the target in a release that is taken
	// back, and are down.
	Exposed, Well, UnderWay, Failed, Other, Stranded int
	// Bound is how many nodes may be under way at a time.
	Bound int
	// Problem is why nothing may go on; NoReason: nothing.
	Problem Reason
	// Unwell: the API server answers late, with errors, or not.
	Unwell bool
	// Assists: another controller makes the pods, always of the target. Then a release that is taken back stands where it
	// is until the template changes.
	Assists bool
	// Layout has the nodes that should have a pod; Counts has an entry for each of its steps.
	Layout   *Layout
	Counts   []Counts
	Requests Requests
}

// candidates is how many nodes of the steps up to that one could be granted the target.
func (in *Seen) candidates(step int) (n int) {
	for _, c := range in.Counts[:step+1] {
		n += c.Candidates
	}
	return n
}

// Requests are what people ask for, in the spec of a DaemonSetRollout. They stay there, so each
// names the release that it is about (State.Release); zero: none.
type Requests struct {
	Paused bool
	// Promote approves a wave, or, with All, opens all that are left at once.
	Promote Promotion
	// Resume lets a release go on that has stopped.
	Resume Resumption
	// Abort takes the target back. Retry begins again with it, from the first wave, once it was
	// taken back.
	Abort, Retry int
	// Plain ends the release where it is: the target counts as stable, and all nodes get it as without a
	// policy. It works in every phase.
	Plain int
}

// about yields what is asked for, and of which release.
func (r *Requests) about(yield func(what string, release int) bool) {
	_ = yield("promote", r.Promote.Release) && yield("resume", r.Resume.Release) && yield("abort", r.Abort) &&
		yield("retry", r.Retry) && yield("plain", r.Plain)
}

// Promotion is of a wave; All: of all that are left, without their soak.
type Promotion struct {
	Release int
	Wave    string
	All     bool
}

// Resumption names the stop that it lifts (State.Stops), and forgives the nodes that have failed by then.
type Resumption struct{ Release, Stop int }
