package lookout

import (
	"context"
	"errors"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/fleetmap"
	"everynode/internal/view"
)

func rolloutsResource() schema.GroupVersionResource {
	return view.ReleaseResource(view.RolloutResource)
}

// release is a DaemonSetRollout apps/agent of the DaemonSet with that UID.
func release(owner string, status map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": view.PolicyVersion, "kind": view.RolloutKind, "status": status,
		"metadata": map[string]any{"namespace": "apps", "name": "agent", "ownerReferences": []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": owner}}}}}
}

// What the controller says of a release is in the picture, and an update in waves is not done before its release is. What
// is said of an earlier DaemonSet of the name, or by nobody, is not.
func TestRelease(t *testing.T) {
	w := newWorld(t)
	w.node(t, "a", "", corev1.ConditionTrue)
	pod := w.pod(t, "a")
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{rolloutsResource(): view.RolloutKind + "List"},
		release("earlier", map[string]any{"phase": "Halted"}))
	watches := make(chan struct{}, 100)
	client.PrependWatchReactor(view.RolloutResource, func(a clienttesting.Action) (bool, watch.Interface, error) {
		own, err := client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		watches <- struct{}{}
		return true, own, err
	})
	l, err := New(t.Context(), w.client, client.Resource(rolloutsResource()), "apps", "agent", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Follow(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	see(t, l, "of an earlier one", func(p *Picture) bool { return p.Done && p.Model.Rollout == nil })
	<-watches // the first is a trial
	<-watches
	update := func(status map[string]any) {
		t.Helper()
		if err := client.Tracker().Update(rolloutsResource(), release("set", status), "apps"); err != nil {
			t.Fatal(err)
		}
	}
	update(map[string]any{"phase": "Soaking", "reason": "NotSoaked", "quota": int64(3), "soak": "1m of 5m", "wave": map[string]any{"name": "rest", "group": "eu-a"},
		"nodes": map[string]any{"exposed": int64(2), "failed": int64(1)}})
	want := fleetmap.Rollout{Phase: "Soaking", Reason: "NotSoaked", Wave: "rest/eu-a", Quota: 3, Exposed: 2, Failed: 1, Soak: "1m of 5m"}
	see(t, l, "soaking", func(p *Picture) bool { return !p.Done && p.Model.Rollout != nil && *p.Model.Rollout == want })
	update(map[string]any{"phase": "Halted", "reason": "TooManyFailed", "message": "1 of 2 nodes failed"})
	see(t, l, "halted", func(p *Picture) bool {
		r := p.Model.Rollout
		return r != nil && r.Stopped && r.Reason == "1 of 2 nodes failed"
	})
	before := w.set.DeepCopy()
	before.Spec.Template.Spec.Containers[0].Image = "agent:1"
	stable, err := view.NewRevision(before, 1)
	if err != nil {
		t.Fatal(err)
	}
	hash := stable.Labels[appsv1.ControllerRevisionHashLabelKey]
	sources := map[string]*source{}
	for _, s := range l.sources() {
		sources[s.name] = s
	}
	if err := sources["controllerrevisions"].Add(stable); err != nil {
		t.Fatal(err)
	}
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	if err := sources["pods"].Update(pod.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	update(map[string]any{"phase": "Aborted", "reason": "AbortRequested", "stable": hash, "target": w.hash, "release": int64(2), "back": true, "whyBack": "AbortRequested"})
	see(t, l, "gone back", func(p *Picture) bool {
		return p.Model.Rollout != nil && p.Model.Rollout.Phase == "Aborted" && p.There == 0 && slices.Equal(p.Model.Before, []string{hash})
	})
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash
	if err := sources["pods"].Update(pod); err != nil {
		t.Fatal(err)
	}
	update(map[string]any{"phase": "Idle"})
	see(t, l, "through", func(p *Picture) bool { return p.Done && p.Model.Rollout == nil })
}

// Who may not read releases, or has none, sees the rest.
func TestReleasesForbidden(t *testing.T) {
	w := newWorld(t)
	for _, verb := range []string{"list", "watch"} {
		client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{rolloutsResource(): view.RolloutKind + "List"})
		forbidden := apierrors.NewForbidden(rolloutsResource().GroupResource(), "", errors.New("no"))
		client.PrependReactor("list", view.RolloutResource, func(clienttesting.Action) (bool, runtime.Object, error) { return verb == "list", nil, forbidden })
		client.PrependWatchReactor(view.RolloutResource, func(clienttesting.Action) (bool, watch.Interface, error) { return true, nil, forbidden })
		l, err := New(t.Context(), w.client, client.Resource(rolloutsResource()), "apps", "agent", nil)
		if err != nil || l.rollouts != nil {
			t.Errorf("%s is forbidden: %v, followed: %v", verb, err, l.rollouts != nil)
		}
	}
}
