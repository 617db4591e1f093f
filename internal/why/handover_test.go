package why

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/view"
)

// What a controller without waves would do to a DaemonSet in the middle of a release: nodes that have its revision keep their
// pods, others would be updated, held pods would be removed, and nodes that wait for the release would get theirs.
func TestHandover(t *testing.T) {
	w := newWorld(t)
	old := func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = "before" }
	w.ds.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "main"}
	w.hash = newWorldHash(t, w.ds)
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		w.node(n)
		w.nodes[len(w.nodes)-1].Labels = map[string]string{"pool": "main"}
	}
	w.node("n5")
	w.pod("n1", func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash })
	w.pod("n2", old)
	w.pod("n3", old)
	w.pod("n5", old)
	o := view.NewRollout(w.ds)
	handovers := func(phase string, held int) []Handover {
		t.Helper()
		s := newSnapshot([]daemonSet{*w.ds}, w.nodes, w.pods)
		o.Status.Phase, o.Status.Release, o.Status.Guard = phase, 7, &view.RolloutGuardStatus{Held: held}
		s.keepers = map[types.NamespacedName]*view.DaemonSetRollout{{Namespace: o.Namespace, Name: o.Name}: o}
		all, err := s.handovers(false, testNow())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	want := Handover{Namespace: w.ds.Namespace, Name: w.ds.Name, Phase: "Halted", Release: 7, Held: 1, Updates: 2, Removals: 1, Additions: 1, AtATime: 1}
	if all := handovers("Halted", 1); len(all) != 1 || all[0] != want || !all[0].Moves() {
		t.Errorf("in a release: %+v, want %+v", all, want)
	}
	if all := handovers("Idle", 0); len(all) != 0 {
		t.Errorf("at rest: %+v", all)
	}
	if all := handovers("Idle", 1); len(all) != 1 {
		t.Errorf("with held pods: %+v", all)
	}
	o.OwnerReferences[0].UID = "another"
	if all := handovers("Halted", 1); len(all) != 0 {
		t.Errorf("of another DaemonSet: %+v", all)
	}
	if (&Handover{AtATime: 1}).Moves() {
		t.Error("nothing moves")
	}
}

// Beside Kubernetes' controller only updates are handed over: nobody makes them, or, if the policy that made DaemonSets OnDelete
// is removed, too, all of them come with the next apply.
func TestHandoverBeside(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		w.node(n)
	}
	w.pod("n1", func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash })
	w.pod("n2", outdated)
	w.pod("n3", outdated)
	kept := func(o *view.DaemonSetRollout) {
		o.Status.Assists, o.Status.Phase, o.Status.Release, o.Status.Policy = true, "Waiting", 2, &view.PolicyRef{Name: "p"}
	}
	base := Handover{Namespace: w.ds.Namespace, Name: w.ds.Name}
	with := func(edit func(h *Handover)) []Handover {
		h := base
		edit(&h)
		return []Handover{h}
	}
	waiting := with(func(h *Handover) { h.Phase, h.Release, h.NobodyUpdates = "Waiting", 2, true })
	for _, c := range []struct {
		what                           string
		rolls, unnamed, kept, mutation bool
		edit                           func(o *view.DaemonSetRollout)
		want                           []Handover
	}{
		{what: "in a release", kept: true, want: waiting},
		{what: "at rest", kept: true, edit: func(o *view.DaemonSetRollout) { o.Status.Phase = "Idle" },
			want: with(func(h *Handover) { h.Phase, h.Release, h.NobodyUpdates = "Idle", 2, true })},
		{what: "at rest, without a policy", kept: true, edit: func(o *view.DaemonSetRollout) { o.Status.Phase, o.Status.Policy = "Idle", nil }},
		{what: "rolled out by Kubernetes' controller", kept: true, rolls: true, mutation: true},
		{what: "and nothing makes it OnDelete any more", kept: true, mutation: true,
			want: with(func(h *Handover) { *h = waiting[0]; h.Updates, h.AtATime, h.WhenApplied = 2, 1, true })},
		{what: "chosen by its labels, so OnDelete by its manifest", kept: true, unnamed: true, mutation: true, want: waiting},
		{what: "of a policy that is not there", mutation: true, want: with(func(h *Handover) { h.Updates, h.AtATime, h.WhenApplied = 2, 1, true })},
		{what: "of no policy", unnamed: true, mutation: true},
	} {
		ds := w.ds.DeepCopy()
		ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
		if c.rolls {
			ds.Spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
		}
		if !c.unnamed {
			ds.Annotations = map[string]string{view.PolicyAnnotation: "p"}
		}
		s := newSnapshot([]daemonSet{*ds}, w.nodes, w.pods)
		if c.kept {
			o := view.NewRollout(ds)
			kept(o)
			if c.edit != nil {
				c.edit(o)
			}
			s.keepers = map[types.NamespacedName]*view.DaemonSetRollout{{Namespace: o.Namespace, Name: o.Name}: o}
		}
		all, err := s.handovers(c.mutation, testNow())
		if err != nil || !slices.Equal(all, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.what, all, err, c.want)
		}
	}
}

