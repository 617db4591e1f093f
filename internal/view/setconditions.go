package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

// The conditions of a DaemonSet that follows a policy, named as for Deployments. Progressing is True while a release goes
// on by itself, or has ended; Unknown while it waits for a person, as intended; False once it has
// stopped. Available is True unless more nodes lack an available pod than maxUnavailable allows. RemovalsHeld is True while
// the guard holds pods and Progressing has something else to say; otherwise it is not there. It also tells the next leader,
// in case all else that guides the DaemonSet is deleted.
const (
	ConditionProgressing  appsv1.DaemonSetConditionType = "Progressing"
	ConditionAvailable    appsv1.DaemonSetConditionType = "Available"
	ConditionRemovalsHeld appsv1.DaemonSetConditionType = "RemovalsHeld"
)

// The reasons for both, in addition to those of a rollout.State and ReasonRemovalsHeld. None is a reason that Deployments
// have: the reason shows that a condition is ours.
const (
	ReasonReleased        = "Released"
	ReasonRolling         = "Rolling"
	ReasonSoaking         = "Soaking"
	ReasonStateNotKept    = "StateNotKept"
	ReasonEnoughAvailable = "EnoughAvailable"
	ReasonTooFewAvailable = "TooFewAvailable"
)

const removalsHeld = "labels or the placement would take pods away; everynode rollout status says how many, and what to do"

// Standing is the state of a DaemonSet's releases, for its conditions. It has no counts of the rollout: what changes with
// each pod is in the DaemonSetRollout.
type Standing struct {
	State *rollout.State
	// Unkept means that the kept state is not about the current template, so that it is not acted on yet.
	Unkept bool
	// Held means that the guard holds pods.
	Held bool
	// Wrong is what is wrong with the policy, in words.
	Wrong []string
	// Missing is how many nodes lack an available pod, and MayMiss how many are allowed to.
	Missing, MayMiss int
	Now              time.Time
}

// SetConditions writes the state of the releases into a status. nil means that the DaemonSet follows no policy; then our
// earlier conditions are removed. The conditions of others stay, even those of our types on a DaemonSet that follows no
// policy.
func SetConditions(s *appsv1.DaemonSetStatus, r *Standing) {
	if r == nil {
		s.Conditions = slices.DeleteFunc(s.Conditions, isOurs)
		return
	}
	if r.State.Reason == rollout.ViewIncomplete || r.State.Stable == "" && !r.Held {
		return // it is not known yet, but soon will be
	}
	progressing := r.progress()
	progressing.Type, progressing.Message = ConditionProgressing, cut(strings.Join(append([]string{progressing.Message}, r.Wrong...), "; "), maxMessage)
	available := appsv1.DaemonSetCondition{Type: ConditionAvailable, Status: corev1.ConditionTrue, Reason: ReasonEnoughAvailable,
		Message: "at most as many nodes lack an available pod as maxUnavailable allows"}
	if r.Missing > r.MayMiss {
		available.Status, available.Reason = corev1.ConditionFalse, ReasonTooFewAvailable
		available.Message = "more nodes lack an available pod than maxUnavailable allows"
	}
	conditions := []appsv1.DaemonSetCondition{progressing, available}
	if r.Held && progressing.Reason != ReasonRemovalsHeld {
		conditions = append(conditions, appsv1.DaemonSetCondition{Type: ConditionRemovalsHeld, Status: corev1.ConditionTrue, Reason: ReasonRemovalsHeld, Message: removalsHeld})
	} else {
		s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DaemonSetCondition) bool { return c.Type == ConditionRemovalsHeld && isOurs(c) })
	}
	for _, c := range conditions {
		c.LastTransitionTime = metav1.Time{Time: r.Now.UTC().Truncate(time.Second)}
		setCondition(&s.Conditions, c)
	}
}

// setCondition replaces the condition of the same type. Its time is since when it has had its status.
func setCondition(all *[]appsv1.DaemonSetCondition, c appsv1.DaemonSetCondition) {
	i := slices.IndexFunc(*all, func(old appsv1.DaemonSetCondition) bool { return old.Type == c.Type })
	if i < 0 {
		*all = append(*all, c)
		return
	}
	if old := &(*all)[i]; old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	(*all)[i] = c
}

