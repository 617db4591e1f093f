package rollout

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// lookEvery is how often Advance should be called while a wave soaks. Of a longer silence at most twice this time
// counts: a suspended process has watched nothing.
const lookEvery = 30 * time.Second

// Advance computes how far a release may go now. Its result must be saved before anything acts on it. Call it whenever
// one of its inputs changes, and at wake, which is zero if time alone changes nothing.
func Advance(p *Policy, s State, in *Seen, now time.Time) (next State, wake time.Time) {
	s = s.soak(now)
	told := s.Ignored
	s.Ignored = ""
	if s.Stable == "" && in.Problem == ViewIncomplete {
		return s.to(Held, in.Problem), time.Time{}
	}
	s = s.aim(in)
	late, made := in.late(s.Release, told)
	if next, wake = s.heed(p, in).decide(p, in, now); made || next.Ignored == "" {
		next.Ignored = late
	}
	return next, wake
}

// decide returns how far the release may go, once the requests were heeded.
func (s State) decide(p *Policy, in *Seen, now time.Time) (next State, wake time.Time) {
	switch {
	case s.Stopped && s.Unsure:
		return s.to(Held, StableUnknown), time.Time{}
	case s.Target == s.Stable && (in.Problem == NoReason || in.Problem.OfPolicy()):
		return s.idle(p, in, now)
	case s.Back && (in.Problem == NoReason || in.Problem.OfPolicy()):
		return s.back(in), time.Time{}
	case in.Problem != NoReason:
		return s.to(Held, in.Problem), time.Time{}
	}
	s = s.stop(p, in)
	switch {
	case s.Back:
		return s.back(in), time.Time{}
	case s.Stopped:
		return s.to(Halted, TooManyFailed), time.Time{}
	case in.Requests.Paused:
		return s.to(Paused, PauseRequested), time.Time{}
	}
	return s.unbroken(p, in).walk(p, in, now)
}

// unbroken restarts the soak when healthy nodes stop serving and more nodes than may fail are under way. Otherwise a
// version that fails every five minutes would collect ten minutes of soak in total.
func (s State) unbroken(p *Policy, in *Seen) State {
	if in.Well < s.well && in.UnderWay+in.Refused > s.allowed(p, in) {
		s.Soaked = 0
	}
	if s.well = in.Well; in.Well > 0 || in.Refused == 0 && (in.UnderWay > 0 || s.Grants()) {
		s.noneSince = time.Time{}
	}
	return s
}

func (s State) to(phase Phase, why Reason) State {
	s.Phase, s.Reason = phase, why
	return s
}

// soak counts the time since the last call, if all was well then.
func (s State) soak(now time.Time) State {
	if !s.calmSince.IsZero() && now.After(s.calmSince) {
		s.Soaked += min(now.Sub(s.calmSince), 2*lookEvery)
	}
	s.calmSince = time.Time{}
	return s
}

// aim takes the current template as the target. A new target begins a release.
func (s State) aim(in *Seen) State {
	switch {
	case s.Stable == "":
		return First(in.Target, in.Pods, in.Exposed)
	case in.Target == s.Target:
		return s
	}
	next := State{Stable: s.Stable, Target: in.Target, Release: s.Release + 1, Phase: Rolling}
	if next.Reverting = next.Target == next.Stable; s.Unsure && s.Stopped && !next.Reverting {
		next.Unsure, next.Stopped, next.Stops = true, true, 1
	}
	return next
}

// First returns the state of a DaemonSet that had none; pods and exposed are as in Seen. If all pods have one revision,
// that revision is good; revisions without an available pod are ignored if another one has some. Without a pod there is
// nothing to protect.
func First(target string, pods map[string]int, exposed int) State {
	s := State{Stable: target, Target: target}
	most := 0
	if pods[target] == 0 {
		most = -1
	}
	for revision, available := range pods {
		if revision != target && (available > most || available == most && s.Stable != target && revision < s.Stable) {
			s.Stable, most = revision, available
		}
	}
	if s.Stable == s.Target {
		return s
	}
	s.Release, s.Phase, s.Quota = 1, Rolling, exposed
	if s.Unsure = len(pods) > 1; s.Unsure {
		s.Stopped, s.Stops = true, 1
	}
	return s
}

// Lost is First for a DaemonSet whose state was deleted in the middle of a release. The release may have been stopped or taken
// back, so only a person knows which revision is good, also if no pod of another one works now.
func Lost(target string, pods map[string]int, exposed int) State {
	others := maps.Clone(pods)
	delete(others, target)
	if len(others) == 0 {
		return First(target, pods, exposed)
	}
	return State{Stable: First("", others, 0).Stable, Target: target, Release: 1, Phase: Rolling, Quota: exposed, Unsure: true, Stopped: true, Stops: 1}
}

