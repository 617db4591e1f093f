package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"everynode/bench/testbed"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// policyName is the policy that the DaemonSets of all scenarios name.
const policyName = "default"

// releases is a client for the kinds of releases in waves.
type releases struct {
	client dynamic.Interface
	scale  float64
}

// install creates the kinds and the policy.
func (r *releases) install(ctx context.Context) error {
	return testbed.InstallReleases(ctx, r.client, policyName, policy(r.scale))
}

// policy returns the spec of the default policy, with its times on the time scale.
func policy(scale float64) map[string]any {
	p := rollout.Default()
	scaled := func(d time.Duration) string {
		return max(time.Second, time.Duration(float64(d)/scale).Round(time.Millisecond)).String()
	}
	var waves []any
	for _, w := range p.Waves {
		var nodes any = int64(w.Nodes.Value)
		if w.Nodes.Percent {
			nodes = fmt.Sprintf("%d%%", w.Nodes.Value)
		}
		waves = append(waves, map[string]any{"name": w.Name, "nodes": nodes, "soak": scaled(w.Soak)})
	}
	return map[string]any{"waves": waves, "failure": map[string]any{"startWithin": scaled(p.Failure.StartWithin)}}
}

// state is the state of a DaemonSet's releases.
type state struct {
	view.DaemonSetRolloutStatus
	version string // resourceVersion of the object
}

func (r *releases) get(ctx context.Context, name string) (*state, error) {
	o, err := r.client.Resource(view.ReleaseResource(view.RolloutResource)).Namespace(testbed.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	status, err := statusOf(o)
	if err != nil {
		return nil, err
	}
	return &state{DaemonSetRolloutStatus: *status, version: o.GetResourceVersion()}, nil
}

func statusOf(o *unstructured.Unstructured) (*view.DaemonSetRolloutStatus, error) {
	s := &view.DaemonSetRolloutStatus{}
	text, err := json.Marshal(o.Object["status"])
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read the DaemonSetRollout %s: %w", o.GetName(), err)
	}
	return s, nil
}

// follow calls saw with each state of each release, one after another, until ctx ends. It returns when it knows those
// that exist.
func (r *releases) follow(ctx context.Context, saw func(*view.DaemonSetRolloutStatus, error)) error {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(r.client, 0, testbed.Namespace, nil)
	informer := factory.ForResource(view.ReleaseResource(view.RolloutResource)).Informer()
	see := func(obj any) { saw(statusOf(obj.(*unstructured.Unstructured))) }
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, obj any) { see(obj) }}); err != nil {
		return fmt.Errorf("watch releases: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("watch releases: %w", ctx.Err())
	}
	return nil
}

// idle waits until the engine has a stable revision.
func (r *releases) idle(ctx context.Context, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		s, err := r.get(ctx, name)
		return err == nil && s.Phase == rollout.Idle.String() && s.Stable != "", nil
	})
	if err != nil {
		return fmt.Errorf("waiting until the engine knows the good revision of %s: %w", name, err)
	}
	return nil
}

// abort requests what `everynode rollout abort` does. asked is false if there is no release to take back.
func (r *releases) abort(ctx context.Context, name string) (asked bool, err error) {
	s, err := r.get(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look at the release of %s: %w", name, err)
	}
	if s.Target == s.Stable || s.Back {
		return false, nil
	}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"abort": s.Release, "promote": nil, "resume": nil}})
	if err != nil {
		return false, fmt.Errorf("encode the request: %w", err)
	}
	_, err = r.client.Resource(view.ReleaseResource(view.RolloutResource)).Namespace(testbed.Namespace).
		Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "everynode-rollout"})
	if err != nil {
		return false, fmt.Errorf("abort the release of %s: %w", name, err)
	}
	return true, nil
}

func (r *releases) forget(ctx context.Context, name string) error {
	return r.client.Resource(view.ReleaseResource(view.RolloutResource)).Namespace(testbed.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
}
