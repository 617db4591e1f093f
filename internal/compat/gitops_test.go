package compat

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"everynode/internal/view"
)

// manifest returns a DaemonSet as it is in git: without a status, and without the fields that a server adds.
func (l *lab) manifest(edits ...func(*appsv1.DaemonSet)) *unstructured.Unstructured {
	l.t.Helper()
	ds := agent(edits...)
	ds.APIVersion, ds.Kind = "apps/v1", "DaemonSet"
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ds)
	l.do(err)
	delete(object, "status")
	o := &unstructured.Unstructured{Object: object}
	unstructured.RemoveNestedField(object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(object, "spec", "template", "metadata", "creationTimestamp")
	if ds.Spec.UpdateStrategy.Type == "" {
		unstructured.RemoveNestedField(object, "spec", "updateStrategy")
	}
	return o
}

// sets returns a client for DaemonSets, like that of a tool that applies manifests.
func (l *lab) sets() dynamic.ResourceInterface {
	l.t.Helper()
	client, err := dynamic.NewForConfig(l.config)
	l.do(err)
	return client.Resource(setsResource).Namespace(namespace)
}

// selfHeal applies a DaemonSet, and an empty DaemonSetRollout for it, again and again, like a tool that keeps a
// cluster as it is in git. applied counts how often.
func (d *rolloutKinds) selfHeal(manifest *unstructured.Unstructured) (applied *atomic.Int64) {
	d.t.Helper()
	sets, applied := d.sets(), &atomic.Int64{}
	rollout := &unstructured.Unstructured{Object: map[string]any{"apiVersion": view.PolicyVersion, "kind": view.RolloutKind,
		"metadata": map[string]any{"name": manifest.GetName(), "namespace": namespace}, "spec": map[string]any{}}}
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			options := metav1.ApplyOptions{FieldManager: "gitops", Force: true}
			_, err := sets.Apply(ctx, manifest.GetName(), manifest.DeepCopy(), options)
			if err == nil {
				_, err = d.rollouts.Apply(ctx, manifest.GetName(), rollout.DeepCopy(), options)
			}
			switch {
			case err == nil:
				applied.Add(1)
			case ctx.Err() == nil:
				d.t.Errorf("what is in git is not applied: %v", err)
			}
			return false, nil
		})
	}()
	d.t.Cleanup(func() { cancel(); <-ended })
	return applied
}

// undo does what `kubectl rollout undo` does: it writes the template of the revision into the DaemonSet.
func (l *lab) undo(image string) {
	l.t.Helper()
	for _, r := range l.revisions() {
		if strings.Contains(string(r.Data.Raw), `"`+image+`"`) {
			_, err := l.client.AppsV1().DaemonSets(namespace).Patch(l.t.Context(), "agent", types.StrategicMergePatchType, r.Data.Raw, metav1.PatchOptions{})
			l.do(err)
			return
		}
	}
	l.t.Fatalf("no revision has %s", image)
}

// TestSelfHeal: under a tool that applies the manifest again and again, `kubectl rollout undo` is undone, and the
// release goes on. An abort stays.
func TestSelfHeal(t *testing.T) {
	d := newRolloutKinds(t)
	leader := d.drive(ours)
	applied := d.selfHeal(d.manifest(rolling(1, 0), follows, image("agent:2")))
	d.stands(1, "Waiting", "NotApproved")
	d.wantImages("in the first wave", map[string]int{"agent:2": 1, "agent:1": 2})

	d.undo("agent:1")
	d.until("the template is that of git again", func() bool { return d.set().Spec.Template.Spec.Containers[0].Image == "agent:2" })
	d.until("the release is where it was", func() bool {
		s := d.rollout().Status
		return s.Phase == "Waiting" && s.Reason == "NotApproved" && s.Nodes.Exposed == 1 && s.Stable != s.Target
	})
	d.wantImages("after the undo", map[string]int{"agent:2": 1, "agent:1": 2})

	n := d.rollout().Status.Release
	d.ask(map[string]any{"abort": n})
	d.stands(n, "Aborted", "AbortRequested")
	before := applied.Load()
	d.until("the manifest was applied some more", func() bool { return applied.Load() > before+5 })
	d.wantImages("after the abort", map[string]int{"agent:1": 3})
	d.stands(n, "Aborted", "AbortRequested")
	if got := d.set().Spec.Template.Spec.Containers[0].Image; got != "agent:2" {
		t.Errorf("the template has %s, and git has agent:2", got)
	}
	leader.stop()
}

