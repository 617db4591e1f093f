package why

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// In the middle of a release each node is told of by the revision that it is for.
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

// Beside another controller a node without a pod waits for that, which gives it the new version. When no release is under way, outdated
// pods wait for nobody.
func testBeside(t *testing.T, w *world, stable *appsv1.ControllerRevision) {
	w.ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
	before := stable.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	for _, c := range []struct {
		state   rollout.State
		reasons string
		change  string
	}{
		{rollout.State{Stable: before, Target: w.hash, Release: 4, Phase: rollout.Rolling}, "n1 Starting, n2 AwaitsWave, n3 Missing",
			"The DaemonSet controller of the cluster does that, not everynode."},
		{rollout.State{Stable: w.hash, Target: w.hash, Release: 4}, "n1 Starting, n2 BudgetSpent, n3 Missing", "The DaemonSet controller of the cluster does that, not everynode."},
		{rollout.State{Stable: before, Target: w.hash, Release: 4, Phase: rollout.Held, Reason: rollout.NotDriven}, "n1 Starting, n2 WaitingForDeletion, n3 Missing", ""},
	} {
		s := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
		s.releases, s.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
		o := view.NewRollout(w.ds)
		policy := rollout.Default()
		o.Status = view.RolloutStatus(&o.Status, &c.state, &view.RolloutReport{Now: testNow(), Assists: true, Policy: &policy})
		s.addRelease(o, []appsv1.ControllerRevision{*stable})
		rows, err := s.why(&s.sets[0], testNow())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.Node+" "+r.Reason)
		}
		if text := strings.Join(got, ", "); text != c.reasons || rows[2].Change != c.change || rows[2].creates != (c.change == "") {
			t.Errorf("%+v: %s; n3: %+v", c.state, text, rows[2])
		}
	}
}
