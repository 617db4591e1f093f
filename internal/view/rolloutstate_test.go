package view

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/rollout"
)

// drawState draws every exported field. It fails for a field of a new type until the status keeps it.
func drawState(t *rapid.T) (s rollout.State) {
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		var drawn any
		switch v.Field(i).Interface().(type) {
		case string:
			drawn = rapid.SampledFrom([]string{"", "a", "canary", `"ä`, " b:\n"}).Draw(t, field.Name)
		case int:
			drawn = rapid.IntRange(0, 1<<31).Draw(t, field.Name)
		case bool:
			drawn = rapid.Bool().Draw(t, field.Name)
		case rollout.Phase:
			drawn = rollout.Phase(rapid.IntRange(0, int(rollout.Held)).Draw(t, field.Name))
		case rollout.Reason:
			drawn = rollout.Reason(rapid.IntRange(0, int(rollout.ClockSkew)).Draw(t, field.Name))
		case time.Time:
			drawn = time.Time{}
			if rapid.Bool().Draw(t, field.Name) {
				drawn = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, field.Name), 0).UTC()
			}
		case time.Duration:
			drawn = time.Duration(rapid.Int64Range(0, 1<<30).Draw(t, field.Name)) * time.Second
		default:
			t.Fatalf("the status has no room for State.%s", field.Name)
		}
		v.Field(i).Set(reflect.ValueOf(drawn))
	}
	if (s.Stable == "") != (s.Target == "") {
		s.Stable, s.Target = "s", "t"
	}
	return s
}

// through returns the state after it was kept and read again, via JSON.
func through(t *rapid.T, s *rollout.State, r *RolloutReport) (rollout.State, DaemonSetRollout) {
	o := DaemonSetRollout{Status: RolloutStatus(&DaemonSetRolloutStatus{}, s, r)}
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var back DaemonSetRollout
	if err := yaml.UnmarshalStrict(data, &back); err != nil {
		t.Fatal(err)
	}
	read, err := RolloutState(&back)
	if err != nil {
		t.Fatal(err)
	}
	return read, back
}

func TestRolloutStateIsKept(t *testing.T) {
	p := rollout.Default()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		r := &RolloutReport{Policy: &p, Now: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)}
		got, _ := through(t, &s, r)
		if got != s {
			t.Fatalf("kept:  %+v\nread: %+v", s, got)
		}
		s.Opened, s.Soaked = s.Opened.Add(time.Millisecond).In(time.FixedZone("far", 3600)), s.Soaked+time.Second-1
		if again, _ := through(t, &s, r); s.Opened.Unix() > 0 && again != got {
			t.Fatalf("what is less than a second:  %+v, kept as %+v", s, again)
		}
	})
}

