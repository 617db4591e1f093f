package compat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The nodes of the test are in two pools. Those in the steady pool stay: what happens
// there is done only by the controllers. Those in the wild pool come and go, and so
// do their labels.
const (
	poolLabel = "pool"
	steady    = "steady"
	wild      = "wild"
)

// rolled are the DaemonSets of the steady pool, loose those of the wild one.
var (
	rolled = []string{"single", "fifth", "surge"}
	loose  = []string{"wild", "manual"}
)

// killSets returns the DaemonSets of the test.
func killSets() []*appsv1.DaemonSet {
	on := func(name, pool string, edits ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
		ds := agent(edits...)
		ds.Name = name
		ds.Spec.Selector.MatchLabels = map[string]string{"app": name}
		ds.Spec.Template.Labels = map[string]string{"app": name}
		ds.Spec.Template.Spec.NodeSelector = map[string]string{poolLabel: pool}
		return ds
	}
	return []*appsv1.DaemonSet{
		on("single", steady, rolling(1, 0)),
		on("fifth", steady, rolling(1, 0), func(ds *appsv1.DaemonSet) {
			ds.Spec.MinReadySeconds = 1
			*ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = intstr.FromString("20%")
		}),
		on("surge", steady, rolling(0, 2)),
		on("wild", wild, rolling(2, 0)),
		on("manual", wild, func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }),
	}
}

// workload is what people and machines do to the cluster.
type workload struct {
	l       *lab
	o       *observer
	p       *faultProxy
	random  *rand.Rand
	wilds   []string // the nodes of the wild pool, whether they exist or not
	edits   bool     // whether templates are edited, too
	joins   int      // how many more steady nodes may join
	joined  int
	version int
}

// during makes changes until work returns.
func (w *workload) during(edits bool, work func()) {
	w.edits = edits
	ctx, cancel := context.WithCancel(w.l.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			w.act(ctx)
			// The next change happens in the middle of what this one has caused.
			n := w.p.writes() + 1 + w.random.IntN(4)
			_ = poll(ctx, 300*time.Millisecond, func() bool { return w.p.writes() >= n })
		}
	})
	work()
	cancel()
	all.Wait()
}

func (w *workload) act(ctx context.Context) {
	switch n := w.random.IntN(12); {
	case n < 4 && w.edits:
		w.template(append(rolled, loose...)[w.random.IntN(len(rolled)+len(loose))])
	case n < 7:
		w.relabel(ctx, w.wilds[w.random.IntN(len(w.wilds))])
	case n < 10:
		w.deletePod(ctx, loose[w.random.IntN(len(loose))], func(*corev1.Pod) bool { return true })
	case n < 11 && w.edits && w.joins > 0:
		w.joins--
		w.joined++
		name := fmt.Sprintf("n%02d-late", w.joined)
		w.l.kubelet.change(func(k *kubelet) { k.slow[name] = true })
		w.join(name, steady)
	default:
		w.comeOrGo(ctx, w.wilds[w.random.IntN(len(w.wilds))])
	}
}

// template gives a DaemonSet a new image, or one of the last few again.
func (w *workload) template(set string) {
	version := w.version - w.random.IntN(min(4, w.version+1))
	if w.random.IntN(3) > 0 {
		w.version++
		version = w.version
	}
	w.l.editNamed(set, image(fmt.Sprintf("agent:%d", version)))
}

// renew gives every DaemonSet the same new template.
func (w *workload) renew() {
	w.version++
	for _, ds := range killSets() {
		w.l.editNamed(ds.Name, image(fmt.Sprintf("agent:%d", w.version)))
	}
}

func (w *workload) join(name, pool string) {
	w.l.addNode(name, func(n *corev1.Node) { n.Labels[poolLabel] = pool })
	w.l.kubelet.change(func(k *kubelet) { delete(k.dead, name) })
}

// relabel takes a node out of its pool, or puts it back. It only does so once the
// effects of the last time are over: otherwise nobody could tell which of two labels
// a controller knew.
func (w *workload) relabel(ctx context.Context, name string) {
	n, err := w.l.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return
	}
	switch {
	case n.Labels[poolLabel] == wild && w.o.full(name):
		w.l.editNode(name, func(n *corev1.Node) { delete(n.Labels, poolLabel) })
	case n.Labels[poolLabel] == "" && w.o.empty(name):
		w.l.editNode(name, func(n *corev1.Node) { n.Labels[poolLabel] = wild })
	}
}

