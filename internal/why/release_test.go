package why

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// In the middle of a release the row of each node is about the revision that the node should have.
func TestReleaseUnderWay(t *testing.T) {
	w := newWorld(t)
	before := w.ds.DeepCopy()
	before.Spec.Template.Spec.Containers[0].Image = "agent:1"
	stable, err := view.NewRevision(before, 1)
	if err != nil {
		t.Fatal(err)
	}
	stable.UID = "revision"
	old := func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = newWorldHash(t, before) }
	w.node("n1")
	w.pod("n1", down(crashes()))
	w.node("n2")
	w.pod("n2", old)
	w.node("n3")
	state := rollout.State{Stable: newWorldHash(t, before), Target: w.hash, Release: 4, Phase: rollout.Halted, Reason: rollout.TooManyFailed, Wave: "first", Quota: 1, Stopped: true, Stops: 1}
	rows := func(state rollout.State) (said []string) {
		s := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
		s.releases, s.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
		o := view.NewRollout(w.ds)
		o.Status = view.RolloutStatus(&o.Status, &state, &view.RolloutReport{Now: testNow()})
		s.addRelease(o, []appsv1.ControllerRevision{*stable})
		rows, err := s.why(&s.sets[0], testNow())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			said = append(said, fmt.Sprintf("%s %s %s %v", r.Node, r.Reason, r.Detail, s.commands(w.ds, &r)))
		}
		return said
	}
	want := "[n1 Starting  [] n2 AwaitsWave release 4 is Halted [everynode rollout status ds/agent -n apps] n3 Missing  []]"
	if got := fmt.Sprint(rows(state)); got != want {
		t.Errorf("in a release:\n%s, want\n%s", got, want)
	}
	nodes, pods := []plan.Node{}, []*corev1.Pod{}
	for i := range w.nodes {
		nodes = append(nodes, view.Node(&w.nodes[i]))
	}
	for i := range w.pods {
		pods = append(pods, &w.pods[i])
	}
	scene := NewScene(w.ds, nodes, nil, pods, []*view.Revision{view.ReadRevision(stable)})
	o := view.NewRollout(w.ds)
	o.Status = view.RolloutStatus(&o.Status, &state, &view.RolloutReport{Now: testNow()})
	scene.Release(o, []appsv1.ControllerRevision{*stable})
	if seen, err := scene.Rows(testNow()); err != nil || len(seen) != 3 || seen[2].Reason != "AwaitsWave" || seen[2].Detail != "release 4 is Halted" {
		t.Errorf("who watches sees %+v, %v", seen, err)
	}
	w.nodes[1].Labels, w.ds.Spec.Template.Spec.NodeSelector = nil, map[string]string{"pool": "main"}
	held := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
	held.releases, held.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
	o.Status = view.RolloutStatus(&o.Status, &rollout.State{Stable: w.hash, Target: w.hash}, &view.RolloutReport{Now: testNow(), Guard: rollout.Guard{Held: 2}})
	held.addRelease(o, nil)
	if seen, err := held.why(&held.sets[0], testNow()); err != nil || seen[1].Reason != "HeldByGuard" || seen[1].OK {
		t.Errorf("what the guard holds is %+v, %v", seen, err)
	}
	w.ds.Spec.Template.Spec.NodeSelector = nil
	if got := rows(rollout.State{Stable: w.hash, Target: w.hash, Release: 4}); got[1][:11] != "n2 Outdated" && got[1][:14] != "n2 BudgetSpent" {
		t.Errorf("without a release n2 is told of as %q", got[1])
	}
	testBeside(t, w, stable)
}