func rolloutOf(t *testing.T, text string) *DaemonSetRollout {
	t.Helper()
	var o DaemonSetRollout
	if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestRolloutStateWrong(t *testing.T) {
	if s, err := RolloutState(&DaemonSetRollout{}); err != nil || s != (rollout.State{}) {
		t.Errorf("an object without a status: %+v, %v", s, err)
	}
	for _, c := range []struct{ status, want string }{
		{"{stable: a, target: a, release: 1}", "status.phase: it is empty"},
		{"{release: 1}", "status.phase: it is empty"},
		{"{phase: Melting, release: 1, stable: a, target: b}", `status.phase: this version does not know "Melting"`},
		{"{phase: Held, reason: Full, release: 1, stable: a, target: b}", `status.reason: this version does not know "Full"`},
		{"{phase: Held, whyBack: So, release: 1, stable: a, target: b}", `status.whyBack: this version does not know "So"`},
		{"{phase: Rolling, release: -1, stable: a, target: b}", "status.release: -1 is negative"},
		{"{phase: Rolling, quota: -1, release: 1, stable: a, target: b}", "status.quota: -1"},
		{"{phase: Rolling, stops: -1, release: 1, stable: a, target: b}", "status.stops: -1"},
		{"{phase: Rolling, forgiven: -1, release: 1, stable: a, target: b}", "status.forgiven: -1"},
		{"{phase: Rolling, release: 1, target: b}", `status.stable: it is "" and status.target is "b"`},
		{"{phase: Rolling, release: 1, stable: b, target: c, wave: {soaked: -1s}}", "status.wave.soaked: -1s"},
	} {
		if s, err := RolloutState(rolloutOf(t, "status: "+c.status)); err == nil || !strings.HasPrefix(err.Error(), c.want) || s != (rollout.State{}) {
			t.Errorf("%s: %+v, %v, want %s", c.status, s, err, c.want)
		}
	}
	_, err := RolloutState(rolloutOf(t, "status: {phase: X, reason: Y, release: -1}"))
	if got := strings.Count(fmt.Sprint(err), "\n"); got != 2 {
		t.Errorf("three things are wrong, and this is said: %v", err)
	}
}

func TestRolloutRequests(t *testing.T) {
	for _, c := range []struct {
		spec  string
		want  rollout.Requests
		wrong []string
	}{
		{"{}", rollout.Requests{}, nil},
		{"{paused: true, promote: {release: 3, wave: canary}, resume: {release: 3, stop: 2}, abort: 4, retry: 5, plain: 6}", rollout.Requests{Paused: true,
			Promote: rollout.Promotion{Release: 3, Wave: "canary"}, Resume: rollout.Resumption{Release: 3, Stop: 2}, Abort: 4, Retry: 5, Plain: 6}, nil},
		{"{promote: {release: 3, all: true}}", rollout.Requests{Promote: rollout.Promotion{Release: 3, All: true}}, nil},
		{"{paused: true, promote: {release: 3}}", rollout.Requests{Paused: true}, []string{"spec.promote: it names either a wave or all"}},
		{"{promote: {release: 3, wave: a, all: true}, abort: 3}", rollout.Requests{Abort: 3}, []string{"spec.promote: it names either a wave or all"}},
		{"{promote: {release: -3, wave: a}, retry: -1}", rollout.Requests{}, []string{
			"spec.retry: -1 is not the number of a release; status.release is", "spec.promote.release: -3 is not the number of a release; status.release is"}},
		{"{resume: {release: -3, stop: 1}, plain: 3}", rollout.Requests{Plain: 3}, []string{"spec.resume.release: -3 is not the number of a release; status.release is"}},
		{"{allowRemovals: {nodes: 3, before: \"2026-11-26T18:00:00Z\"}}", rollout.Requests{}, nil},
	} {
		if got, wrong := RolloutRequests(rolloutOf(t, "spec: "+c.spec)); got != c.want || !slices.Equal(wrong, c.wrong) {
			t.Errorf("%s: %+v, %q", c.spec, got, wrong)
		}
	}
}

func TestNewRollout(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "monitoring", Name: "agent", UID: "u1"}}
	o := NewRollout(ds)
	if o.Namespace != "monitoring" || o.Name != "agent" || o.APIVersion != "everynode.io/v1alpha1" || o.Kind != "DaemonSetRollout" {
		t.Errorf("%+v", o)
	}
	if c := metav1.GetControllerOf(o); c == nil || c.UID != "u1" || c.APIVersion != "apps/v1" || c.BlockOwnerDeletion != nil {
		t.Errorf("its owner is %+v", c)
	}
	if !o.IsOf("u1") || o.IsOf("u2") || !(&DaemonSetRollout{}).IsOf("u2") {
		t.Error("an object is of its owner, and without one of any")
	}
	if s, err := RolloutState(o); err != nil || s != (rollout.State{}) {
		t.Errorf("of a new one %+v is known (%v)", s, err)
	}
}

// conditions returns the types of the conditions that are true.
func conditions(s *DaemonSetRolloutStatus) (all []string) {
	for _, c := range s.Conditions {
		if c.Status == metav1.ConditionTrue {
			all = append(all, c.Type)
		}
	}
	return all
}

