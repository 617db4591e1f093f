package view

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

var update = flag.Bool("update", false, "write the objects of deploy/gitops/testdata as they come out")

// situation is a state of a release, for tools that wait for releases: what was kept, what is seen, and what a person or a
// policy says. steps is how often Advance is called, a wave's startWithin apart.
type situation struct {
	name   string
	kept   rollout.State
	seen   func(*rollout.Seen)
	policy func(*rollout.Policy)
	held   int // number of nodes whose pods the guard holds
	steps  int
}

const (
	oldRevision = "5d4c88"
	newRevision = "7c9f5b"
)

// situations returns all states in which a release can be, by phase and reason.
func situations() []situation {
	canary := rollout.State{Stable: oldRevision, Target: newRevision, Release: 3, Phase: rollout.Rolling, Wave: "canary", Quota: 1, Opened: gitopsNow().Add(-time.Hour)}
	soaked, stopped, unsure, back := canary, canary, canary, canary
	soaked.Soaked = 10 * time.Minute
	stopped.Stopped, stopped.Stops = true, 1
	unsure.Unsure, unsure.Stopped, unsure.Stops = true, true, 1
	back.Stopped, back.Stops, back.Back, back.WhyBack = true, 1, true, rollout.FailedBack
	idle := rollout.State{Stable: oldRevision, Target: oldRevision, Release: 2}
	reverted := func(in *rollout.Seen) { in.Target, in.Other = oldRevision, 1 }
	well := func(in *rollout.Seen) { in.Exposed, in.Well, in.Counts[0].Candidates = 1, 1, 0 }
	down := func(in *rollout.Seen) { in.Exposed, in.Counts[0].Candidates = 1, 0 }
	failed := func(in *rollout.Seen) { down(in); in.Failed, in.UnderWay = 1, 1 }
	aborted := func(in *rollout.Seen) { in.Requests.Abort = 3 }
	shut := func(p *rollout.Policy) {
		p.Windows = []rollout.Window{{Days: []time.Weekday{time.Sunday}, To: 60, Zone: time.UTC}}
	}
	goBack := func(p *rollout.Policy) { p.Failure.Back = true }
	all := []situation{
		{name: "Idle", kept: idle, seen: func(in *rollout.Seen) { in.Target = oldRevision }},
		{name: "Idle, and the guard holds pods", kept: idle, seen: func(in *rollout.Seen) { in.Target = oldRevision }, held: 2},
		{name: "Idle PolicyGone", kept: idle, seen: func(in *rollout.Seen) { in.Target, in.Problem = oldRevision, rollout.PolicyGone }},
		{name: "Rolling UnderQuota", kept: idle},
		{name: "Rolling UnderQuota, and the guard holds pods", kept: idle, held: 2},
		{name: "Rolling NotSettled", kept: canary, seen: func(in *rollout.Seen) { down(in); in.UnderWay = 1 }},
		{name: "Rolling APIUnwell", kept: canary, seen: func(in *rollout.Seen) { in.Unwell = true }},
		{name: "Rolling NoneWell", kept: canary, seen: down},
		{name: "Waiting NoneWell", kept: canary, seen: down, steps: 2},
		{name: "Soaking NotSoaked", kept: canary, seen: well},
		{name: "Waiting NotApproved", kept: soaked, seen: well},
		{name: "Waiting WindowClosed", kept: canary, policy: shut},
		{name: "Paused PauseRequested", kept: canary, seen: func(in *rollout.Seen) { well(in); in.Requests.Paused = true }},
		{name: "Halted TooManyFailed", kept: canary, seen: failed},
		{name: "Halted TooManyFailed, and a request that does nothing", kept: stopped, seen: func(in *rollout.Seen) { failed(in); in.Requests.Abort = 9 }},
		{name: "RollingBack AbortRequested", kept: canary, seen: func(in *rollout.Seen) { well(in); aborted(in) }},
		{name: "RollingBack FailedBack", kept: canary, seen: failed, policy: goBack},
		{name: "RollingBack Reverted", kept: canary, seen: reverted},
		{name: "Aborted AbortRequested", kept: canary, seen: aborted},
		{name: "Aborted FailedBack", kept: back},
		{name: "Aborted AbortRequested, beside the built-in controller", kept: canary, seen: func(in *rollout.Seen) { well(in); aborted(in); in.Assists = true }},
		{name: "Held StableUnknown", kept: unsure, seen: well},
	}
	for _, why := range []rollout.Reason{rollout.ViewIncomplete, rollout.PolicyUnreadable, rollout.PolicyGone, rollout.SeveralPolicies, rollout.StableGone,
		rollout.ClockSkew, rollout.NotDriven, rollout.NotObserved} {
		assists := why == rollout.NotDriven || why == rollout.NotObserved
		all = append(all, situation{name: "Held " + why.String(), kept: canary, seen: func(in *rollout.Seen) { well(in); in.Problem, in.Assists = why, assists }})
	}
	return all
}

func gitopsNow() time.Time { return time.Date(2026, 11, 27, 9, 30, 0, 0, time.UTC) } // a Friday