// told collects what the DaemonSet says about its release, once its last change is observed: "IMAGE STATUS REASON".
// stop ends it and returns the texts, without repetitions in a row.
func (l *lab) told() (stop func() []string) {
	l.t.Helper()
	watch, err := l.client.AppsV1().DaemonSets(namespace).Watch(l.t.Context(), metav1.ListOptions{})
	l.do(err)
	all := make(chan []string)
	go func() {
		var told []string
		for event := range watch.ResultChan() {
			ds, ok := event.Object.(*appsv1.DaemonSet)
			if !ok || ds.Status.ObservedGeneration != ds.Generation {
				continue
			}
			for _, c := range ds.Status.Conditions {
				says := fmt.Sprintf("%s %s %s", ds.Spec.Template.Spec.Containers[0].Image, c.Status, c.Reason)
				if c.Type == view.ConditionProgressing && (len(told) == 0 || told[len(told)-1] != says) {
					told = append(told, says)
				}
			}
		}
		all <- told
	}()
	return func() []string { watch.Stop(); return <-all }
}

// TestConditionsAreOfTheLastChange: once a change of the template is observed, the DaemonSet says nothing about the
// release before. Otherwise Argo CD would end its sync, or take the new release for done.
func TestConditionsAreOfTheLastChange(t *testing.T) {
	d := newRolloutKinds(t)
	leader := d.drive(ours)
	stop := d.told()
	for n, to := range []string{"agent:2", "agent:3", "agent:4"} {
		d.edit(image(to))
		d.stands(n+1, "Waiting", "NotApproved")
		d.says("Unknown NotApproved")
		if n < 2 {
			d.ask(map[string]any{"abort": n + 1})
			d.stands(n+1, "Aborted", "AbortRequested")
			d.says("False AbortRequested")
		}
	}
	d.ask(map[string]any{"promote": map[string]any{"release": 3, "wave": "first"}})
	d.stands(3, "Idle", "")
	d.says("True Released")
	leader.stop()
	told := stop()
	for _, to := range []string{"agent:2", "agent:3", "agent:4"} {
		waited := false
		for _, says := range told {
			switch what, ok := strings.CutPrefix(says, to+" "); {
			case !ok:
			case what == "Unknown NotApproved":
				waited = true
			case !waited && (what == "True Released" || strings.HasPrefix(what, "False ") && what != "False "+view.ReasonStateNotKept):
				t.Errorf("of %s it says at first: %s", to, what)
			}
		}
		if !waited {
			t.Errorf("nothing is told of %s: %q", to, told)
		}
	}
}

// TestRolloutsAreNotDoneAtFirst: tools that wait by kstatus do not take a DaemonSetRollout for done before an engine
// has seen it.
func TestRolloutsAreNotDoneAtFirst(t *testing.T) {
	d := newRolloutKinds(t)
	_, err := d.make(d.rollouts, view.RolloutKind, "agent", "{}")
	d.do(err)
	if o := d.rollout(); o.Status.ObservedGeneration != -1 || o.Generation != 1 || o.Status.Conditions != nil {
		t.Errorf("generation %d, and status %+v; observedGeneration should be -1", o.Generation, o.Status)
	}
	if state, err := view.RolloutState(new(d.rollout())); err != nil || state.Release != 0 || state.Stable != "" {
		t.Errorf("of a new one %+v is known: %v", state, err)
	}
}