func TestRolloutConditions(t *testing.T) {
	const all = 1<<rollout.Idle | 1<<rollout.Rolling | 1<<rollout.Soaking | 1<<rollout.Waiting | 1<<rollout.Paused | 1<<rollout.RollingBack
	for phase := range rollout.Held + 1 {
		s := RolloutStatus(&DaemonSetRolloutStatus{}, &rollout.State{Phase: phase, Reason: rollout.PolicyGone}, &RolloutReport{})
		want := ConditionStalled
		if phase == rollout.Idle {
			want = ConditionReady
		} else if all&(1<<phase) != 0 {
			want = ConditionReconciling
		}
		if got := conditions(&s); !slices.Equal(got, []string{want}) || len(s.Conditions) != 3 {
			t.Errorf("%s: %q, want %s", phase, got, want)
		}
	}
	s := RolloutStatus(&DaemonSetRolloutStatus{}, &rollout.State{Phase: rollout.Held, Reason: rollout.ViewIncomplete}, &RolloutReport{})
	if got := conditions(&s); !slices.Equal(got, []string{ConditionReconciling}) {
		t.Errorf("what passes by itself: %q", got)
	}
}

func TestRolloutStatusGoesOn(t *testing.T) {
	start := time.Date(2026, 11, 26, 9, 0, 0, 5, time.UTC)
	s := &rollout.State{Phase: rollout.Rolling, Reason: rollout.UnderQuota, Stable: "a", Target: "b", Release: 1, Wave: "first", Quota: 1}
	first := RolloutStatus(&DaemonSetRolloutStatus{}, s, &RolloutReport{Generation: 4, Now: start})
	first.Conditions = append(first.Conditions, metav1.Condition{Type: "Others", Status: metav1.ConditionTrue})
	later := RolloutStatus(&first, s, &RolloutReport{Generation: 3, Now: start.Add(time.Minute)})
	if !reflect.DeepEqual(later, first) {
		t.Errorf("nothing has changed, and the status has:\n%+v\n%+v", first, later)
	}
	s.Phase, s.Reason = rollout.Halted, rollout.TooManyFailed
	halted := RolloutStatus(&first, s, &RolloutReport{Generation: 5, Now: start.Add(time.Hour)})
	stalled, ready := meta.FindStatusCondition(halted.Conditions, ConditionStalled), meta.FindStatusCondition(halted.Conditions, ConditionReady)
	if stalled.LastTransitionTime.Unix() != start.Add(time.Hour).Unix() || ready.LastTransitionTime.Unix() != start.Unix() || stalled.ObservedGeneration != 5 || halted.ObservedGeneration != 5 {
		t.Errorf("%+v", halted)
	}
	if meta.FindStatusCondition(first.Conditions, ConditionStalled).Status != metav1.ConditionFalse {
		t.Error("the status before has changed")
	}
	unread := UnreadableRollout(&halted, fmt.Errorf("status.phase: x\nstatus.reason: y"), start)
	if c := meta.FindStatusCondition(unread.Conditions, ConditionStalled); c.Reason != ReasonStatusUnreadable || !strings.HasSuffix(c.Message, "status.phase: x; status.reason: y") {
		t.Errorf("%+v", c)
	}
	if unread.Conditions = halted.Conditions; !reflect.DeepEqual(unread, halted) {
		t.Errorf("of a status that cannot be read more than the conditions is changed: %+v", unread)
	}
}

func TestRolloutFailuresAreCut(t *testing.T) {
	var all []RolloutFailure
	for i := range 12 {
		all = append(all, RolloutFailure{Node: fmt.Sprint("n", i), Message: strings.Repeat("ä", 200)})
	}
	s := RolloutStatus(&DaemonSetRolloutStatus{}, &rollout.State{}, &RolloutReport{Failures: all})
	if len(s.Failures) != 10 || s.Failures[9].Node != "n9" || s.Failures[0].Message != strings.Repeat("ä", 148)+"…" {
		t.Errorf("%d: %+v", len(s.Failures), s.Failures)
	}
	if got := cut(strings.Repeat("a", 300), 300); len(got) != 300 {
		t.Errorf("what has room was cut: %q", got)
	}
	if len(all[0].Message) != 400 {
		t.Error("what was given has changed")
	}
}

