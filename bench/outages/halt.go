package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// halt is since when a release of ours reaches no further node, and why. The zero value is a release that goes on.
type halt struct {
	release int // its number
	since   time.Time
	why     string
}

// saw takes the next state of the release, which was seen at that time. A release that goes on after a halt, or that
// follows one, has not stopped.
func (h *halt) saw(s *view.DaemonSetRolloutStatus, at time.Time) {
	why := standstill(s)
	if why == "" || s.Release != h.release {
		h.since = time.Time{}
	}
	if h.release, h.why = s.Release, why; why != "" && h.since.IsZero() {
		h.since = at
	}
}

// standstill returns why a release reaches no further node unless somebody acts or the API server recovers; "": it goes
// on, or only waits for the end of a soak.
func standstill(s *view.DaemonSetRolloutStatus) string {
	switch s.Phase {
	case rollout.Halted.String(), rollout.Held.String(), rollout.RollingBack.String(), rollout.Aborted.String():
		return strings.TrimSuffix(fmt.Sprintf("%s, %s: %s", s.Phase, s.Reason, strings.Join(failures(s), " and ")), ": ")
	}
	switch {
	case s.Guard != nil && s.Guard.Held > 0:
		return fmt.Sprintf("the guard holds the pods of %d nodes", s.Guard.Held)
	case s.Reason == rollout.APIUnwell.String():
		return s.Reason
	}
	return ""
}

// failures returns the reasons why nodes have failed, each once.
func failures(s *view.DaemonSetRolloutStatus) (reasons []string) {
	for _, f := range s.Failures {
		reasons = append(reasons, f.Reason)
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

// goesOn is the share of the observation at its end in which a controller that still creates or deletes pods counts as
// one that has not stopped.
const goesOn = 0.1

// see takes what there is of a scenario at now, when somebody intervenes. began is when it went wrong. real makes the
// time of a real fleet of one that was measured.
func (r *result) see(s scenario, t *tally, began, now time.Time, real func(time.Duration) time.Duration) {
	since := func(at time.Time) time.Duration {
		if at.Before(began) {
			return 0
		}
		return real(at.Sub(began))
	}
	r.Most, r.Exposed, r.Observed, r.HaltedBy = t.most, len(t.exposed), s.Observe, t.halt.why
	r.Spread, r.LastReplaced = since(t.last), since(t.acted)
	reached, all := r.Exposed, r.Spread
	if s.Kind == selector || s.Kind == labels {
		reached, all = t.bare(), r.LastReplaced
	}
	r.All = reached >= s.reach(t.nodes)
	switch {
	case r.All:
		r.Stopped = all
	case r.System == upstream:
		r.Stopped = r.LastReplaced
		r.GoesOn = float64(since(now)-r.LastReplaced) < goesOn*float64(s.Observe)
	default:
		r.Stopped = max(since(t.halt.since), r.Spread)
		r.GoesOn = t.halt.since.IsZero()
	}
}

// reach returns how many of the nodes the scenario can reach.
func (s *scenario) reach(nodes int) int {
	if s.Kind == labels {
		return int(lostShare * float64(nodes))
	}
	return nodes
}

// stopped says after what time no further node was reached.
func (r *result) stopped() string {
	switch {
	case r.GoesOn:
		return "not within " + minutes(r.Observed)
	case r.All:
		return "all after " + minutes(r.Stopped)
	}
	return minutes(r.Stopped)
}
