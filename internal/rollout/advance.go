package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Advance works out how far a release may go now. What it returns must be kept before
// anything is done by it. It is to be called whenever something that it is given changes, and at
// wake: zero if time alone changes nothing.
func Advance(p *Policy, s State, in *Seen, now time.Time) (next State, wake time.Time) {
	s = s.soak(now)
	s.Ignored = ""
	if s.Stable == "" && in.Problem != NoReason {
		return s.to(Held, in.Problem), time.Time{}
	}
	s = s.aim(in, now).abort(in)
	switch {
	case in.Problem.ofPolicy() && s.Back:
		return s.back(in), time.Time{}
	case in.Problem != NoReason:
		return s.to(Held, in.Problem), time.Time{}
	}
	if s.Unsure = s.Unsure && in.Requests.Resume.Target != s.Target; s.Unsure {
		return s.to(Held, StableUnknown), time.Time{}
	}
	if s.Target == s.Stable {
		return s.idle(in), time.Time{}
	}
	s = s.heed(p, in)
	switch {
	case s.Back:
		return s.back(in), time.Time{}
	case s.Stopped:
		return s.to(Halted, TooManyFailed), time.Time{}
	case in.Requests.Paused:
		return s.to(Paused, PauseRequested), time.Time{}
	}
	return s.walk(p, in, now)
}

func (s State) to(phase Phase, why Reason) State {
	s.Phase, s.Reason = phase, why
	return s
}

// back says whether nodes still have what is taken back.
func (s State) back(in *Seen) State {
	if in.Exposed > 0 {
		return s.to(RollingBack, s.WhyBack)
	}
	return s.to(Aborted, s.WhyBack)
}

// soak counts the time since the last call, if all was well then.
func (s State) soak(now time.Time) State {
	if !s.calmSince.IsZero() && now.After(s.calmSince) {
		s.Soaked += now.Sub(s.calmSince)
	}
	s.calmSince = time.Time{}
	return s
}

// aim takes the target that the template has now. A new one begins a release.
func (s State) aim(in *Seen, now time.Time) State {
	switch {
	case s.Stable == "":
		return s.first(in, now)
	case in.Target == s.Target:
		return s
	}
	return State{Stable: s.Stable, Target: in.Target, Unsure: s.Unsure, Phase: Rolling}
}

// first is the state of a DaemonSet that had none. Its pods say which revision is good, if all
// are of one. Without a pod there is nothing to take care of.
func (s State) first(in *Seen, now time.Time) State {
	s = State{Stable: in.Target, Target: in.Target}
	most := -1
	for revision, available := range in.Pods {
		if revision != in.Target && (available > most || available == most && revision < s.Stable) {
			s.Stable, most = revision, available
		}
	}
	s.Unsure = len(in.Pods) > 1
	if s.Stable == s.Target {
		return s
	}
	s.Phase, s.Opened = Rolling, now
	for _, step := range in.Layout.Steps {
		s.Wave, s.Group, s.Quota = step.Wave, step.Group, step.Quota
		if in.Exposed <= step.Quota {
			break
		}
	}
	return s
}

// idle is the state while the template has the stable revision. Nodes with another go back to it.
func (s State) idle(in *Seen) State {
	s = State{Stable: s.Stable, Target: s.Target}
	if in.Other > 0 {
		return s.to(RollingBack, Reverted)
	}
	return s
}

// heed does what people ask for, and stops when too many nodes have failed.
func (s State) heed(p *Policy, in *Seen) State {
	r := &in.Requests
	resumes := r.Resume.Target == s.Target
	if r.Resume.Target != "" && !resumes {
		s.Ignored = ignored("resume", r.Resume.Target, s.Target)
	}
	if s.Back && r.Promote.Target == s.Target && r.Abort != s.Target && (r.Promote.All || r.Promote.Wave == s.wave(p)) {
		s.Back, s.WhyBack, s.Stopped = false, NoReason, false
	}
	switch failing := in.Failed > s.allowed(p, in); {
	case failing && p.Failure.Back && !s.Back:
		s.Stopped, s.Back, s.WhyBack = true, true, FailedBack
	case failing:
		s.Stopped = true
	case resumes:
		s.Stopped = false
	}
	return s
}

