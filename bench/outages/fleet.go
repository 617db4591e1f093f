package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"everynode/bench/testbed"
	"everynode/internal/view"
)

// fleet is the simulated nodes: it counts what it sees of their pods, and runs
// them.
type fleet struct {
	kubelets *kubelets

	mu      sync.Mutex
	tally   *tally
	changed chan struct{} // closed at the next change
	failed  error
}

func newFleet(client kubernetes.Interface, nodes int, scale float64) *fleet {
	f := &fleet{tally: newTally(nodes), changed: make(chan struct{})}
	f.kubelets = &kubelets{client: client, scale: scale, fail: f.fail, broke: f.nodeBroke,
		lives: map[types.UID]*life{}, silent: map[string]bool{}}
	return f
}

// start watches pods until ctx ends.
func (f *fleet) start(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(testbed.Namespace))
	informer := factory.Core().V1().Pods().Informer()
	see := func(obj any) { f.see(ctx, obj.(*corev1.Pod), false) }
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: see, UpdateFunc: func(_, obj any) { see(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			f.see(ctx, obj.(*corev1.Pod), true)
		},
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("watch pods: %w", ctx.Err())
	}
	return nil
}

// release counts a state of a release of ours.
func (f *fleet) release(s *view.DaemonSetRolloutStatus, err error) {
	if err != nil {
		f.fail(err)
		return
	}
	f.change(func() { f.tally.halt.saw(s, time.Now()) })
}

func (f *fleet) see(ctx context.Context, pod *corev1.Pod, gone bool) {
	if pod.Spec.NodeName == "" {
		return
	}
	s := sight{UID: string(pod.UID), Node: pod.Spec.NodeName, Version: versionOf(pod), Terminating: pod.DeletionTimestamp != nil, Gone: gone}
	for _, c := range pod.Status.Conditions {
		s.Ready = s.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	f.change(func() { f.tally.pod(time.Now(), s) })
	if gone {
		f.kubelets.gone(pod)
	} else {
		f.kubelets.look(ctx, pod)
	}
}

func versionOf(pod *corev1.Pod) string { return pod.Spec.Containers[0].Image }

func (f *fleet) nodeBroke(node string, down bool) { f.change(func() { f.tally.node(node, down) }) }

func (f *fleet) fail(err error) { f.change(func() { f.failed = errors.Join(f.failed, err) }) }

// change changes what is counted, and wakes those that wait.
func (f *fleet) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// errTooLate means that a condition did not come true in time.
var errTooLate = errors.New("it has not come true in its time")

// await waits until a condition on the tally is true.
func (f *fleet) await(ctx context.Context, atMost time.Duration, what string, holds func(*tally) bool) error {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	for {
		f.mu.Lock()
		changed, failed, ok := f.changed, f.failed, holds(f.tally)
		f.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case ok:
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("waiting %s until %s: %w", atMost, what, errTooLate)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchFor waits for a time, or until the fleet fails.
func (f *fleet) watchFor(ctx context.Context, d time.Duration) error {
	err := f.await(ctx, d, "the time is over", func(*tally) bool { return false })
	if errors.Is(err, errTooLate) {
		return nil
	}
	return err
}
