package engine

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// goneNodes confirms that nodes are deleted which a watch has shown to be. Only then do their
// pods go without waiting for a kubelet that will not answer. A node that is missing after a
// start or a new list proves nothing about its pods: those are left to the pod garbage collector.
type goneNodes struct {
	api   api
	index *index
	queue workqueue.TypedRateLimitingInterface[string]

	mu   sync.Mutex
	left map[string]farewell // by node name
}

// farewell is a deleted node: its UID, and the pods left on it.
type farewell struct {
	uid  string
	pods []string
}

func newGoneNodes(a api, ix *index) *goneNodes {
	return &goneNodes{api: a, index: ix, left: map[string]farewell{},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 5*time.Second))}
}

// removed takes a node whose deletion was watched, and the pods left on it.
func (g *goneNodes) removed(n nodeEntry, pods []string) {
	g.mu.Lock()
	g.left[n.Name] = farewell{uid: n.UID, pods: pods}
	g.mu.Unlock()
	g.queue.Add(n.Name)
}

// run confirms until the queue is shut down.
func (g *goneNodes) run(ctx context.Context) {
	for {
		name, stop := g.queue.Get()
		if stop {
			return
		}
		if err := g.confirm(ctx, name); err != nil {
			klog.FromContext(ctx).Info("could not confirm that a node is deleted; its pods wait", "node", name, "err", err.Error())
			g.queue.AddRateLimited(name)
		} else {
			g.queue.Forget(name)
		}
		g.queue.Done(name)
	}
}

func (g *goneNodes) confirm(ctx context.Context, name string) error {
	g.mu.Lock()
	f, ok := g.left[name]
	g.mu.Unlock()
	if !ok {
		return nil
	}
	now, err := g.api.liveNode(ctx, name)
	switch {
	case err != nil:
		return err
	case now == nil:
		g.index.depart(name, f.pods, time.Time{})
	case string(now.UID) != f.uid:
		// Watches are independent: some of the pods may have been created for a newer node of
		// this name.
		g.index.depart(name, f.pods, now.CreationTimestamp.Time)
	}
	g.mu.Lock()
	if g.left[name].uid == f.uid {
		delete(g.left, name)
	}
	g.mu.Unlock()
	return nil
}
