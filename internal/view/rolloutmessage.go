package view

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

// The conditions of a DaemonSetRollout, as kstatus and tools built on it read them: Ready once the release has ended,
// Reconciling while it goes on or waits for somebody, Stalled if it does not continue by itself.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
)

// ReasonStatusUnreadable is the reason for a DaemonSetRollout whose status cannot be parsed.
const ReasonStatusUnreadable = "StatusUnreadable"

// UnreadableRollout returns the status of an object from which RolloutState could read nothing: everything in it
// stays, and the conditions say why nothing goes on. The release continues once somebody repairs the status or deletes
// the object.
func UnreadableRollout(before *DaemonSetRolloutStatus, err error, now time.Time) DaemonSetRolloutStatus {
	out := *before
	out.Conditions = append([]metav1.Condition(nil), before.Conditions...)
	message := "nothing continues, since the status cannot be read: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	out.setConditions(ConditionStalled, ReasonStatusUnreadable, message, now)
	return out
}

// ReasonRemovalsHeld is the reason for a DaemonSetRollout that waits for a person to decide whether pods may go.
const ReasonRemovalsHeld = "RemovalsHeld"

func setRolloutConditions(out *DaemonSetRolloutStatus, s *rollout.State, r *RolloutReport) {
	reason, holds := s.Reason.String(), rolloutCondition(s)
	switch {
	case r.Guard.Held > 0 && holds != ConditionStalled:
		reason, holds = ReasonRemovalsHeld, ConditionStalled
	case reason == "":
		reason = s.Phase.String()
	}
	out.setConditions(holds, reason, out.Message, r.Now)
}

// rolloutCondition returns the condition that is true.
func rolloutCondition(s *rollout.State) string {
	switch {
	case s.Phase == rollout.Idle:
		return ConditionReady
	case s.Phase == rollout.Held && s.Reason == rollout.ViewIncomplete: // passes by itself
		return ConditionReconciling
	case s.Stands():
		return ConditionStalled
	}
	return ConditionReconciling
}

func (s *DaemonSetRolloutStatus) setConditions(holds, reason, message string, now time.Time) {
	for _, kind := range []string{ConditionReady, ConditionReconciling, ConditionStalled} {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, ObservedGeneration: max(s.ObservedGeneration, 0),
			LastTransitionTime: metav1.Time{Time: now.UTC().Truncate(time.Second)}, Reason: reason, Message: message}
		if kind == holds {
			c.Status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&s.Conditions, c)
	}
}

// rolloutSoak returns RolloutStatus' text about the soak; it is empty while no wave is open.
func rolloutSoak(s *rollout.State, p *rollout.Policy) string {
	if s.Wave == "" || p == nil {
		return ""
	}
	for i := range p.Waves {
		if w := &p.Waves[i]; w.Name == s.Wave {
			return fmt.Sprintf("%s of %s", short(min(s.Soaked, w.Soak)), short(w.Soak))
		}
	}
	return ""
}

// rolloutMessage says where a release is, and what it waits for.
func rolloutMessage(s *rollout.State, r *RolloutReport) string {
	said := []string{reasonText(s, r)}
	if r.HeldText != "" {
		said = append(said, r.HeldText)
	}
	if n := r.Nodes.Leaked; n > 0 {
		said = append(said, fmt.Sprintf("%d of the nodes with %s have it out of turn: the DaemonSet controller of the cluster creates pods for new nodes and failed pods from the template", n, s.Target))
	}
	if s.Ignored != "" {
		said = append(said, "ignored: "+s.Ignored)
	}
	return cut(strings.Join(append(said, r.Wrong...), "; "), maxMessage)
}

func reasonText(s *rollout.State, r *RolloutReport) string {
	n := &r.Nodes
	wave := "wave " + waveOf(s)
	switch {
	case s.Phase == rollout.Idle && s.Reason.OfPolicy():
		return idleText(s)
	case s.Phase == rollout.Idle && s.Reason != rollout.NoReason:
		return restsText(s, r)
	}
	switch s.Reason {
	case rollout.NoReason:
		return idleText(s)
	case rollout.UnderQuota:
		return fmt.Sprintf("%s: %d of %d nodes have %s", wave, n.Exposed, s.Quota, s.Target)
	case rollout.NotSettled:
		return fmt.Sprintf("%s: %d of %d nodes with %s not well yet", wave, n.UnderWay, n.Exposed, s.Target)
	case rollout.NoneWell:
		return fmt.Sprintf("%s: no node with %s is well, so there is nothing to watch: its nodes are down, their pods are refused, or the template fits none of them; promote continues without", wave, s.Target)
	case rollout.NotSoaked:
		return fmt.Sprintf("%s has soaked for %s", wave, rolloutSoak(s, r.Policy))
	case rollout.NotApproved:
		return wave + " is complete; the next one opens when a person promotes it"
	case rollout.WindowClosed:
		return wave + ": no window is open" + opensAt(r)
	case rollout.PauseRequested:
		return fmt.Sprintf("spec.paused: %d of %d nodes have %s, and no more get it", n.Exposed, n.Eligible, s.Target)
	case rollout.TooManyFailed:
		return fmt.Sprintf("%s: %s; resume (stop %d) continues it, abort takes it back", wave, failuresText(s, r), s.Stops)
	case rollout.AbortRequested, rollout.FailedBack, rollout.Reverted:
		return backText(s, r)
	}
	return problemText(s)
}

