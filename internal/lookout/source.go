package lookout

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"everynode/internal/view"
	"everynode/internal/why"
)

// source is one resource and where its objects are stored. It is the store of its Reflector.
type source struct {
	of      *feed
	name    string
	example runtime.Object
	options metav1.ListOptions
	list    func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, metav1.ListOptions) (watch.Interface, error)

	// trim removes from an object what is never read, so that most changes make no difference.
	trim func(object any) (any, error)
	// keep stores an object and returns whether anything is new; forget removes a deleted object. replace is called
	// before a whole list. They are called with the lock held.
	keep    func(object any) bool
	forget  func(object any)
	replace func()
}

var _ cache.TransformingStore = (*source)(nil)

// sources returns the resources that are followed.
func (l *Lookout) sources() []*source {
	c, apps := l.client.CoreV1(), l.client.AppsV1()
	ours, named := metav1.ListOptions{LabelSelector: l.selector}, metav1.ListOptions{FieldSelector: "metadata.name=" + l.name}
	sources := []*source{
		{of: l.feed, name: "daemonsets", example: &appsv1.DaemonSet{}, options: named,
			list: lister(apps.DaemonSets(l.namespace).List), watch: apps.DaemonSets(l.namespace).Watch,
			trim: trimmed(trimSet),
			keep: l.keepSet, forget: func(any) { l.set = nil }, replace: func() { l.set = nil }},
		{of: l.feed, name: "controllerrevisions", example: &appsv1.ControllerRevision{}, options: ours,
			list: lister(apps.ControllerRevisions(l.namespace).List), watch: apps.ControllerRevisions(l.namespace).Watch,
			trim: trimmed(trimRevision),
			keep: l.keepRevision, forget: forget(l.revisions), replace: func() { clear(l.revisions) }},
		{of: l.feed, name: "nodes", example: &corev1.Node{},
			list: lister(c.Nodes().List), watch: c.Nodes().Watch,
			trim: trimmed(trimNode),
			keep: l.keepNode, forget: forget(l.nodes), replace: func() { clear(l.nodes) }},
		{of: l.feed, name: "pods", example: &corev1.Pod{}, options: ours,
			list: lister(c.Pods(l.namespace).List), watch: c.Pods(l.namespace).Watch,
			trim: trimmed(trimPod),
			keep: l.keepPod, forget: forget(l.pods), replace: func() { clear(l.pods) }},
	}
	if l.kinds != nil {
		sources = append(sources, &source{of: l.feed, name: view.PolicyResource, example: &unstructured.Unstructured{},
			list: lister(l.kinds.List), watch: l.kinds.Watch, trim: func(o any) (any, error) { return o, nil },
			keep: l.keepPolicy, forget: forget(l.policies), replace: func() { clear(l.policies) }})
	}
	if l.rollouts != nil {
		sources = append(sources, &source{of: l.feed, name: view.RolloutResource, example: &unstructured.Unstructured{}, options: named,
			list: lister(l.rollouts.List), watch: l.rollouts.Watch, trim: func(o any) (any, error) { return o, nil },
			keep: l.keepRollout, forget: func(any) { l.rollout = nil }, replace: func() { l.rollout = nil }})
	}
	return sources
}

func lister[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) func(context.Context, metav1.ListOptions) (runtime.Object, error) {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) }
}

func trimmed[T runtime.Object](trim func(T)) func(any) (any, error) {
	return func(object any) (any, error) {
		o, ok := object.(T)
		if !ok {
			return nil, fmt.Errorf("the watch gave an unexpected %T", object)
		}
		trim(o)
		return o, nil
	}
}

func trimSet(ds *appsv1.DaemonSet) { ds.ManagedFields = nil }

func trimRevision(r *appsv1.ControllerRevision) { r.ManagedFields = nil }

func trimNode(n *corev1.Node) { n.ManagedFields, n.Annotations, n.Status.Images = nil, nil, nil }

// trimPod keeps where a pod is, whose it is and how it is.
func trimPod(p *corev1.Pod) {
	p.ManagedFields, p.Annotations, p.ResourceVersion = nil, nil, ""
	p.Spec.Volumes, p.Spec.Tolerations = nil, nil
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			containers[i] = corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, RestartPolicy: c.RestartPolicy}
		}
	}
}