// At rest, too, the two may differ: about a template that no engine has looked at yet, and about nodes that missed a release
// and wait.
func TestHandoverAtRest(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		w.node(n)
	}
	w.pod("n1", func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash })
	w.pod("n2", outdated)
	w.pod("n3", outdated)
	follows := func(ds *daemonSet) { ds.Annotations = map[string]string{view.PolicyAnnotation: "p"} }
	both := func(ds *daemonSet) {
		follows(ds)
		ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
	}
	inRelease := func(ds *daemonSet) {
		ds.Status.Conditions = []appsv1.DaemonSetCondition{{Type: view.ConditionProgressing, Reason: view.ReasonRolling}}
	}
	chosen := func(ds *daemonSet) { ds.Labels = map[string]string{"tier": "agents"} }
	policies := []view.RolloutPolicy{{Spec: view.RolloutPolicySpec{DaemonSets: &view.PolicySubjects{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "agents"}}}}}}
	plain := func(*daemonSet) {}
	status := func(stable, target, reason string) *view.DaemonSetRolloutStatus {
		return &view.DaemonSetRolloutStatus{Phase: "Idle", Release: 3, Stable: stable, Target: target, Reason: reason, Policy: &view.PolicyRef{Name: "p"}}
	}
	forgotten := status("old", "old", "")
	forgotten.Policy = nil
	updates := Handover{Namespace: w.ds.Namespace, Name: w.ds.Name, Updates: 2, AtATime: 1}
	but := func(phase string, release, additions int, because string) *Handover {
		h := updates
		h.Phase, h.Release, h.Additions, h.Because = phase, release, additions, because
		return &h
	}
	for _, c := range []struct {
		what   string
		ds     func(ds *daemonSet)
		status *view.DaemonSetRolloutStatus
		spec   view.DaemonSetRolloutSpec
		pods   []corev1.Pod
		want   *Handover
	}{
		{what: "the template was changed while no engine ran", ds: plain, status: status("old", "old", ""), want: but("Idle", 3, 1, becauseChanged)},
		{what: "and pods of the stable revision are gone", ds: plain, status: status("older", "older", ""), want: but("Idle", 3, 0, becauseChanged)},
		{what: "and there are no pods", ds: plain, status: status("old", "old", ""), pods: w.pods[:0:0],
			want: &Handover{Namespace: w.ds.Namespace, Name: w.ds.Name, Phase: "Idle", Release: 3, Additions: 4, AtATime: 1, Because: becauseChanged}},
		{what: "and all pods have it", ds: plain, status: status("old", "old", ""), pods: w.pods[:1]},
		{what: "of no policy", ds: plain, status: forgotten},
		{what: "of a policy that the annotation names by now", ds: follows, status: forgotten, want: but("Idle", 3, 1, becauseChanged)},
		{what: "nothing is kept yet", ds: follows, want: but("", 0, 0, becauseUnmet)},
		{what: "nothing is kept, and its status says more", ds: inRelease, want: but("", 0, 0, becauseUnmet)},
		{what: "nothing is kept of one that a policy chooses", ds: chosen, want: but("", 0, 0, becauseUnmet)},
		{what: "of a policy that chooses it by now", ds: chosen, status: forgotten, want: but("Idle", 3, 1, becauseChanged)},
		{what: "only people have written to the object", ds: follows, status: &view.DaemonSetRolloutStatus{}, want: but("", 0, 0, becauseUnmet)},
		{what: "and to that of a plain one", ds: plain, status: &view.DaemonSetRolloutStatus{}},
		{what: "it had no policy", ds: follows, status: &view.DaemonSetRolloutStatus{Phase: "Idle", Release: 3}, want: but("Idle", 3, 0, becauseUnmet)},
		{what: "nothing is kept, and nobody updates it", ds: both},
		{what: "nothing is kept of a plain one", ds: plain},
		{what: "released", ds: plain, status: status(w.hash, w.hash, "")},
		{what: "released, in a pause", ds: plain, status: status(w.hash, w.hash, "PauseRequested"), want: but("Idle", 3, 0, becausePaused)},
		{what: "released, and a pause that nobody has heeded", ds: plain, status: status(w.hash, w.hash, ""), spec: view.DaemonSetRolloutSpec{Paused: true},
			want: but("Idle", 3, 0, becausePaused)},
		{what: "released, and no window is open", ds: plain, status: status(w.hash, w.hash, "WindowClosed"), want: but("Idle", 3, 0, becauseShut)},
		{what: "in a pause in which no node waits", ds: plain, status: status(w.hash, w.hash, "PauseRequested"), pods: w.pods[:1]},
	} {
		ds := w.ds.DeepCopy()
		c.ds(ds)
		pods := w.pods
		if c.pods != nil {
			pods = c.pods
		}
		s := newSnapshot([]daemonSet{*ds}, w.nodes, pods)
		s.policies = policies
		if c.status != nil {
			o := view.NewRollout(ds)
			o.Spec, o.Status = c.spec, *c.status
			s.keepers = map[types.NamespacedName]*view.DaemonSetRollout{{Namespace: o.Namespace, Name: o.Name}: o}
		}
		var want []Handover
		if c.want != nil {
			want = []Handover{*c.want}
		}
		all, err := s.handovers(false, testNow())
		if err != nil || !slices.Equal(all, want) {
			t.Errorf("%s: %+v, %v, want %+v", c.what, all, err, want)
		}
	}
}

// The kept states of releases, and policies, are read once; a user who may not read them is not told that no pod would
// move.
func TestHandoversAreReadOnce(t *testing.T) {
	for _, refused := range []string{"", view.RolloutResource, view.PolicyResource} {
		asked := map[string]int{}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			of := path.Base(req.URL.Path)
			asked[of]++
			w.Header().Set("Content-Type", "application/json")
			if of == refused {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}`)
				return
			}
			fmt.Fprint(w, `{"items": []}`)
		}))
		defer server.Close()
		all, err := Handovers(t.Context(), kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL}), "apps", false, testNow())
		if forbidden := apierrors.IsForbidden(err); forbidden != (refused != "") || err != nil && !forbidden || len(all) > 0 {
			t.Errorf("without %s: %+v, %v", refused, all, err)
		}
		if refused == "" && asked[view.PolicyResource] != 1 {
			t.Errorf("the policies are asked for %d times", asked[view.PolicyResource])
		}
		for of, n := range asked {
			if n != 1 {
				t.Errorf("without %s: %s are asked for %d times", refused, of, n)
			}
		}
	}
}