// failuresText describes the nodes that have stopped a release.
func failuresText(s *rollout.State, r *RolloutReport) string {
	var said []string
	if failed := r.Nodes.Failed - r.Refused; failed > 0 || r.Refused == 0 {
		said = append(said, fmt.Sprintf("%d of %d nodes with %s failed", failed, r.Nodes.Exposed, s.Target))
	}
	if r.Refused > 0 {
		said = append(said, fmt.Sprintf("nodes that keep their pods, because the API server refuses those of %s: %d", s.Target, r.Refused))
	}
	return strings.Join(said, "; ")
}

// idleText describes a DaemonSet of which no release is under way, and what will hold the next one.
func idleText(s *rollout.State) string {
	text := "all nodes get " + s.Stable
	switch {
	case s.Stable == "":
		return "the DaemonSet follows no policy"
	case s.Reason == rollout.PolicyGone:
		return text + "; the next release will be held: the policy that the DaemonSet names does not exist"
	case s.Reason.OfPolicy():
		return text + "; the next release will be held: " + problemText(s)
	}
	return text
}

// restsText describes what nodes that have missed a release wait for.
func restsText(s *rollout.State, r *RolloutReport) string {
	text := fmt.Sprintf("all nodes get %s, and %d that missed it wait ", s.Stable, r.Nodes.Other)
	if s.Reason == rollout.PauseRequested {
		return text + "until the pause ends (spec.paused)"
	}
	return text + "for a window" + opensAt(r)
}

func backText(s *rollout.State, r *RolloutReport) string {
	n := &r.Nodes
	why := map[rollout.Reason]string{rollout.AbortRequested: "aborted by spec.abort", rollout.FailedBack: "too many nodes have failed",
		rollout.Reverted: "the template has " + s.Stable + " again"}[s.Reason]
	switch {
	case s.Reason == rollout.Reverted:
		return fmt.Sprintf("%s: nodes go back to it, %d left", why, n.Other)
	case r.Assists && n.Exposed > 0:
		return fmt.Sprintf("%s: no more nodes get %s, and %d keep it, since the DaemonSet controller of the cluster creates pods only from the template; to take it from them, change the template to that of %s: "+
			"revert it at its source, or use everynode rollout undo --patch", why, s.Target, n.Exposed, s.Stable)
	case s.Phase == rollout.Aborted:
		return fmt.Sprintf("%s: all nodes that can go back have %s, and the template still asks for %s; it is released again when the template changes, or by retry", why, s.Stable, s.Target)
	}
	return fmt.Sprintf("%s: nodes go back from %s to %s, %d left", why, s.Target, s.Stable, n.Exposed)
}

// problemText describes problems that stop the release whatever the nodes do.
func problemText(s *rollout.State) string {
	switch s.Reason {
	case rollout.APIUnwell:
		return "the API server is unwell: many requests of the engine fail or are answered late, so no more nodes get " + s.Target + " until it is well for a minute"
	case rollout.ViewIncomplete:
		return "the engine has not seen all of the cluster yet"
	case rollout.PolicyUnreadable:
		return "the policy cannot be followed"
	case rollout.PolicyGone:
		return "there is no policy to follow: it was removed, or never existed; create it, abort, or let all nodes get " + s.Target + " (plain)"
	case rollout.SeveralPolicies:
		return "more than one policy chooses the DaemonSet"
	case rollout.StableGone:
		return "the stable revision " + s.Stable + " no longer exists; only plain continues"
	case rollout.StableUnknown:
		return fmt.Sprintf("there are pods of several revisions, and it is not known which one is good: resume (stop %d) continues with %s, abort goes back to %s", s.Stops, s.Target, s.Stable)
	case rollout.NotDriven:
		return "the DaemonSet controller of the cluster replaces these pods by itself, and not when the policy says so"
	case rollout.NotObserved:
		return "the DaemonSet controller of the cluster has not observed the last change yet; is kube-controller-manager running?"
	case rollout.ClockSkew:
		return "the clock of the engine is wrong by so much that soak times cannot be trusted"
	}
	return s.Reason.String()
}

func opensAt(r *RolloutReport) string {
	if r.Policy == nil || r.Policy.Open(r.Now) {
		return ""
	}
	next := r.Policy.Turns(r.Now)
	if next.IsZero() {
		return ""
	}
	return "; the next opens on " + next.UTC().Format("Mon 2 Jan 15:04 MST")
}

// waveOf returns the name of the open wave, with its group.
func waveOf(s *rollout.State) string { return strings.Trim(s.Wave+"/"+s.Group, "/") }