// comeOrGo deletes a node, or creates it again, sometimes before the pods of the old
// one are gone.
func (w *workload) comeOrGo(ctx context.Context, name string) {
	_, err := w.l.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && (w.o.empty(name) || w.random.IntN(4) == 0):
		w.join(name, wild)
	case err == nil && w.o.full(name):
		w.l.kubelet.change(func(k *kubelet) { k.dead[name] = true })
		w.l.removeNode(name)
	}
}

// deletePod deletes a random pod, as a person would, if which accepts it.
func (w *workload) deletePod(ctx context.Context, set string, which func(*corev1.Pod) bool) {
	list, err := w.l.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + set})
	if err != nil || len(list.Items) == 0 {
		return
	}
	p := &list.Items[w.random.IntN(len(list.Items))]
	if p.DeletionTimestamp != nil || !which(p) {
		return
	}
	w.o.spare(p.UID)
	// The pod may be gone by now, or replaced by another one of its name.
	_ = w.l.client.CoreV1().Pods(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
}

// finish does what only people can: with OnDelete, it deletes the pods of old
// templates.
func (w *workload) finish(ctx context.Context) {
	want := w.l.setNamed("manual").Spec.Template.Spec.Containers[0].Image
	w.deletePod(ctx, "manual", func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != want })
}

// collect is the pod garbage collector: it force-deletes pods whose node has been
// missing for two rounds. It runs until ctx ends.
func (w *workload) collect(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	missing := map[string]int{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pods, err := w.l.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for _, p := range pods.Items {
			_, err := w.l.client.CoreV1().Nodes().Get(ctx, target(&p), metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				delete(missing, string(p.UID))
				continue
			}
			if missing[string(p.UID)]++; missing[string(p.UID)] >= 2 {
				_ = w.l.client.CoreV1().Pods(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
			}
		}
	}
}

// full reports whether every place of the node that should have an available pod has
// one.
func (o *observer) full(node string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, n := time.Now(), 0
	for at, s := range o.sites {
		if at.node != node || !s.wanted {
			continue
		}
		if n++; !o.serves(at, "", now) {
			return false
		}
	}
	return n > 0
}

// empty reports whether the node has no pods.
func (o *observer) empty(node string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pods {
		if p.node == node {
			return false
		}
	}
	return true
}

// unlike describes how the cluster differs from its specification: every node that
// should have one has one available pod of the current template, there are no other
// pods, and the status counts exactly these. It is "" if there is no difference.
func (o *observer) unlike() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := len(o.pods)
	for uid, ds := range o.sets {
		want := int32(0)
		for at, s := range o.sites {
			if at.set != uid || !s.wanted {
				continue
			}
			want++
			n := 0
			for _, p := range o.here[at] {
				if n++; p.Spec.Containers[0].Image != ds.Spec.Template.Spec.Containers[0].Image {
					return fmt.Sprintf("%s on %s is of %s, not of %s", p.Name, at.node, p.Spec.Containers[0].Image, ds.Spec.Template.Spec.Containers[0].Image)
				}
			}
			if n != 1 || !o.serves(at, "", time.Now()) {
				return fmt.Sprintf("%s has %d pods on %s, available: %v", ds.Name, n, at.node, o.serves(at, "", time.Now()))
			}
			left--
		}
		s := ds.Status
		s.Conditions, s.CollisionCount = nil, nil
		recount := appsv1.DaemonSetStatus{ObservedGeneration: ds.Generation, DesiredNumberScheduled: want, CurrentNumberScheduled: want,
			NumberReady: want, UpdatedNumberScheduled: want, NumberAvailable: want}
		if fmt.Sprint(s) != fmt.Sprint(recount) {
			return fmt.Sprintf("the status of %s is %+v, want %+v", ds.Name, s, recount)
		}
	}
	if left != 0 {
		return fmt.Sprintf("%d pods are on nodes that should have none", left)
	}
	if len(o.sets) == 0 {
		return "there are no DaemonSets"
	}
	return ""
}
