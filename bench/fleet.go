package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"everynode/bench/testbed"
)

// fleet is the cluster as its watches show it: the pods that are bound, and the DaemonSets.
// Phases wait for conditions on it, and get the time at which they came true.
type fleet struct {
	mu      sync.Mutex
	pods    map[types.UID]seenPod
	groups  map[string]*group
	sets    map[string]seenSet
	waiters map[*waiter]struct{}
	failed  error
	events  int               // how many events the watches have delivered
	bound   func(*corev1.Pod) // the kubelet's; called for every event of a pod, except that it was deleted
	say     func(format string, args ...any)
	watches sync.WaitGroup
}

type seenPod struct {
	name, group, node    string
	running, terminating bool
}

type seenSet struct {
	generation int64
	status     appsv1.DaemonSetStatus
}

// group is the bound pods of one DaemonSet.
type group struct {
	pods, running int
	onNode        map[string]int // those that are not terminating
}

type waiter struct {
	holds func(*fleet) bool
	since chan time.Time // gets the time at which the condition came true; closed on a failure
}

func newFleet(bound func(*corev1.Pod), say func(format string, args ...any)) *fleet {
	return &fleet{pods: map[types.UID]seenPod{}, groups: map[string]*group{}, sets: map[string]seenSet{},
		waiters: map[*waiter]struct{}{}, bound: bound, say: say}
}

// lister is one resource of a client.
type lister interface {
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// follow watches until ctx ends. The first events are the objects that exist already. If the
// server ends the watch, the next one continues where it was.
func (f *fleet) follow(ctx context.Context, from lister, opts metav1.ListOptions, see func(watch.EventType, runtime.Object)) {
	f.watches.Go(func() {
		version := ""
		for ctx.Err() == nil {
			opts.ResourceVersion, opts.AllowWatchBookmarks = version, true
			w, err := from.Watch(ctx, opts)
			if err == nil {
				version, err = f.drain(ctx, w, version, see)
			}
			if err != nil && ctx.Err() == nil {
				f.fail(fmt.Errorf("watch: %w", err))
				return
			}
		}
	})
}

func (f *fleet) drain(ctx context.Context, w watch.Interface, version string, see func(watch.EventType, runtime.Object)) (string, error) {
	defer w.Stop()
	for event := range w.ResultChan() {
		meta, ok := event.Object.(metav1.Object)
		if event.Type == watch.Error || !ok {
			return version, fmt.Errorf("the server says: %v", event.Object)
		}
		version = meta.GetResourceVersion()
		if event.Type != watch.Bookmark {
			see(event.Type, event.Object)
		}
	}
	return version, ctx.Err()
}

// start watches DaemonSets and bound pods, except pods of Deployments, as the kubelet's user.
func (f *fleet) start(ctx context.Context, client kubernetes.Interface) {
	f.follow(ctx, client.CoreV1().Pods(metav1.NamespaceAll), metav1.ListOptions{FieldSelector: "spec.nodeName!=", LabelSelector: notForeign}, f.pod)
	f.follow(ctx, client.AppsV1().DaemonSets(metav1.NamespaceAll), metav1.ListOptions{}, f.set)
}

func (f *fleet) pod(event watch.EventType, obj runtime.Object) {
	p := obj.(*corev1.Pod)
	f.mu.Lock()
	f.count(f.pods[p.UID], -1)
	if event == watch.Deleted {
		delete(f.pods, p.UID)
	} else {
		s := seenPod{name: p.Name, group: p.Labels[testbed.LabelApp], node: p.Spec.NodeName, running: p.Status.Phase == corev1.PodRunning, terminating: p.DeletionTimestamp != nil}
		f.pods[p.UID] = s
		f.count(s, 1)
	}
	f.wake()
	f.mu.Unlock()
	if event != watch.Deleted {
		f.bound(p)
	}
}

// count adds a pod to its group (n is 1) or removes it (-1). Called with mu held.
func (f *fleet) count(p seenPod, n int) {
	if p.name == "" {
		return
	}
	g := f.group(p.group)
	g.pods += n
	if !p.terminating {
		g.onNode[p.node] += n
		if p.running {
			g.running += n
		}
		if g.onNode[p.node] == 0 {
			delete(g.onNode, p.node)
		}
	}
}

// group returns the group of that name, and makes it if necessary. Called with mu held.
func (f *fleet) group(name string) *group {
	if f.groups[name] == nil {
		f.groups[name] = &group{onNode: map[string]int{}}
	}
	return f.groups[name]
}

func (f *fleet) set(event watch.EventType, obj runtime.Object) {
	ds := obj.(*appsv1.DaemonSet)
	f.mu.Lock()
	defer f.mu.Unlock()
	if event == watch.Deleted {
		delete(f.sets, ds.Name)
	} else {
		f.sets[ds.Name] = seenSet{ds.Generation, ds.Status}
	}
	f.wake()
}

// wake informs the waiters whose condition has come true. Called with mu held.
func (f *fleet) wake() {
	f.events++
	for w := range f.waiters {
		if w.holds(f) {
			w.since <- time.Now()
			delete(f.waiters, w)
		}
	}
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = errors.Join(f.failed, err)
	for w := range f.waiters {
		close(w.since)
		delete(f.waiters, w)
	}
}

const (
	// patience is how long nothing at all may happen before await gives up.
	patience = 5 * time.Minute
	// reportEvery is how often the progress towards a condition is printed.
	reportEvery = time.Minute
)

// await waits until a condition is true, and returns when that was. The condition is checked at
// every event, so it must be cheap.
func (f *fleet) await(ctx context.Context, what string, holds func(*fleet) bool) (time.Time, error) {
	return f.expect(holds).await(ctx, f, what)
}

// expect begins to wait, so that an event that is caused next is not missed.
func (f *fleet) expect(holds func(*fleet) bool) *waiter {
	w := &waiter{holds: holds, since: make(chan time.Time, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.failed != nil:
		close(w.since)
	case holds(f):
		w.since <- time.Now()
	default:
		f.waiters[w] = struct{}{}
	}
	return w
}

func (w *waiter) await(ctx context.Context, f *fleet, what string) (time.Time, error) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	seen, last := -1, time.Now()
	for {
		select {
		case at, ok := <-w.since:
			if !ok {
				return at, fmt.Errorf("waiting until %s: %w", what, f.failure())
			}
			return at, nil
		case <-ctx.Done():
			f.forget(w)
			return time.Time{}, fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case now := <-tick.C:
			events, progress := f.progress()
			if events != seen {
				seen, last = events, now
			} else if now.Sub(last) > patience {
				f.forget(w)
				return time.Time{}, fmt.Errorf("waiting until %s: nothing has happened for %s: %s", what, patience, progress)
			}
			f.say("     %s: %s", what, progress)
		}
	}
}

func (f *fleet) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *fleet) forget(w *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiters, w)
}

