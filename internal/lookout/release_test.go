package lookout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/fleetmap"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

func rolloutsResource() schema.GroupVersionResource {
	return view.ReleaseResource(view.RolloutResource)
}

// release is the DaemonSetRollout apps/agent for the DaemonSet with that UID.
func release(owner string, status map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": view.PolicyVersion, "kind": view.RolloutKind, "status": status,
		"metadata": map[string]any{"namespace": "apps", "name": "agent", "ownerReferences": []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": owner}}}}}
}

// What the controller reports about a release is in the picture, and an update in waves is not done before its
// release is. A report about an earlier DaemonSet of the name, or without a phase, is not in it.
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
	l, err := New(t.Context(), w.client, Releases{Rollouts: client.Resource(rolloutsResource())}, "apps", "agent", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Follow(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	see(t, l, "of an earlier one", func(p *Picture) bool { return p.Done && p.Model.Rollout == nil })
	<-watches // the first only tests whether the kind can be watched
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

// A user who may not read releases, or whose cluster does not have the kind, sees everything else. What may not be read is
// said. An API server that fails at first hides nothing.
func TestReleasesForbidden(t *testing.T) {
	w := newWorld(t)
	rollouts, policies := rolloutsResource(), view.ReleaseResource(view.PolicyResource)
	forbidden := func(of schema.GroupVersionResource) error {
		return apierrors.NewForbidden(of.GroupResource(), "", errors.New("no"))
	}
	const noReleases = `releases are not shown: daemonsetrollouts.everynode.io is forbidden: no`
	for _, tc := range []struct {
		resource                schema.GroupVersionResource
		list, watch             error
		hidden                  string
		showsRollout, showsWave bool
		unknown                 bool // the cluster does not have the kinds
	}{
		{resource: rollouts, list: forbidden(rollouts), watch: forbidden(rollouts), unknown: true},
		{resource: rollouts, list: forbidden(rollouts), watch: forbidden(rollouts), hidden: noReleases},
		{resource: rollouts, watch: forbidden(rollouts), hidden: noReleases},
		{resource: policies, list: forbidden(policies), hidden: `waves are not shown: rolloutpolicies.everynode.io is forbidden: no`, showsRollout: true},
		{resource: rollouts, list: apierrors.NewNotFound(rollouts.GroupResource(), "")},
		{resource: rollouts, list: apierrors.NewInternalError(errors.New("busy")), showsRollout: true, showsWave: true},
		{showsRollout: true, showsWave: true},
	} {
		client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			rollouts: view.RolloutKind + "List", policies: view.PolicyKind + "List"})
		client.PrependReactor("list", tc.resource.Resource, func(clienttesting.Action) (bool, runtime.Object, error) { return tc.list != nil, nil, tc.list })
		client.PrependWatchReactor(tc.resource.Resource, func(clienttesting.Action) (bool, watch.Interface, error) { return tc.watch != nil, nil, tc.watch })
		releases := Releases{Rollouts: client.Resource(rollouts), Policies: client.Resource(policies)}
		w.client.Resources = []*metav1.APIResourceList{{GroupVersion: view.PolicyVersion}}
		if tc.unknown {
			w.client.Resources = nil
		}
		l, err := New(t.Context(), w.client, releases, "apps", "agent", nil)
		if err != nil {
			t.Fatal(err)
		}
		for of, f := range map[string]followed{"one": l.followed, "all": NewFleet(t.Context(), w.client, releases, "").followed} {
			if f.hidden != tc.hidden || (f.rollouts != nil) != tc.showsRollout || (f.kinds != nil) != tc.showsWave {
				t.Errorf("%+v: %s: %+v", tc, of, f)
			}
		}
		l.unread = map[string]bool{}
		if tc.resource == policies {
			if p, err := l.See(time.Now(), true); err != nil || p.Model.Hidden != "" {
				t.Errorf("%+v: without a release the picture says %q, %v", tc, p.Model.Hidden, err)
			}
			l.rollout = &view.DaemonSetRollout{}
		}
		if p, err := l.See(time.Now(), true); err != nil || p.Model.Hidden != tc.hidden {
			t.Errorf("%+v: the picture says %q, %v", tc, p.Model.Hidden, err)
		}
	}
}

// The order is that of the policy that the controller follows, also while no release is under way. Waves are shown
// only during a release. Users who may not read policies, or give another, do not need it.
func TestOrderOfPolicyFollowed(t *testing.T) {
	w := newWorld(t)
	var names []string
	var nodes []rollout.Node
	for i := range 12 {
		name := fmt.Sprint("n-", 10+i)
		w.node(t, name, "", corev1.ConditionTrue)
		w.pod(t, name)
		names, nodes = append(names, name), append(nodes, rollout.Node{Name: name, Labels: map[string]string{}})
	}
	policies := view.ReleaseResource(view.PolicyResource)
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": view.PolicyVersion, "kind": view.PolicyKind, "metadata": map[string]any{"name": "agents"},
		"spec": map[string]any{"waves": []any{map[string]any{"name": "some", "nodes": "50%"}, map[string]any{"name": "rest", "nodes": "100%"}}}}}
	follows := map[string]any{"phase": "Soaking", "policy": map[string]any{"name": "agents"}}
	client := func(status map[string]any) *dynamicfake.FakeDynamicClient {
		c := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			rolloutsResource(): view.RolloutKind + "List", policies: view.PolicyKind + "List"}, release("set", status))
		if err := c.Tracker().Create(policies, object, ""); err != nil {
			t.Fatal(err)
		}
		return c
	}
	look := func(c *dynamicfake.FakeDynamicClient, given *rollout.Policy) (order []string, waves int) {
		t.Helper()
		l, err := New(t.Context(), w.client, Releases{c.Resource(rolloutsResource()), c.Resource(policies)}, "apps", "agent", given)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := painter{Lookout: l, policy: l.policy(), findings: map[finding]*found{}, before: map[string]int{}}
		rows, err := l.rows(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p.paint(rows)
		for i := range p.spots {
			order = append(order, p.spots[i].name)
		}
		return order, len(p.out.Model.Waves)
	}
	p := rollout.Default()
	ranked := rollout.NewLayout(&p, "set", nodes).Order // the first waves of both ask for no labels, so the hash alone decides
	if slices.Equal(ranked, names) {
		t.Fatal("the order of the names proves nothing")
	}
	if got, waves := look(client(follows), nil); !slices.Equal(got, ranked) || waves != 2 {
		t.Errorf("in a release: %q with %d waves, want %q with 2", got, waves, ranked)
	}
	idle := map[string]any{"phase": "Idle", "policy": map[string]any{"name": "agents"}}
	if got, waves := look(client(idle), nil); !slices.Equal(got, ranked) || waves != 0 {
		t.Errorf("idle: %q with %d waves, want %q without", got, waves, ranked)
	}
	if got, waves := look(client(follows), &p); !slices.Equal(got, ranked) || waves != 3 {
		t.Errorf("given another: %q with %d waves, want 3", got, waves)
	}
	if got, _ := look(client(map[string]any{"phase": "Soaking", "policy": map[string]any{"name": "gone"}}), nil); !slices.Equal(got, names) {
		t.Errorf("a policy that is gone: %q, want %q", got, names)
	}
	c := client(follows)
	c.PrependReactor("list", view.PolicyResource, func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(policies.GroupResource(), "", errors.New("no"))
	})
	if got, _ := look(c, nil); !slices.Equal(got, names) {
		t.Errorf("policies are forbidden: %q, want %q", got, names)
	}
}
