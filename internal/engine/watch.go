package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"everynode/internal/view"
)

// watch starts one Reflector for each resource, which fill the index until ctx
// ends. The channels, by resource, close when the first list is in it.
func (ix *index) watch(ctx context.Context, all *sync.WaitGroup, from api) map[string]<-chan struct{} {
	c, core := from.client, from.follow
	sets := &mirror[*setEntry]{compact: compactSet, upsert: ix.upsertSet, remove: ix.removeSet, replace: ix.replaceSets}
	revisions := &mirror[*revisionEntry]{compact: compactRevision, upsert: ix.upsertRevision, remove: ix.removeRevision, replace: ix.replaceRevisions}
	nodes := &mirror[nodeEntry]{compact: compactNode, upsert: ix.upsertNode, remove: ix.removeNode, replace: ix.replaceNodes, reached: ix.reachedNodes}
	pods := &mirror[*podEntry]{compact: newFamilies().compactObject, upsert: ix.upsertPod, remove: ix.removePod, replace: ix.replacePods, reached: ix.reachedPods,
		synced: make(chan struct{})}
	known := follow(ctx, all, "daemonsets", c.AppsV1().DaemonSets(""), &appsv1.DaemonSet{}, sets)
	feed := &podFeed{index: ix, from: from, to: pods}
	all.Go(func() { feed.run(ctx, known) })
	return map[string]<-chan struct{}{
		"daemonsets":          known,
		"controllerrevisions": follow(ctx, all, "controllerrevisions", c.AppsV1().ControllerRevisions(""), &appsv1.ControllerRevision{}, revisions),
		"nodes":               follow(ctx, all, "nodes", core.Nodes(), &corev1.Node{}, nodes),
		"pods":                pods.synced,
	}
}

// lister is one resource of a typed client.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// follow runs a Reflector from a resource to a mirror until ctx ends.
func follow[L runtime.Object, T any](ctx context.Context, all *sync.WaitGroup, name string, from lister[L], example runtime.Object, to *mirror[T]) <-chan struct{} {
	to.synced = make(chan struct{})
	r := newReflector(ctx, name, from, example, to)
	all.Go(func() { keepWatching(ctx, r, to.patience()) })
	return to.synced
}

// newReflector returns a Reflector from a resource to a mirror.
func newReflector[L runtime.Object, T any](ctx context.Context, name string, from lister[L], example runtime.Object, to *mirror[T]) *cache.Reflector {
	logger := klog.FromContext(ctx)
	return cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			// "0" means any state that a server has cached, perhaps from before the last leader's
			// deletes: read the current state instead.
			if o.ResourceVersion == "0" {
				o.ResourceVersion = ""
			}
			return from.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return from.Watch(ctx, o)
		},
	}, example, to, cache.ReflectorOptions{
		Logger: &logger, Name: name,
		Backoff: &wait.Backoff{Duration: firstRelist, Cap: maxRelist, Steps: 8, Factor: 2, Jitter: 0.5},
	})
}

// A server that has restarted is found within seconds.
const (
	firstRelist = 200 * time.Millisecond
	maxRelist   = 3 * time.Second
)

// keepWatching lists and watches until ctx ends. The Reflector's own loop reports every failure
// as an unhandled error, but a restarting server is not one. longest is the pause after many
// failures; the same failure is logged once.
func keepWatching(ctx context.Context, r *cache.Reflector, longest time.Duration) {
	pause, said := firstRelist, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := r.ListAndWatchWithContext(ctx)
		if time.Since(began) > maxRelist {
			pause, said = firstRelist, ""
		}
		if err != nil && ctx.Err() == nil {
			if text := explain(err).Error(); text != said {
				klog.FromContext(ctx).Info("cannot follow a resource; trying again", "resource", r.Name(), "err", text)
				said = text
			}
		}
		sleep(ctx, wait.Jitter(pause, 0.5))
		pause = min(2*pause, longest)
	}
}

func compactSet(obj any) (*setEntry, error) {
	ds, ok := obj.(*appsv1.DaemonSet)
	if !ok {
		return nil, unexpected(obj)
	}
	version, err := versionOf(ds)
	if err != nil {
		return nil, err
	}
	if ds.ManagedFields != nil {
		ds.ManagedFields = nil
	}
	trimmed, spec := trimAnnotations(ds), view.Spec(ds, "")
	return &setEntry{ds: ds, trimmed: trimmed, heavy: isHeavy(&spec.Placement), selector: view.NewSelector(ds.Spec.Selector),
		foreign: namesForeign(ds), version: version, spec: spec}, nil
}

func compactNode(obj any) (nodeEntry, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return nodeEntry{}, unexpected(obj)
	}
	version, err := versionOf(n)
	return nodeEntry{view.Node(n), version}, err
}

func unexpected(obj any) error { return fmt.Errorf("the watch gave an unexpected %T", obj) }