// idle returns the state while the template has the stable revision. Nodes with another revision go back to it, or have
// missed a release. The state says what they wait for, and why the next release would be held.
func (s State) idle(p *Policy, in *Seen, now time.Time) (next State, wake time.Time) {
	s = State{Stable: s.Stable, Target: s.Target, Release: s.Release, Reverting: s.Reverting && in.Other > 0, Ignored: s.Ignored}
	switch {
	case s.Reverting:
		return s.to(RollingBack, Reverted), time.Time{}
	case in.Problem != NoReason:
		return s.to(Idle, in.Problem), time.Time{} // it will hold the next release
	case in.Other == 0:
		return s, time.Time{}
	}
	return s.to(Idle, p.Rests(&in.Requests, now)), p.Turns(now)
}

// Rests returns why nodes that missed a release do not get its revision while no release is under way: a person has
// paused, or no window is open. NoReason: they get it. A reverted template waits for neither.
func (p *Policy) Rests(r *Requests, now time.Time) Reason {
	switch {
	case r.Paused:
		return PauseRequested
	case !p.Open(now):
		return WindowClosed
	}
	return NoReason
}

// back records whether nodes still have the revision that is taken back.
func (s State) back(in *Seen) State {
	if in.Exposed > 0 && !in.Assists {
		return s.to(RollingBack, s.WhyBack)
	}
	return s.to(Aborted, s.WhyBack)
}

// heed acts on requests. They are remembered, even while the release is held: the request may be gone when that ends.
func (s State) heed(p *Policy, in *Seen) State {
	r := &in.Requests
	for what, about := range r.about {
		if about > s.Release {
			s.Ignored = fmt.Sprintf("%s names release %d; this is release %d", what, about, s.Release)
		}
	}
	if s.Target == s.Stable {
		return s
	}
	if r.Plain == s.Release {
		return State{Stable: s.Target, Target: s.Target, Release: s.Release}
	}
	if r.Resume.Release == s.Release && s.Stopped && r.Resume.Stop == s.Stops {
		s.Stopped, s.Unsure, s.Forgiven = false, false, in.Failed
	}
	switch {
	case s.Back && r.Retry == s.Release && in.Exposed == 0 && in.Stranded > 0:
		s.Ignored = fmt.Sprintf("retry waits for nodes that are down and still have %s: %d", s.Target, in.Stranded)
	case s.Back && r.Retry == s.Release && (in.Exposed == 0 || in.Assists):
		return State{Stable: s.Stable, Target: s.Target, Release: s.Release + 1, Phase: Rolling}
	case r.Abort == s.Release && !s.Back:
		s.Back, s.WhyBack, s.Unsure = true, AbortRequested, false // this says which revision is good
	case r.Retry == s.Release && !s.Back:
		s.Ignored = "retry is for a release that was taken back"
	}
	s.ignorePromotion(p, r.Promote)
	return s
}

// late returns what the state must say of requests about releases that are over; empty: nothing. made means that such a
// request is new. It is reported until it is gone from the object, or another release begins: told is what the state said
// so far. Requests that were heeded in their time also stay in the object, and nothing is said of them.
func (in *Seen) late(release int, told string) (text string, made bool) {
	fresh := in.Requests.since(&in.Heeded)
	for what, about := range fresh.about {
		if about > 0 && about < release {
			return overText(what, about, release), true
		}
	}
	for what, about := range in.Requests.about {
		if told != "" && about < release && told == overText(what, about, release) {
			return told, false
		}
	}
	return "", false
}

func overText(what string, about, release int) string {
	return fmt.Sprintf("%s names release %d, which is over; this is release %d", what, about, release)
}

// ignorePromotion records that a promotion cannot do anything. A promotion of an earlier wave has done its work,
// whatever came after.
func (s *State) ignorePromotion(p *Policy, r Promotion) {
	wave := p.wave(r.Wave)
	switch {
	case r.Release != s.Release, !r.All && wave >= 0 && wave < p.wave(s.Wave):
	case s.Back:
		s.Ignored = "promote is too late: the release was taken back; retry starts it again"
	case s.Stopped:
		s.Ignored = fmt.Sprintf("promote does not continue a stopped release; resume stop %d does", s.Stops)
	case !r.All && (wave < 0 || wave > p.wave(s.Wave)):
		s.Ignored = fmt.Sprintf("promote names wave %q; the open one is %q", r.Wave, s.Wave)
	}
}

// wave returns the index of the wave with that name; -1: there is none.
func (p *Policy) wave(name string) int {
	return slices.IndexFunc(p.Waves, func(w Wave) bool { return w.Name == name })
}