// stands returns the rollout.State that the situation leads to, and the report that goes with it.
func (c *situation) stands(t *testing.T) (rollout.State, RolloutReport) {
	t.Helper()
	p := rollout.Default()
	p.Name, p.Generation = "node-agents", 7
	p.Waves[0].Name, p.Waves[0].Approval = "canary", true
	if c.policy != nil {
		c.policy(&p)
	}
	in := rollout.Seen{Target: newRevision, Pods: map[string]int{oldRevision: 3}, Bound: 1,
		Layout: rollout.NewLayout(&p, "u1", []rollout.Node{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}})}
	in.Counts = make([]rollout.Counts, len(in.Layout.Steps))
	in.Counts[0].Candidates = 1
	if c.seen != nil {
		c.seen(&in)
	}
	state, now := c.kept, gitopsNow()
	for range max(c.steps, 1) {
		state, _ = rollout.Advance(&p, state, &in, now)
		now = now.Add(p.Failure.StartWithin)
	}
	report := RolloutReport{Generation: 1, Policy: &p, Now: gitopsNow(), Assists: in.Assists,
		Nodes: RolloutNodes{Eligible: 3, Exposed: in.Exposed, Well: in.Well, UnderWay: in.UnderWay, Failed: in.Failed, Other: in.Other}}
	if report.Guard.Held = c.held; c.held > 0 {
		report.HeldText = "2 pods would go"
	}
	return state, report
}

// recorded is an object as a waiting tool sees it.
type recorded struct {
	Name   string `json:"name"`
	Object any    `json:"object"`
}

func gitopsSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "monitoring", Name: "agent", UID: "u1", Generation: 4, Annotations: map[string]string{PolicyAnnotation: "node-agents"}},
		Spec:       appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}}
}

func rolloutRecords(t *testing.T) []recorded {
	t.Helper()
	object := func(status DaemonSetRolloutStatus) *DaemonSetRollout {
		o := NewRollout(gitopsSet())
		o.Generation, o.Status = 1, status
		return o
	}
	var all []recorded
	for _, c := range situations() {
		state, report := c.stands(t)
		all = append(all, recorded{c.name, object(RolloutStatus(&DaemonSetRolloutStatus{}, &state, &report))})
	}
	idle := all[0].Object.(*DaemonSetRollout).Status
	unheeded := object(idle)
	unheeded.Generation = 2
	// This is the status that the CustomResourceDefinition gives an object by default.
	return append(all, recorded{"no engine has looked at it yet", object(DaemonSetRolloutStatus{ObservedGeneration: -1})},
		recorded{"Idle, and the last request is not heeded yet", unheeded},
		recorded{"its status cannot be read", object(UnreadableRollout(&idle, errors.New(`status.phase: this version does not know "X"`), gitopsNow()))})
}

func setRecords(t *testing.T) []recorded {
	t.Helper()
	set := func(s *Standing, updated, available int) *appsv1.DaemonSet {
		ds := gitopsSet()
		ds.Status = Status(ds, plan.Status{Desired: 3, Current: 3, Ready: available, Updated: updated, Available: available, Unavailable: 3 - available}, ds.Generation)
		SetConditions(&ds.Status, s)
		return ds
	}
	var all []recorded
	standing := func(s *rollout.State) *Standing { return &Standing{State: s, MayMiss: 1, Now: gitopsNow()} }
	for _, c := range situations() {
		state, report := c.stands(t)
		if report.Assists {
			continue // the built-in controller writes the status of the DaemonSet
		}
		s, updated := standing(&state), report.Nodes.Exposed
		if s.Held = c.held > 0; state.Target == state.Stable {
			updated = 3 - report.Nodes.Other
		}
		all = append(all, recorded{c.name, set(s, updated, 3)})
	}
	idle := rollout.State{Stable: oldRevision, Target: oldRevision}
	few, unkept := standing(&idle), standing(&idle)
	few.Missing, unkept.Unkept = 2, true
	unseen := set(standing(&idle), 3, 3)
	unseen.Generation++
	return append(all, recorded{"Idle, and too few pods are available", set(few, 3, 1)}, recorded{"the new template is not kept yet", set(unkept, 0, 3)},
		recorded{"Idle, and the last change is not observed yet", unseen})
}

// The objects with which deploy/gitops is tested are those that the engine writes, in every phase and for every reason.
func TestGitOpsRecords(t *testing.T) {
	for file, records := range map[string][]recorded{"daemonsetrollouts.yaml": rolloutRecords(t), "daemonsets.yaml": setRecords(t)} {
		file = "../../deploy/gitops/testdata/" + file
		text, err := yaml.Marshal(records)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]byte("# What TestGitOpsRecords in internal/view makes of each situation; -update writes it.\n"), text...)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written of DaemonSets any more (%v): run this test with -update, and see that the tests of deploy/gitops still pass", file, err)
		}
	}
}

// Each situation leads to what its name says, and no phase and no reason is missing.
func TestGitOpsSituations(t *testing.T) {
	var phases, reasons []string
	for _, c := range situations() {
		state, _ := c.stands(t)
		is := state.Phase.String()
		if state.Reason != rollout.NoReason {
			is += " " + state.Reason.String()
		}
		if c.name != is && (len(c.name) < len(is) || c.name[:len(is)] != is || c.name[len(is)] != ',') {
			t.Errorf("%s comes to %s", c.name, is)
		}
		phases, reasons = append(phases, state.Phase.String()), append(reasons, state.Reason.String())
	}
	for phase := rollout.Idle; phase <= rollout.Held; phase++ {
		if !slices.Contains(phases, phase.String()) {
			t.Errorf("no situation has the phase %s", phase)
		}
	}
	for reason := rollout.UnderQuota; reason <= rollout.NotObserved; reason++ {
		if !slices.Contains(reasons, reason.String()) {
			t.Errorf("no situation has the reason %s", reason)
		}
	}
}
