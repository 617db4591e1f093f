package rollout

import (
	"slices"
	"time"
)

// Phase is where a release is.
type Phase uint8

// The phases. Only in Rolling are nodes granted the target.
const (
	Idle        Phase = iota // the target is the stable revision
	Rolling                  // nodes are granted the target, up to the quota
	Soaking                  // the wave has all its nodes, and is watched
	Waiting                  // it waits for a person, for a window, or for a healthy node
	Paused                   // a person has paused it
	Halted                   // too many nodes failed; nodes with the target keep it, for inspection
	RollingBack              // nodes go back to the stable revision
	Aborted                  // they have gone back; the template still names the target
	Held                     // something cannot be read, or contradicts itself
)

func phases() [Held + 1]string {
	return [...]string{"Idle", "Rolling", "Soaking", "Waiting", "Paused", "Halted", "RollingBack", "Aborted", "Held"}
}

// String returns the phase as users see it, and as it is saved.
func (p Phase) String() string { return phases()[p] }

// PhaseOf returns the phase of that name.
func PhaseOf(name string) (p Phase, known bool) {
	all := phases()
	i := slices.Index(all[:], name)
	return Phase(max(i, 0)), i >= 0
}

// Reason is why a release is in its phase.
type Reason uint8

// The reasons. Idle has one only while nodes that missed a release wait for a person or a window, or while the policy
// cannot be followed (OfPolicy), so that the next release would be held.
const (
	NoReason         Reason = iota
	UnderQuota              // there are nodes that can be granted the target
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
	PolicyGone              // the policy that the DaemonSet names does not exist, or it was removed in the middle of a release
	SeveralPolicies         // more than one policy names the DaemonSet
	StableGone              // the stable revision no longer exists
	StableUnknown           // pods of several revisions, and nothing says which of them is good
	ClockSkew               // the clock is so wrong that soak times cannot be trusted
	NotDriven               // another controller has the pods, and replaces them by itself instead of when a policy says so
	NotObserved             // another controller has the pods, and has not observed the last change
)

func reasons() [NotObserved + 1]string {
	return [...]string{"", "UnderQuota", "NotSettled", "NoneWell", "NotSoaked", "NotApproved", "WindowClosed", "PauseRequested", "TooManyFailed",
		"AbortRequested", "FailedBack", "Reverted", "APIUnwell", "ViewIncomplete", "PolicyUnreadable", "PolicyGone", "SeveralPolicies", "StableGone",
		"StableUnknown", "ClockSkew", "NotDriven", "NotObserved"}
}

// String returns the reason as users see it, and as it is saved.
func (r Reason) String() string { return reasons()[r] }

// ReasonOf returns the reason of that name; the empty one is NoReason.
func ReasonOf(name string) (r Reason, known bool) {
	all := reasons()
	i := slices.Index(all[:], name)
	return Reason(max(i, 0)), i >= 0
}

// OfPolicy reports whether the reason is that there is no policy to follow. Going back needs none.
func (r Reason) OfPolicy() bool {
	return r == PolicyUnreadable || r == PolicyGone || r == SeveralPolicies
}

// State is what the next leader must know about a release to continue it. It is saved before anything is done.
type State struct {
	Stable, Target string // revisions
	// Release counts the releases of the DaemonSet. A revision may be released again, so
	// requests name this number.
	Release int
	Phase   Phase
	Reason  Reason
	// Wave, by its name, and Group are the open step; Quota is how many nodes may have the target, the largest number
	// so far.
	Wave   string
	Group  string
	Quota  int
	Opened time.Time // when the step was opened; zero: none is
	// Soaked is how long all was well in the open step. It belongs to the step, not to each node: nodes that come late
	// were watched only for a part of it.
	Soaked time.Duration
	// Stops counts how often the release has stopped for a person; Stopped: it has, and nobody has resumed it since.
	Stops   int
	Stopped bool
	// Unsure: it has stopped because it is not known which revision is good.
	Unsure bool
	// Forgiven is how many failed nodes a person has forgiven. They do not count as under way.
	Forgiven int
	// Back: nodes go back to the stable revision, or have gone; WhyBack is its reason.
	Back    bool
	WhyBack Reason
	// Reverting: the template has the stable revision again, and nodes go back to it.
	Reverting bool
	// Ignored is a request that has no effect, and why; empty: none.
	Ignored string

	// calmSince is the time up to which the soak was counted, while it continues. It is local to this process:
	// unwatched time does not count.
	calmSince time.Time
	// well is how many nodes were well at the last look; also local to this process.
	well int
	// noneSince is since when no node has been well and nothing can be granted; zero: one is well. Also local to this
	// process.
	noneSince time.Time
}