// abort takes the target back if a person says so. It is remembered, also while the release is held: the request may be
// gone when that ends.
func (s State) abort(in *Seen) State {
	switch about := in.Requests.Abort; {
	case s.Target == s.Stable || about == "":
	case about == s.Target:
		s.Back, s.WhyBack = true, AbortRequested
	default:
		s.Ignored = ignored("abort", about, s.Target)
	}
	return s
}

func ignored(what, about, target string) string {
	return fmt.Sprintf("%s names revision %s; the release is of %s", what, about, target)
}

func (s *State) wave(p *Policy) string {
	if s.Wave < len(p.Waves) {
		return p.Waves[s.Wave].Name
	}
	return ""
}

// walk goes through the steps as far as it may.
func (s State) walk(p *Policy, in *Seen, now time.Time) (State, time.Time) {
	s.ignorePromotion(p, in.Requests.Promote)
	if s.Opened.IsZero() {
		s = s.open(in.Layout.Steps[0], now)
	}
	for steps := in.Layout.Steps; ; {
		index := in.Layout.Step(s.Wave, s.Group)
		if step := steps[index]; step.Wave != s.Wave || step.Group != s.Group {
			s = s.open(step, now)
		}
		s.Quota = max(s.Quota, steps[index].Quota)
		after, wake, over := s.stay(p, in, steps[index+1:], now)
		switch {
		case !over:
			return after, wake
		case index == len(steps)-1:
			return State{Stable: s.Target, Target: s.Target}, time.Time{}
		}
		s = s.open(steps[index+1], now)
	}
}

func (s State) open(step Step, now time.Time) State {
	s.Wave, s.Group, s.Opened, s.Soaked = step.Wave, step.Group, now, 0
	return s
}

// stay says what is still to be done in the open step; over: nothing, and the next may open.
func (s State) stay(p *Policy, in *Seen, later []Step, now time.Time) (after State, wake time.Time, over bool) {
	w, promote := &p.Waves[s.Wave], in.Requests.Promote
	if promote.Target != s.Target {
		promote = Promotion{}
	}
	ends := len(later) == 0 || later[0].Wave != s.Wave // the wave, not just a group of it
	grants := in.Exposed < s.Quota && in.Candidates > 0
	switch {
	case in.Unwell:
		return s.to(Rolling, APIUnwell), time.Time{}, false
	case grants && p.Open(now):
		return s.to(Rolling, UnderQuota), p.Turns(now), false
	case grants:
		return s.to(Waiting, WindowClosed), p.Turns(now), false
	case in.UnderWay > s.allowed(p, in):
		return s.to(Rolling, NotSettled), time.Time{}, false
	case s.Soaked < w.Soak && !promote.All:
		s.calmSince = now
		return s.to(Soaking, NotSoaked), now.Add(w.Soak - s.Soaked), false
	case w.Approval && ends && promote.Wave != w.Name && !promote.All:
		return s.to(Waiting, NotApproved), time.Time{}, false
	case len(later) > 0 && !p.Open(now):
		return s.to(Waiting, WindowClosed), p.Turns(now), false
	}
	return s, time.Time{}, true
}

// allowed is how many nodes may have failed: what the policy allows, and what a person has forgiven.
func (s *State) allowed(p *Policy, in *Seen) int {
	n := p.Failure.Allowance(in.Exposed, in.Bound)
	if r := in.Requests.Resume; r.Target == s.Target {
		n += r.Failures
	}
	return n
}

// ignorePromotion says so where a promotion is of another revision, or of a wave that is not open
// yet. One of an earlier wave has done its work.
func (s *State) ignorePromotion(p *Policy, r Promotion) {
	wave := slices.IndexFunc(p.Waves, func(w Wave) bool { return w.Name == r.Wave })
	switch {
	case r.Target == "":
	case r.Target != s.Target:
		s.Ignored = ignored("promote", r.Target, s.Target)
	case !r.All && (wave < 0 || wave > s.Wave):
		s.Ignored = fmt.Sprintf("promote names wave %q; the open one is %q", r.Wave, s.wave(p))
	}
}