// stop halts the release when too many nodes have failed.
func (s State) stop(p *Policy, in *Seen) State {
	s.Forgiven = min(s.Forgiven, in.Failed)
	if in.Failed <= s.allowed(p, in) || s.Stopped {
		return s
	}
	s.Stopped, s.Stops = true, s.Stops+1
	if p.Failure.Back {
		s.Back, s.WhyBack = true, FailedBack
	}
	return s
}

// allowed returns how many nodes may have failed: what the policy allows, plus what a person has forgiven.
func (s *State) allowed(p *Policy, in *Seen) int {
	return p.Failure.Allowance(in.Exposed, in.Bound) + s.Forgiven
}

// walk advances through the steps as far as it may.
func (s State) walk(p *Policy, in *Seen, now time.Time) (State, time.Time) {
	for steps := in.Layout.Steps; ; {
		var index int
		s, index = s.find(p, in, now)
		s.Quota = max(s.Quota, steps[index].Quota)
		after, wake, over := s.stay(p, in, index, now)
		switch {
		case !over:
			return after, wake
		case index == len(steps)-1:
			return State{Stable: s.Target, Target: s.Target, Release: s.Release}, time.Time{}
		}
		s = s.open(p, steps[index+1], now)
	}
}

// find returns the open step. If none is open yet, it is the first one, or the last that needs no more nodes than already
// have the target. The same applies if the policy no longer has the wave: no edit opens a larger one. The step then soaks again.
func (s State) find(p *Policy, in *Seen, now time.Time) (State, int) {
	steps, wave := in.Layout.Steps, p.wave(s.Wave)
	if s.Opened.IsZero() || wave < 0 {
		s = s.open(p, steps[in.Layout.passed(s.Quota)], now)
		wave = p.wave(s.Wave)
	}
	index := in.Layout.Step(wave, s.Group)
	if steps[index].Group != s.Group {
		s = s.open(p, steps[index], now)
	}
	return s, index
}

func (s State) open(p *Policy, step Step, now time.Time) State {
	s.Wave, s.Group, s.Opened, s.Soaked = p.Waves[step.Wave].Name, step.Group, now, 0
	s.noneSince = time.Time{}
	return s.to(Rolling, NoReason) // what the previous step waited for is over
}

// stay returns what is still to be done in a step; over: nothing, and the next may open.
func (s State) stay(p *Policy, in *Seen, index int, now time.Time) (after State, wake time.Time, over bool) {
	step, later := in.Layout.Steps[index], in.Layout.Steps[index+1:]
	w, promote := &p.Waves[step.Wave], in.Requests.Promote
	if promote.Release != s.Release {
		promote = Promotion{}
	}
	ends := len(later) == 0 || later[0].Wave != step.Wave // the wave, not just a group of it
	// Other controllers may have given the target to nodes that the layout does not know yet.
	grants := in.candidates(index) > 0 && (in.Exposed < step.Quota || in.Assists && len(later) == 0)
	switch {
	case in.Unwell:
		return s.to(Rolling, APIUnwell), time.Time{}, false
	case grants && p.Open(now):
		return s.to(Rolling, UnderQuota), p.Turns(now), false
	case grants:
		return s.to(Waiting, WindowClosed), p.Turns(now), false
	case in.UnderWay+in.Refused > s.allowed(p, in):
		return s.to(Rolling, NotSettled), time.Time{}, false
	case in.Well == 0 && step.Quota > 0 && s.Forgiven <= in.Refused && promote.Wave != w.Name && !promote.All:
		after, wake = s.noneWell(p, now)
		return after, wake, false
	case s.Soaked < w.Soak && !promote.All:
		s.calmSince = now
		return s.to(Soaking, NotSoaked), now.Add(min(w.Soak-s.Soaked, lookEvery)), false
	case w.Approval && ends && promote.Wave != w.Name && !promote.All:
		return s.to(Waiting, NotApproved), time.Time{}, false
	case len(later) > 0 && !p.Open(now):
		return s.to(Waiting, WindowClosed), p.Turns(now), false
	}
	return s, time.Time{}, true
}

// noneWell waits for a healthy node. There may never be one, if all candidates are down or the placement fits no node.
// After the time in which a working pod would have started, a person is told. A node that comes up later still lets the
// release continue.
func (s State) noneWell(p *Policy, now time.Time) (after State, wake time.Time) {
	if s.Phase == Waiting && s.Reason == NoneWell {
		return s, time.Time{}
	}
	if s.noneSince.IsZero() {
		s.noneSince = now
	}
	if due := s.noneSince.Add(p.Failure.StartWithin); now.Before(due) {
		return s.to(Rolling, NoneWell), due
	}
	return s.to(Waiting, NoneWell), time.Time{}
}