// Stands reports whether the release does not continue until a person does something, or until nodes that were down
// come up.
func (s *State) Stands() bool {
	return s.Phase == Halted || s.Phase == Aborted || s.Phase == Held || s.Phase == Waiting && s.Reason == NoneWell
}

// Grants reports whether nodes may be granted the target: those of the open step and of the steps before
// it, by rank, while fewer than Bound and Forgiven together are under way.
func (s *State) Grants() bool { return s.Phase == Rolling && s.Reason == UnderQuota }

// Kept returns the state to save: without what is local to this process.
func (s State) Kept() State {
	s.calmSince, s.well, s.noneSince = time.Time{}, 0, time.Time{}
	return s
}

// Seen is what is seen of a DaemonSet when Advance is called.
type Seen struct {
	// Target is the revision of the template.
	Target string
	// Pods is how many available pods each revision has; a revision with only unavailable pods is present with zero.
	Pods map[string]int
	// Exposed nodes have a pod of the target, or are about to get one. Well are those of them whose pod is available,
	// UnderWay those that are neither well nor excused, Failed those that have failed. Other nodes have a pod of
	// neither revision; without a release, they go back or have missed a release. Stranded nodes have the target in a
	// release that is taken back, and are down.
	Exposed, Well, UnderWay, Failed, Other, Stranded int
	// Refused nodes have failed without being exposed: they keep a pod of another revision.
	Refused int
	// Bound is how many nodes may be under way at a time.
	Bound int
	// Problem is why the release may not continue; NoReason: it may.
	Problem Reason
	// Unwell: the API server answers late, with errors, or not.
	Unwell bool
	// Assists: another controller creates the pods, always with the target. Then a release that is taken back stays
	// where it is until the template changes.
	Assists bool
	// Layout has the nodes that should have a pod; Counts has an entry for each of its steps.
	Layout   *Layout
	Counts   []Counts
	Requests Requests
	// Heeded are the requests as they were when the state was last saved. Those that differ now are new.
	Heeded Requests
}

// candidates returns how many nodes of the steps up to that one could be granted the target.
func (in *Seen) candidates(step int) (n int) {
	for _, c := range in.Counts[:step+1] {
		n += c.Candidates
	}
	return n
}

// Requests are what people request, in the spec of a DaemonSetRollout. They stay there, so each names the release
// that it is about (State.Release); zero: none.
type Requests struct {
	Paused bool
	// Promote approves a wave, or, with All, opens all remaining waves at once.
	Promote Promotion
	// Resume continues a stopped release.
	Resume Resumption
	// Abort takes the target back. Retry starts it again, from the first wave, once it was taken back.
	Abort, Retry int
	// Plain ends the release where it is: the target counts as stable, and all nodes get it as without a
	// policy. It works in every phase.
	Plain int
}

// about yields the requests, and the release of each.
func (r *Requests) about(yield func(what string, release int) bool) {
	_ = yield("promote", r.Promote.Release) && yield("resume", r.Resume.Release) && yield("abort", r.Abort) &&
		yield("retry", r.Retry) && yield("plain", r.Plain)
}

// since returns the requests that differ from those before.
func (r Requests) since(before *Requests) Requests {
	if r.Promote == before.Promote {
		r.Promote = Promotion{}
	}
	if r.Resume == before.Resume {
		r.Resume = Resumption{}
	}
	for _, of := range []struct {
		now *int
		was int
	}{{&r.Abort, before.Abort}, {&r.Retry, before.Retry}, {&r.Plain, before.Plain}} {
		if *of.now == of.was {
			*of.now = 0
		}
	}
	return r
}

// Promotion is the promotion of a wave; All: of all remaining waves, without their soak.
type Promotion struct {
	Release int
	Wave    string
	All     bool
}

// Resumption names the stop that it lifts (State.Stops), and forgives the nodes that have failed by then.
type Resumption struct{ Release, Stop int }
