package engine

import (
	"math"
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// A DaemonSet whose pods cannot be created at all (because of a policy, or a webhook that is
// down) has as many slots to try as the cluster has nodes. Until one of its creates has
// succeeded, and again when many in a row have failed, it is on trial: only a few creates are
// handed over at a time. Refused slots then wait together, for one pause that grows. So it costs
// little memory and few requests, however many such DaemonSets there are. The first success ends
// the trial.
const (
	trialCreates = 64 // that wait or are under way at once
	manyFailed   = 32
)

// trial is the memory for that. The state's lock guards it.
type trial struct {
	passed bool
	failed int // creates since one succeeded
	// untried is the set of nodes whose creates are not handed over yet; refused has those that wait
	// together, with what was refused.
	untried map[string]struct{}
	refused map[string]string
	at      time.Time // when the refused may be tried again
	pause   time.Duration
	round   int // how many were refused since this pause began
}

// createFailed postpones a slot whose create has failed.
func (s *state) createFailed(node string, p delivery.Pace, now time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.trial
	t.failed++
	if t.failed < manyFailed && t.pause == 0 {
		s.retries.failed(node, plan.Act{Kind: plan.Creating}, p, now, what)
		return
	}
	t.passed = t.passed && t.failed < manyFailed
	had := s.retries.of(node, plan.Act{Kind: plan.Creating}).delay
	s.retries.forget(node, plan.Act{Kind: plan.Creating})
	t.refused = with(t.refused, node, what)
	t.round++
	if !t.at.After(now) {
		t.pause = min(max(2*t.pause, 2*had, time.Second, p.First), delivery.MaxRetry)
		t.at, t.round = now.Add(t.pause), 1
	}
}

// succeeded ends the trial. Slots that are refused while others work keep their
// pause until nothing has been refused for a while.
func (t *trial) succeeded(now time.Time) {
	t.passed, t.failed = true, 0
	if len(t.refused) == 0 && now.Sub(t.at) > delivery.MaxRetry {
		t.pause = 0
	}
}

func with[V any](set map[string]V, node string, value V) map[string]V {
	if set == nil {
		set = map[string]V{}
	}
	set[node] = value
	return set
}

// leave postpones the node's create.
func (s *state) leave(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial.untried = with(s.trial.untried, node, struct{}{})
}

// allInSight forgets the postponed nodes: every node is about to be looked at.
func (s *state) allInSight() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial.untried = nil
}

// room returns how many creates may be handed over in addition to pending ones.
func (s *state) room(pending int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trial.passed {
		return math.MaxInt
	}
	return max(trialCreates-pending, 0)
}

// takeLate appends to into the postponed nodes whose turn it is, and returns when the refused
// ones may be tried; zero: after others have been.
func (s *state) takeLate(room int, now time.Time, into []string) ([]string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, first := &s.trial, len(into)
	into = take(&t.untried, room, into)
	into = s.part(now, into)
	if t.at.After(now) {
		if len(t.refused) > 0 {
			return into, t.at
		}
		return into, time.Time{}
	}
	return take(&t.refused, room-(len(into)-first), into), time.Time{}
}

// part makes each slot wait by itself again, once creates succeed and the last pause was for few:
// a permanently refused node must not delay the others. It appends to into the nodes whose turn
// it is.
func (s *state) part(now time.Time, into []string) []string {
	t := &s.trial
	if !t.passed || t.pause == 0 || t.at.After(now) || t.round >= manyFailed {
		return into
	}
	for node, what := range t.refused {
		s.retries.put(node, retry{act: plan.Act{Kind: plan.Creating}, at: now, delay: t.pause, what: what})
		into = append(into, node)
	}
	t.refused, t.pause, t.failed = nil, 0, 0
	return into
}

// take moves up to room nodes out of a set.
func take[V any](from *map[string]V, room int, into []string) []string {
	first := len(into)
	for node := range *from {
		if len(into)-first >= room {
			break
		}
		into = append(into, node)
		delete(*from, node)
	}
	if len(*from) == 0 {
		*from = nil
	}
	slices.Sort(into[first:])
	return into
}

// stalls reports whether postponed nodes are left whose turn it is.
func (s *state) stalls(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.trial
	return len(t.untried) > 0 || len(t.refused) > 0 && !t.at.After(now)
}
