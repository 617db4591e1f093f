package view

import (
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

// RolloutRequests returns what people ask for. wrong has a sentence for each request that cannot be parsed. Those are
// ignored, and the others count.
func RolloutRequests(o *DaemonSetRollout) (r rollout.Requests, wrong []string) {
	number := func(field string, n int) int {
		if n < 0 {
			wrong = append(wrong, fmt.Sprintf("spec.%s: %d is not the number of a release; status.release is", field, n))
			return 0
		}
		return n
	}
	s := &o.Spec
	r = rollout.Requests{Paused: s.Paused, Abort: number("abort", s.Abort), Retry: number("retry", s.Retry), Plain: number("plain", s.Plain)}
	if p := s.Promote; p != nil {
		release := number("promote.release", p.Release)
		if (p.Wave != "") == p.All {
			wrong = append(wrong, "spec.promote: it names either a wave or all")
		} else if release > 0 {
			r.Promote = rollout.Promotion{Release: release, Wave: p.Wave, All: p.All}
		}
	}
	if s.Resume != nil {
		if release := number("resume.release", s.Resume.Release); release > 0 {
			r.Resume = rollout.Resumption{Release: release, Stop: s.Resume.Stop}
		}
	}
	return r, wrong
}

// RolloutState returns the kept state of a release. The error names each field that cannot be parsed or that
// contradicts another: then the state must not be used. An object without a status has the empty state.
func RolloutState(o *DaemonSetRollout) (rollout.State, error) {
	r, s := stateReader{}, &o.Status
	if s.Phase == "" {
		if s.Stable+s.Target != "" || s.Release != 0 {
			return rollout.State{}, errors.New("status.phase: it is empty, but the rest of the status is not")
		}
		return rollout.State{}, nil
	}
	state := rollout.State{
		Stable: s.Stable, Target: s.Target, Stopped: s.Stopped, Unsure: s.Unsure, Back: s.Back, Reverting: s.Reverting, Ignored: s.Ignored,
		Release: r.count("release", s.Release), Quota: r.count("quota", s.Quota), Stops: r.count("stops", s.Stops), Forgiven: r.count("forgiven", s.Forgiven),
		Phase: r.phase(s.Phase), Reason: r.reason("reason", s.Reason), WhyBack: r.reason("whyBack", s.WhyBack),
	}
	if (s.Stable == "") != (s.Target == "") {
		r.say("stable", "it is %q and status.target is %q; both are there, or none", s.Stable, s.Target)
	}
	if w := s.Wave; w != nil {
		state.Wave, state.Group, state.Soaked = w.Name, w.Group, w.Soaked.Duration
		if w.Opened != nil {
			state.Opened = w.Opened.UTC()
		}
		if w.Soaked.Duration < 0 {
			r.say("wave.soaked", "%s is negative", w.Soaked.Duration)
		}
	}
	if err := errors.Join(r.wrong...); err != nil {
		return rollout.State{}, err
	}
	return state, nil
}

// stateReader collects what is wrong with a status.
type stateReader struct{ wrong []error }

func (r *stateReader) say(field, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("status."+field+": "+format, args...))
}

func (r *stateReader) count(field string, n int) int {
	if n < 0 {
		r.say(field, "%d is negative", n)
	}
	return n
}

func (r *stateReader) phase(name string) rollout.Phase {
	p, known := rollout.PhaseOf(name)
	if !known {
		r.say("phase", "this version does not know %q", name)
	}
	return p
}

func (r *stateReader) reason(field, name string) rollout.Reason {
	why, known := rollout.ReasonOf(name)
	if !known {
		r.say(field, "this version does not know %q", name)
	}
	return why
}

// RolloutReport is what a status has in addition to the state.
type RolloutReport struct {
	// Generation is the generation of the object whose requests the state has observed. Wrong is what was wrong with
	// them, and with the other things that people wrote.
	Generation int64
	Wrong      []string
	// Policy is the policy that the release follows; nil: there is none that can be read.
	Policy *rollout.Policy
	Nodes  RolloutNodes
	// Refused is plan.Exposure.Refused.
	Refused int
	// Guard is kept with the state. HeldText says what it holds, if anything.
	Guard    rollout.Guard
	HeldText string
	// Assists is rollout.Seen.Assists.
	Assists bool
	// Failures are the failed nodes in the order in which people should look at them.
	Failures []RolloutFailure
	Now      time.Time
}

// The limits of a status: it does not grow with the fleet.
const (
	maxFailures       = 10
	maxFailureMessage = 300
	maxMessage        = 2000
)

// RolloutStatus returns the status that keeps the state. before is the current one: its conditions keep the time
// since which they hold, and its observedGeneration never goes back.
func RolloutStatus(before *DaemonSetRolloutStatus, s *rollout.State, r *RolloutReport) DaemonSetRolloutStatus {
	out := DaemonSetRolloutStatus{
		ObservedGeneration: max(before.ObservedGeneration, r.Generation), Phase: s.Phase.String(), Reason: s.Reason.String(), Message: rolloutMessage(s, r),
		Release: s.Release, Stable: s.Stable, Target: s.Target, Quota: s.Quota, Wave: rolloutWave(s), Stops: s.Stops, Stopped: s.Stopped, Unsure: s.Unsure,
		Forgiven: s.Forgiven, Back: s.Back, WhyBack: s.WhyBack.String(), Reverting: s.Reverting, Ignored: s.Ignored,
		Nodes: r.Nodes, Assists: r.Assists, Guard: guardStatus(&r.Guard), Soak: rolloutSoak(s, r.Policy), Failures: rolloutFailures(r.Failures),
		Conditions: slices.Clone(before.Conditions),
	}
	if r.Policy != nil {
		out.Policy = &PolicyRef{Name: r.Policy.Name, Generation: r.Policy.Generation}
	}
	setRolloutConditions(&out, s, r)
	return out
}

func rolloutWave(s *rollout.State) *RolloutWave {
	w := RolloutWave{Name: s.Wave, Group: s.Group, Soaked: metav1.Duration{Duration: s.Soaked.Truncate(time.Second)}}
	if !s.Opened.IsZero() {
		w.Opened = &metav1.Time{Time: s.Opened.UTC().Truncate(time.Second)}
	}
	if w == (RolloutWave{}) {
		return nil
	}
	return &w
}

func rolloutFailures(all []RolloutFailure) []RolloutFailure {
	all = slices.Clone(all[:min(len(all), maxFailures)])
	for i := range all {
		all[i].Message = cut(all[i].Message, maxFailureMessage)
		all[i].Since = metav1.Time{Time: all[i].Since.UTC().Truncate(time.Second)}
	}
	return all
}

// cut returns the beginning of a text, at most that many bytes, in whole characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const more = "…"
	end := 0
	for i := range text {
		if i > most-len(more) {
			break
		}
		end = i
	}
	return text[:end] + more
}