func (l *Lookout) keepSet(object any) bool {
	if ds := object.(*appsv1.DaemonSet); ds.Name != l.name {
		return false
	} else if l.set = ds; ds.UID != l.uid {
		l.set = nil
	}
	return true
}

func (l *Lookout) keepRevision(object any) bool {
	r := object.(*appsv1.ControllerRevision)
	l.revisions[r.Name] = readRevision(r)
	return true
}

func (l *Lookout) keepNode(object any) bool {
	return keepNode(l.nodes, object.(*corev1.Node))
}

func keepNode(in map[string]node, n *corev1.Node) (isNew bool) {
	kept := node{Node: view.Node(n), zone: n.Labels[corev1.LabelTopologyZone]}
	if !kept.Ready {
		kept.said = why.SaidOfNode(n)
	}
	before, known := in[n.Name]
	in[n.Name] = kept
	return !known || !reflect.DeepEqual(before, kept)
}

func (l *Lookout) keepPod(object any) bool { return keepPod(l.pods, object.(*corev1.Pod)) }

func keepPod(in map[string]*corev1.Pod, p *corev1.Pod) (isNew bool) {
	before := in[p.Name]
	in[p.Name] = p
	return before == nil || !reflect.DeepEqual(before, p)
}

func forget[T any](from map[string]T) func(any) {
	return func(object any) {
		if o, err := meta.Accessor(object); err == nil {
			delete(from, o.GetName())
		}
	}
}

// Add stores an object from the watch.
func (s *source) Add(object any) error { return s.take(object) }

// Update stores a change from the watch.
func (s *source) Update(object any) error { return s.take(object) }

func (s *source) take(object any) error {
	object, err := s.trim(object)
	if err != nil {
		return err
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.keep(object) {
		poke(s.of.changed)
	}
	return nil
}

// Delete removes an object that the watch says was deleted.
func (s *source) Delete(object any) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.forget(object)
	poke(s.of.changed)
	return nil
}

// Replace stores a whole list.
func (s *source) Replace(objects []any, _ string) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.replace()
	for _, o := range objects {
		o, err := s.trim(o)
		if err != nil {
			return err
		}
		s.keep(o)
	}
	delete(s.of.unread, s.name)
	poke(s.of.changed)
	return nil
}

// Resync does nothing.
func (s *source) Resync() error { return nil }

// Transformer trims objects before they are stored anywhere.
func (s *source) Transformer() cache.TransformFunc { return s.trim }

// read lists the resource once.
func (s *source) read(ctx context.Context) error {
	list, err := s.list(ctx, s.options)
	if err != nil {
		return fmt.Errorf("list the %s: %w", s.name, err)
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("list the %s: %w", s.name, err)
	}
	objects := make([]any, 0, len(items))
	for _, item := range items {
		objects = append(objects, item)
	}
	return s.Replace(objects, "")
}

// How long to wait before a retry, so that a server is found a few seconds after it is back.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 3 * time.Second
)

// follow lists and watches until ctx ends. It logs nothing, because the terminal shows a picture. It notes errors
// instead.
func (s *source) follow(ctx context.Context) {
	quiet := logr.Discard()
	ctx = klog.NewContext(ctx, quiet)
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := s.list(ctx, s.aim(o))
			s.of.note(s.name, err, time.Now())
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := s.watch(ctx, s.aim(o))
			s.of.note(s.name, err, time.Now())
			return w, err
		},
	}, s.of.client), s.example, s, cache.ReflectorOptions{
		Logger: &quiet, Name: s.name,
		Backoff: &wait.Backoff{Duration: firstRetry, Cap: lastRetry, Steps: 8, Factor: 2, Jitter: 0.5},
	})
	pause := wait.Backoff{Duration: firstRetry, Cap: lastRetry, Steps: 8, Factor: 2, Jitter: 0.5}
	for ctx.Err() == nil {
		began := time.Now()
		if err := r.ListAndWatchWithContext(ctx); err != nil {
			s.of.note(s.name, err, time.Now())
		}
		if time.Since(began) > lastRetry {
			pause = wait.Backoff{Duration: firstRetry, Cap: lastRetry, Steps: 8, Factor: 2, Jitter: 0.5}
		}
		rest(ctx, pause.Step())
	}
}

func (s *source) aim(o metav1.ListOptions) metav1.ListOptions {
	o.LabelSelector, o.FieldSelector = s.options.LabelSelector, s.options.FieldSelector
	return o
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