func TestRolloutMessages(t *testing.T) {
	p := rollout.Default()
	p.Waves[0].Soak = 90 * time.Minute
	p.Windows = []rollout.Window{{From: 9 * 60, To: 10 * 60, Zone: time.UTC}}
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r := &RolloutReport{Policy: &p, Now: at, Nodes: RolloutNodes{Eligible: 50, Exposed: 3, Well: 1, UnderWay: 2, Failed: 1, Other: 4}}
	s := rollout.State{Stable: "a", Target: "b", Release: 2, Wave: "first", Group: "eu", Quota: 5, Stops: 1, Soaked: 90 * time.Second}
	for _, c := range []struct {
		phase  rollout.Phase
		reason rollout.Reason
		want   string
	}{
		{rollout.Idle, rollout.NoReason, "all nodes get a"},
		{rollout.Idle, rollout.PolicyGone, "all nodes get a; the next release will be held: the policy that the DaemonSet names does not exist"},
		{rollout.Idle, rollout.PolicyUnreadable, "all nodes get a; the next release will be held: the policy cannot be followed"},
		{rollout.Idle, rollout.SeveralPolicies, "all nodes get a; the next release will be held: more than one policy chooses the DaemonSet"},
		{rollout.Held, rollout.PolicyGone, "there is no policy to follow: it was removed, or never existed; create it, abort, or let all nodes get b (plain)"},
		{rollout.Idle, rollout.PauseRequested, "all nodes get a, and 4 that missed it wait until the pause ends (spec.paused)"},
		{rollout.Idle, rollout.WindowClosed, "all nodes get a, and 4 that missed it wait for a window; the next opens on Fri 27 Nov 09:00 UTC"},
		{rollout.Rolling, rollout.UnderQuota, "wave first/eu: 3 of 5 nodes have b"},
		{rollout.Rolling, rollout.NotSettled, "wave first/eu: 2 of 3 nodes with b not well yet"},
		{rollout.Soaking, rollout.NotSoaked, "wave first/eu has soaked for 1m30s of 1h30m"},
		{rollout.Waiting, rollout.WindowClosed, "wave first/eu: no window is open; the next opens on Fri 27 Nov 09:00 UTC"},
		{rollout.Halted, rollout.TooManyFailed, "wave first/eu: 1 of 3 nodes with b failed; resume (stop 1) continues it, abort takes it back"},
		{rollout.RollingBack, rollout.AbortRequested, "aborted by spec.abort: nodes go back from b to a, 3 left"},
		{rollout.RollingBack, rollout.Reverted, "the template has a again: nodes go back to it, 4 left"},
		{rollout.Aborted, rollout.FailedBack, "too many nodes have failed: all nodes that can go back have a, and the template still asks for b; it is released again when the template changes, or by retry"},
	} {
		s.Phase, s.Reason = c.phase, c.reason
		if got := rolloutMessage(&s, r); got != c.want {
			t.Errorf("%s: %q", c.reason, got)
		}
	}
	s.Phase, s.Reason = rollout.Halted, rollout.TooManyFailed
	for refused, want := range []string{"1 of 3 nodes with b failed", "nodes that keep their pods, because the API server refuses those of b: 1"} {
		r.Refused = refused
		if got := rolloutMessage(&s, r); got != "wave first/eu: "+want+"; resume (stop 1) continues it, abort takes it back" {
			t.Error(got)
		}
	}
	r.Nodes.Failed = 2
	if got := rolloutMessage(&s, r); !strings.Contains(got, ": 1 of 3 nodes with b failed; nodes that keep their pods, because the API server refuses those of b: 1;") {
		t.Error(got)
	}
	for reason := range rollout.ClockSkew + 1 {
		s.Reason = reason
		if got := rolloutMessage(&s, r); got == "" || got == reason.String() {
			t.Errorf("nothing is said of %s: %q", reason, got)
		}
	}
	s.Reason, s.Ignored, r.Wrong = rollout.UnderQuota, "that", []string{"spec.x: y"}
	if got := rolloutMessage(&s, r); got != "wave first/eu: 3 of 5 nodes have b; ignored: that; spec.x: y" {
		t.Error(got)
	}
	for d, want := range map[time.Duration]string{0: "0s", 30 * time.Minute: "30m", time.Hour: "1h", 90 * time.Second: "1m30s", 3601 * time.Second: "1h0m1s", 40 * time.Second: "40s", 100 * time.Minute: "1h40m", 20 * time.Hour: "20h"} {
		if got := short(d); got != want {
			t.Errorf("%s: %q", d, got)
		}
	}
}
