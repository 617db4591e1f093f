package view

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

func said(s *appsv1.DaemonSetStatus) (all []string) {
	for _, c := range s.Conditions {
		all = append(all, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return all
}

// The conditions of a DaemonSet say whether its release goes on, and why not.
func TestSetConditions(t *testing.T) {
	release := func(phase rollout.Phase, reason rollout.Reason) *rollout.State {
		return &rollout.State{Stable: "s", Target: "t", Release: 3, Wave: "zones", Group: "eu-a", Phase: phase, Reason: reason, WhyBack: reason, Stops: 2}
	}
	for _, test := range []struct {
		of   Standing
		want string // of Progressing
	}{
		{Standing{State: &rollout.State{Stable: "s", Target: "s"}}, "True Released: all nodes get s"},
		{Standing{State: &rollout.State{Stable: "s", Target: "s", Reason: rollout.PolicyGone}, Wrong: []string{"there is no RolloutPolicy x"}},
			"True Released: all nodes get s; the next release will be held: the policy that the DaemonSet names does not exist; there is no RolloutPolicy x"},
		{Standing{State: release(rollout.Rolling, rollout.UnderQuota)}, "True Rolling: release 3, wave zones/eu-a: it gets t in place of s"},
		{Standing{State: release(rollout.Rolling, rollout.NotSettled)}, "True Rolling: release 3, wave zones/eu-a: it gets t in place of s"},
		{Standing{State: release(rollout.Rolling, rollout.APIUnwell)},
			"True APIUnwell: release 3, wave zones/eu-a: no node gets t while the API server is unwell"},
		{Standing{State: release(rollout.Rolling, rollout.NoneWell)},
			"True NoneWell: release 3, wave zones/eu-a: no node with t is well, so there is nothing to watch; promote continues without"},
		{Standing{State: release(rollout.Waiting, rollout.NoneWell)},
			"False NoneWell: release 3, wave zones/eu-a: no node with t is well, so there is nothing to watch; promote continues without"},
		{Standing{State: release(rollout.Soaking, rollout.NotSoaked)}, "True Soaking: release 3, wave zones/eu-a: it has t, and is watched"},
		{Standing{State: release(rollout.Waiting, rollout.WindowClosed)}, "True WindowClosed: release 3, wave zones/eu-a: no window is open"},
		{Standing{State: release(rollout.Waiting, rollout.NotApproved)},
			"Unknown NotApproved: release 3, wave zones/eu-a: it is complete, and the next one opens when a person promotes it"},
		{Standing{State: release(rollout.Paused, rollout.PauseRequested)},
			"Unknown PauseRequested: release 3, wave zones/eu-a: paused by spec.paused of the DaemonSetRollout"},
		{Standing{State: release(rollout.Halted, rollout.TooManyFailed)},
			"False TooManyFailed: release 3, wave zones/eu-a: too many nodes with t failed; resume (stop 2) continues it, abort takes it back"},
		{Standing{State: release(rollout.RollingBack, rollout.AbortRequested)}, "True AbortRequested: release 3: nodes go back to s"},
		{Standing{State: release(rollout.RollingBack, rollout.Reverted)}, "True Reverted: release 3: nodes go back to s"},
		{Standing{State: release(rollout.Aborted, rollout.FailedBack)},
			"False FailedBack: too many nodes have failed: all nodes that can go back have s, and the template still asks for t; it is released again when the template changes, or by retry"},
		{Standing{State: release(rollout.Held, rollout.SeveralPolicies), Wrong: []string{"a and b both choose it"}},
			"False SeveralPolicies: more than one policy chooses the DaemonSet; a and b both choose it"},
		{Standing{State: &rollout.State{Stable: "s", Target: "s"}, Held: true},
			"False RemovalsHeld: labels or the placement would take pods away; everynode rollout status says how many, and what to do"},
		{Standing{State: &rollout.State{}, Held: true},
			"False RemovalsHeld: labels or the placement would take pods away; everynode rollout status says how many, and what to do"},
		{Standing{State: release(rollout.Halted, rollout.TooManyFailed), Held: true},
			"False TooManyFailed: release 3, wave zones/eu-a: too many nodes with t failed; resume (stop 2) continues it, abort takes it back"},
		{Standing{State: &rollout.State{Stable: "s", Target: "s"}, Unkept: true},
			"False StateNotKept: the recorded state of the release is not about the current template, so no node gets that template yet"},
	} {
		var s appsv1.DaemonSetStatus
		SetConditions(&s, &test.of)
		want := []string{"Progressing=" + test.want, "Available=True EnoughAvailable: at most as many nodes lack an available pod as maxUnavailable allows"}
		if test.of.Held && !strings.HasPrefix(test.want, "False RemovalsHeld") {
			want = append(want, "RemovalsHeld=True RemovalsHeld: labels or the placement would take pods away; everynode rollout status says how many, and what to do")
		}
		if got := said(&s); !slices.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	var s appsv1.DaemonSetStatus
	for _, of := range []Standing{{State: &rollout.State{}}, {State: release(rollout.Held, rollout.ViewIncomplete)}} {
		if SetConditions(&s, &of); len(s.Conditions) > 0 {
			t.Errorf("of what is not known yet it says %q", said(&s))
		}
	}
	s.Conditions = nil
	SetConditions(&s, &Standing{State: &rollout.State{Stable: "s", Target: "s"}, Missing: 3, MayMiss: 2})
	if got, want := said(&s)[1], "Available=False TooFewAvailable: more nodes lack an available pod than maxUnavailable allows"; got != want {
		t.Errorf("with too few pods it says %q, want %q", got, want)
	}
}

func drawStanding(t *rapid.T, name string) *Standing {
	if rapid.IntRange(0, 3).Draw(t, name+" follows none") == 0 {
		return nil
	}
	state := drawState(t)
	state.Reason = max(state.Reason, rollout.UnderQuota) // only an Idle release has no reason
	return &Standing{State: &state, Unkept: rapid.Bool().Draw(t, "unkept"), Held: rapid.Bool().Draw(t, "held"),
		Missing: rapid.IntRange(0, 2).Draw(t, "missing"), MayMiss: 1, Now: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 5)}
}

// Conditions of others stay, whatever we write one after the other. A status that already says the same is not written again;
// the time of a condition is since when its status holds; and without a policy none of our conditions is left.
func TestConditionsOfOthersStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ours := []appsv1.DaemonSetConditionType{ConditionProgressing, ConditionAvailable, ConditionRemovalsHeld}
		var s appsv1.DaemonSetStatus
		for _, kind := range rapid.SliceOfNDistinct(rapid.SampledFrom([]appsv1.DaemonSetConditionType{"a", "Stalled", ConditionAvailable, "z"}), 0, 4, rapid.ID).Draw(t, "types") {
			s.Conditions = append(s.Conditions, appsv1.DaemonSetCondition{Type: kind, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"})
		}
		others := slices.DeleteFunc(slices.Clone(s.Conditions), func(c appsv1.DaemonSetCondition) bool { return slices.Contains(ours, c.Type) })
		before := *s.DeepCopy()
		if SetConditions(&s, nil); !reflect.DeepEqual(s, before) {
			t.Fatalf("without a policy %q becomes %q", said(&before), said(&s))
		}
		for range rapid.IntRange(1, 5).Draw(t, "looks") {
			r := drawStanding(t, "it")
			before := *s.DeepCopy()
			SetConditions(&s, r)
			if left := slices.DeleteFunc(slices.Clone(s.Conditions), func(c appsv1.DaemonSetCondition) bool { return slices.Contains(ours, c.Type) }); !slices.Equal(left, others) {
				t.Fatalf("of others %v becomes %v", others, left)
			}
			since(t, &before, &s)
			if r == nil {
				continue
			}
			if r.State.Reason != rollout.ViewIncomplete && (r.State.Stable != "" || r.Held) && (HoldsRemovals(&s) != r.Held || r.Held && !InRelease(&s)) {
				t.Fatalf("the guard holds pods: %v, and it says %q", r.Held, said(&s))
			}
			again := *s.DeepCopy()
			r.Now = r.Now.Add(time.Hour)
			if SetConditions(&again, r); !reflect.DeepEqual(again, s) {
				t.Fatalf("an hour later %v becomes %v", s.Conditions, again.Conditions)
			}
		}
		took := slices.ContainsFunc(s.Conditions, isOurs)
		if SetConditions(&s, nil); took && len(s.Conditions) != len(others) {
			t.Fatalf("without a policy there is %q", said(&s))
		}
	})
}

// since checks that the time of a condition changes only with its status.
func since(t *rapid.T, before, after *appsv1.DaemonSetStatus) {
	for _, c := range after.Conditions {
		i := slices.IndexFunc(before.Conditions, func(old appsv1.DaemonSetCondition) bool { return old.Type == c.Type })
		if i < 0 {
			continue
		}
		if old := before.Conditions[i]; old.Status == c.Status && old.LastTransitionTime != c.LastTransitionTime {
			t.Fatalf("%v becomes %v", old, c)
		}
	}
}

// Every reason of ours is recognized as ours, and those of Deployments are not.
func TestReasonsAreOurs(t *testing.T) {
	for phase := rollout.Idle; phase <= rollout.Held; phase++ {
		for reason := rollout.NoReason; reason <= rollout.ClockSkew; reason++ {
			if phase != rollout.Idle && reason == rollout.NoReason {
				continue // there is no such state
			}
			for _, held := range []bool{false, true} {
				s := appsv1.DaemonSetStatus{}
				SetConditions(&s, &Standing{State: &rollout.State{Stable: "s", Target: "t", Phase: phase, Reason: reason}, Held: held, Unkept: held && reason == rollout.NotSettled})
				if SetConditions(&s, nil); len(s.Conditions) > 0 {
					t.Errorf("%s %s: %q is not known as ours", phase, reason, said(&s))
				}
			}
		}
	}
	theirs := appsv1.DaemonSetStatus{Conditions: []appsv1.DaemonSetCondition{{Type: ConditionProgressing, Reason: "NewReplicaSetAvailable"}, {Type: ConditionProgressing},
		{Type: ConditionAvailable, Reason: "MinimumReplicasAvailable", LastTransitionTime: metav1.Unix(1, 0)}}}
	if SetConditions(&theirs, nil); len(theirs.Conditions) != 3 {
		t.Errorf("of theirs %q is left", said(&theirs))
	}
}

// What is said before any state is saved, and what others say, does not count as a release under way.
func TestInRelease(t *testing.T) {
	for reason, want := range map[string]bool{
		"PolicyGone": true, "AbortRequested": true, "TooManyFailed": true, "Rolling": true, "Soaking": true, "RemovalsHeld": true,
		"Released": false, "StateNotKept": false, "PolicyUnreadable": false, "Foreign": false, "": false,
	} {
		s := appsv1.DaemonSetStatus{Conditions: []appsv1.DaemonSetCondition{{Type: "Foreign", Reason: "PolicyGone"}, {Type: ConditionProgressing, Reason: reason}}}
		if got := InRelease(&s); got != want {
			t.Errorf("%q: %v, want %v", reason, got, want)
		}
		if got := HoldsRemovals(&s); got != (reason == "RemovalsHeld") {
			t.Errorf("%q: the guard holds pods: %v", reason, got)
		}
	}
}