func isOurs(c appsv1.DaemonSetCondition) bool {
	switch c.Type {
	case ConditionProgressing:
		_, known := rollout.ReasonOf(c.Reason)
		return known && c.Reason != "" ||
			slices.Contains([]string{ReasonReleased, ReasonRolling, ReasonSoaking, ReasonStateNotKept, ReasonRemovalsHeld}, c.Reason)
	case ConditionRemovalsHeld:
		return c.Reason == ReasonRemovalsHeld
	case ConditionAvailable:
		return c.Reason == ReasonEnoughAvailable || c.Reason == ReasonTooFewAvailable
	}
	return false
}

// InRelease reports whether a status, as SetConditions has written it, says that something was saved about a release or
// the guard that is not over. Reasons that are there before anything is saved do not count.
func InRelease(s *appsv1.DaemonSetStatus) bool {
	return HoldsRemovals(s) || !slices.Contains([]string{"", ReasonReleased, ReasonStateNotKept, rollout.PolicyUnreadable.String()}, progressingBecause(s))
}

// HoldsRemovals reports whether a status says that the guard holds pods.
func HoldsRemovals(s *appsv1.DaemonSetStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c appsv1.DaemonSetCondition) bool { return isOurs(c) && c.Reason == ReasonRemovalsHeld })
}

// progressingBecause returns the reason of our condition Progressing; empty: there is none.
func progressingBecause(s *appsv1.DaemonSetStatus) string {
	for _, c := range s.Conditions {
		if c.Type == ConditionProgressing && isOurs(c) {
			return c.Reason
		}
	}
	return ""
}

// progress returns status, reason and message of Progressing. The message changes only with the phase, never with a
// pod.
func (r *Standing) progress() appsv1.DaemonSetCondition {
	s := r.State
	c := appsv1.DaemonSetCondition{Status: corev1.ConditionFalse, Reason: s.Reason.String()}
	switch {
	case r.Unkept:
		c.Reason, c.Message = ReasonStateNotKept, "the recorded state of the release is not about the current template, so no node gets that template yet"
	case s.Phase == rollout.Held:
		c.Message = problemText(s)
	case s.Phase == rollout.Aborted:
		c.Message = backText(s, &RolloutReport{})
	case s.Phase == rollout.Halted:
		c.Message = fmt.Sprintf("release %d, wave %s: too many nodes with %s failed; resume (stop %d) continues it, abort takes it back", s.Release, waveOf(s), s.Target, s.Stops)
	case s.Stands():
		c.Message = fmt.Sprintf("release %d, wave %s: no node with %s is well, so there is nothing to watch; promote continues without", s.Release, waveOf(s), s.Target)
	case r.Held:
		c.Reason, c.Message = ReasonRemovalsHeld, removalsHeld
	default:
		c.Status = corev1.ConditionTrue
		r.goesOn(&c)
	}
	return c
}

// goesOn completes the condition of a release that nothing stops.
func (r *Standing) goesOn(c *appsv1.DaemonSetCondition) {
	s := r.State
	of := fmt.Sprintf("release %d, wave %s: ", s.Release, waveOf(s))
	switch {
	case s.Phase == rollout.Idle:
		c.Reason, c.Message = ReasonReleased, "all nodes get "+s.Stable // tools that wait look for this reason
		if s.Reason.OfPolicy() {
			c.Message = idleText(s)
		}
	case s.Phase == rollout.RollingBack:
		c.Message = fmt.Sprintf("release %d: nodes go back to %s", s.Release, s.Stable)
	case s.Phase == rollout.Paused:
		c.Status, c.Message = corev1.ConditionUnknown, of+"paused by spec.paused of the DaemonSetRollout"
	case s.Reason == rollout.NotApproved:
		c.Status, c.Message = corev1.ConditionUnknown, of+"it is complete, and the next one opens when a person promotes it"
	case s.Reason == rollout.WindowClosed:
		c.Message = of + "no window is open"
	case s.Reason == rollout.APIUnwell:
		c.Message = of + "no node gets " + s.Target + " while the API server is unwell"
	case s.Reason == rollout.NoneWell:
		c.Message = of + "no node with " + s.Target + " is well, so there is nothing to watch; promote continues without"
	case s.Phase == rollout.Soaking:
		c.Reason, c.Message = ReasonSoaking, of+"it has "+s.Target+", and is watched"
	default:
		c.Reason, c.Message = ReasonRolling, of+"it gets "+s.Target+" in place of "+s.Stable
	}
}
