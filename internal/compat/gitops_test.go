package compat

import (
	"context"
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

// manifest is a DaemonSet as it is in git: without a status, and without what a server adds.
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

// sets is a client for DaemonSets as tools have it that apply manifests.
func (l *lab) sets() dynamic.ResourceInterface {
	l.t.Helper()
	client, err := dynamic.NewForConfig(l.config)
	l.do(err)
	return client.Resource(setsResource).Namespace(namespace)
}

// selfHeal applies a manifest again and again, as a tool does that holds a cluster to what is in git. applied counts.
func (l *lab) selfHeal(manifest *unstructured.Unstructured) (applied *atomic.Int64) {
	l.t.Helper()
	sets, applied := l.sets(), &atomic.Int64{}
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			_, err := sets.Apply(ctx, manifest.GetName(), manifest.DeepCopy(), metav1.ApplyOptions{FieldManager: "gitops", Force: true})
			switch {
			case err == nil:
				applied.Add(1)
			case ctx.Err() == nil:
				l.t.Errorf("the manifest is not applied: %v", err)
			}
			return false, nil
		})
	}()
	l.t.Cleanup(func() { cancel(); <-ended })
	return applied
}

// undo is `kubectl rollout undo`: the template of the revision is written into the DaemonSet.
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

// TestSelfHeal: under a tool that applies the manifest again and again, `kubectl rollout undo` is undone, and the release goes on.
// An abort stays.
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

// TestRolloutsAreNotDoneAtFirst: who waits by kstatus does not take a DaemonSetRollout for done that no engine has looked at.
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