// Outdated pods of a DaemonSet with a policy do not wait for a person to delete them, at rest and when a template was put back.
// Beside another controller, that controller creates and removes pods, and follows only the strategy where the policy is not
// followed.
func testBeside(t *testing.T, w *world, stable *appsv1.ControllerRevision) {
	before := stable.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	atRest := rollout.State{Stable: w.hash, Target: w.hash, Release: 4}
	reverted, unseen, paused, shut, alone := atRest, atRest, atRest, atRest, atRest
	alone.Reason = rollout.PolicyGone
	paused.Reason, shut.Reason = rollout.PauseRequested, rollout.WindowClosed
	reverted.Phase, reverted.Reason, reverted.Reverting = rollout.RollingBack, rollout.Reverted, true
	unseen.Stable, unseen.Target, unseen.Phase, unseen.Reason = before, before, rollout.Held, rollout.NotObserved
	rolling := rollout.State{Stable: before, Target: w.hash, Release: 4, Phase: rollout.Rolling}
	notDriven := rolling
	notDriven.Phase, notDriven.Reason = rollout.Held, rollout.NotDriven
	const waits, goes, byHand = "n1 Starting, n2 AwaitsWave, n3 Missing", "n1 Starting, n2 BudgetSpent, n3 Missing", "n1 Starting, n2 WaitingForDeletion, n3 Missing"
	for _, c := range []struct {
		what            string
		state           rollout.State
		assists, policy bool
		strategy        appsv1.DaemonSetUpdateStrategyType
		reasons         string
		theirs          bool // n3 gets its pod from the other controller
	}{
		{"a release", rolling, true, true, "OnDelete", waits, true},
		{"at rest", atRest, true, true, "OnDelete", goes, true},
		{"at rest in a pause", paused, true, true, "OnDelete", waits, true},
		{"the same in charge", paused, false, true, "RollingUpdate", waits, false},
		{"at rest while no window is open", shut, false, true, "OnDelete", waits, false},
		{"at rest, and the policy is gone", alone, false, false, "OnDelete", byHand, false},
		{"a revert", reverted, true, true, "OnDelete", goes, true},
		{"a revert without a policy", reverted, true, false, "OnDelete", goes, true},
		{"a revert in charge", reverted, false, true, "OnDelete", goes, false},
		{"not noticed yet", unseen, true, true, "OnDelete", waits, true},
		{"not driven", notDriven, true, true, "RollingUpdate", goes, false},
		{"no policy any more", atRest, true, false, "RollingUpdate", goes, false},
		{"no policy any more, and OnDelete", atRest, true, false, "OnDelete", byHand, false},
	} {
		w.ds.Spec.UpdateStrategy.Type = c.strategy
		s := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
		s.releases, s.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
		o := view.NewRollout(w.ds)
		report := view.RolloutReport{Now: testNow(), Assists: c.assists}
		if policy := rollout.Default(); c.policy {
			report.Policy = &policy
		}
		o.Status = view.RolloutStatus(&o.Status, &c.state, &report)
		s.addRelease(o, []appsv1.ControllerRevision{*stable})
		rows, err := s.why(&s.sets[0], testNow())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.Node+" "+r.Reason)
		}
		theirs := strings.HasPrefix(rows[2].Change, "The DaemonSet controller of the cluster")
		if text := strings.Join(got, ", "); text != c.reasons || theirs != c.theirs || rows[2].creates == c.theirs {
			t.Errorf("%s: %s, want %s; n3: %+v", c.what, text, c.reasons, rows[2])
		}
	}
}

// A pod that should not be on its node is not all right merely because another controller has to remove it.
func TestLeftToAnother(t *testing.T) {
	for _, c := range []struct {
		v    plan.Verdict
		ok   bool
		says string
	}{
		{plan.Verdict{Reason: plan.NotSelected, Pod: "p"}, false, "removes the pod"},
		{plan.Verdict{Reason: plan.TaintEvicts, Pod: "p"}, false, "removes the pod"},
		{plan.Verdict{Reason: plan.NotSelected}, true, ""},
		{plan.Verdict{Reason: plan.PodFailed, Pod: "p", Desired: true}, false, "kubectl describe pod"},
		{plan.Verdict{Reason: plan.PodFailed, Pod: "p", Desired: true}, false, "The DaemonSet controller of the cluster replaces it"},
	} {
		r := rowOf(&daemonSet{}, &c.v, nil)
		if r.leave(&c.v); r.OK != c.ok || !strings.Contains(r.Change, c.says) {
			t.Errorf("%s: %+v", c.v.Reason, r)
		}
	}
}

// A kept state that is of a newer version, or may not be read, is not taken for none.
func TestReleaseThatIsNotKnown(t *testing.T) {
	w := newWorld(t)
	o := view.NewRollout(w.ds)
	s := newSnapshot([]daemonSet{*w.ds}, nil, nil)
	s.releases, s.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
	s.addRelease(o, nil)
	var known, newer, hidden gaps
	known.without(s, w.ds)
	o.Status.Phase = "Wandering"
	newer.without(s, w.ds)
	s.keepers, s.unread = nil, apierrors.NewForbidden(schema.GroupResource{Resource: view.RolloutResource}, "", errors.New("no"))
	hidden.without(s, w.ds)
	if len(known.said) > 0 {
		t.Errorf("%q", known.said)
	}
	if len(newer.said) != 1 || !strings.HasPrefix(newer.said[0], "the DaemonSetRollout apps/agent was not understood, so its nodes may have the reasons of an update without a policy: status.phase") {
		t.Errorf("%q", newer.said)
	}
	if len(hidden.said) != 1 || !strings.HasPrefix(hidden.said[0], "DaemonSetRollouts were not read, so nodes that wait for their wave") {
		t.Errorf("%q", hidden.said)
	}
}