// progress returns how many events there were, and the resulting counts.
func (f *fleet) progress() (events int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pods, run, updated := 0, 0, int32(0)
	for _, g := range f.groups {
		pods, run = pods+g.pods, run+g.running
	}
	for _, s := range f.sets {
		updated += s.status.UpdatedNumberScheduled
	}
	return f.events, fmt.Sprintf("%d pods, %d run; of the newest template, as the statuses have it: %d", pods, run, updated)
}

// covered returns a condition: the DaemonSet's status says that n pods are available, all of its
// newest template.
func covered(name string, n int) func(*fleet) bool {
	return func(f *fleet) bool {
		s := f.sets[name]
		want := int32(n)
		return s.generation > 0 && s.status.ObservedGeneration == s.generation && s.status.DesiredNumberScheduled == want &&
			s.status.NumberAvailable == want && s.status.UpdatedNumberScheduled == want
	}
}

// running returns a condition: n pods of a DaemonSet run, and it has no others.
func running(name string, n int) func(*fleet) bool {
	return func(f *fleet) bool { g := f.group(name); return g.running == n && g.pods == n }
}

// each returns a condition: condition(name) is true for every name.
func each(names []string, condition func(name string) func(*fleet) bool) func(*fleet) bool {
	var all []func(*fleet) bool
	for _, name := range names {
		all = append(all, condition(name))
	}
	return func(f *fleet) bool {
		return !slices.ContainsFunc(all, func(holds func(*fleet) bool) bool { return !holds(f) })
	}
}

// hasPod returns a condition: a DaemonSet has a pod on a node.
func hasPod(name, node string) func(*fleet) bool {
	return func(f *fleet) bool { return f.group(name).onNode[node] > 0 }
}

// podsOn returns the names of the pods on the nodes that the filter accepts.
func (f *fleet) podsOn(filter func(node string) bool) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, p := range f.pods {
		if filter(p.node) {
			names = append(names, p.name)
		}
	}
	return names
}
