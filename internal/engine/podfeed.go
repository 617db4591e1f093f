package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

const (
	// wideFor is how long all pods are watched at least: each change of the width costs a new list.
	wideFor = 10 * time.Minute
	// scopeEvery is how often the engine checks whether that is still needed.
	scopeEvery = time.Minute
	// searchEvery is how often the engine searches for pods that a narrow watch cannot show: those
	// created with such a label.
	searchEvery = 10 * time.Minute
)

// errHidden is why a list was rejected.
var errHidden = errors.New("the list leaves out pods that matter; listing all pods")

// podFeed follows pods, as widely as needed: see scope.go.
type podFeed struct {
	index *index
	from  api
	to    *mirror[*podEntry]
}

// run follows pods until ctx ends. It first waits for the DaemonSets, which determine the width.
func (f *podFeed) run(ctx context.Context, sets <-chan struct{}) {
	if !waitAll(ctx, map[string]<-chan struct{}{"daemonsets": sets}) {
		return
	}
	for ctx.Err() == nil {
		why := f.index.needs()
		if why != narrow {
			klog.FromContext(ctx).Info("all pods are watched, those of Deployments and Jobs too", "reason", string(why))
		}
		f.follow(ctx, why == narrow)
	}
}

// follow runs a Reflector of that width until another width is needed.
func (f *podFeed) follow(ctx context.Context, narrowly bool) {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.index.asks(narrowly)
	f.to.confirm = nil
	from := selected[*corev1.PodList]{lister: f.from.follow.Pods("")}
	if narrowly {
		from.labels = narrowSelector()
		f.to.confirm = func() error {
			hidden, err := f.search(ctx)
			if hidden {
				cancel()
				return errHidden
			}
			return err
		}
	}
	all.Go(func() {
		defer cancel()
		f.attend(ctx, narrowly)
	})
	keepWatching(ctx, newReflector(ctx, "pods", from, &corev1.Pod{}, f.to), f.to.patience())
}

// attend resolves the doubts that a narrow watch leaves, and returns when another width is needed.
func (f *podFeed) attend(ctx context.Context, narrowly bool) {
	began := time.Now()
	check, search := time.NewTicker(scopeEvery), time.NewTicker(searchEvery)
	defer check.Stop()
	defer search.Stop()
	pause := firstRelist
	for ctx.Err() == nil && !f.due(narrowly, time.Since(began)) {
		again := time.NewTimer(pause)
		if f.settle(ctx) {
			again.Stop()
			pause = firstRelist
		} else {
			pause = min(2*pause, maxRelist)
		}
		select {
		case <-ctx.Done():
		case <-f.index.scope.changed:
		case <-again.C:
		case <-check.C:
		case <-search.C:
			if narrowly {
				f.searchAgain(ctx)
			}
		}
		again.Stop()
	}
}

// due reports whether another width is needed.
func (f *podFeed) due(narrowly bool, since time.Duration) bool {
	why := f.index.needs()
	return narrowly && why != narrow || !narrowly && why == narrow && since >= wideFor
}

// settle reads the pods in doubt; it returns false if some could not be read. If all pods will be
// watched, the list will show them.
func (f *podFeed) settle(ctx context.Context) bool {
	done := true
	for _, p := range f.index.doubted() {
		if f.index.needs() != narrow {
			return true
		}
		done = f.read(ctx, p) && done
	}
	return done
}

func (f *podFeed) read(ctx context.Context, p *podEntry) bool {
	live, err := f.from.getPod(ctx, p.namespace, p.Name)
	switch {
	case missing(err, p.Name), err == nil && string(live.UID) != p.UID:
		f.index.confirmGone(p.UID)
		return true
	case err != nil:
		return false
	}
	e, err := compactPod(live)
	if err == nil {
		f.index.confirmThere(e)
	}
	return err == nil
}

// search looks for pods of current or former DaemonSets that a narrow watch leaves out. The label of
// their revision distinguishes them from pods of Deployments and Jobs. There are hardly ever any, so the
// answers are empty.
func (f *podFeed) search(ctx context.Context) (hidden bool, err error) {
	hidden, err = f.from.anyPod(ctx, "", appsv1.ControllerRevisionHashLabelKey, f.index.matters)
	if hidden {
		f.index.findsHidden("")
	}
	return hidden, err
}

func (f *podFeed) searchAgain(ctx context.Context) {
	if _, err := f.search(ctx); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("cannot search for pods that the watch leaves out; trying again",
			"in", searchEvery.String(), "err", explain(err).Error())
	}
}

// longSelector is the length in bytes from which a selector is not sent: it is a part of the URL, which servers, clients and
// proxies cut off somewhere. Then the pods of the namespace are listed, and selected here.
const longSelector = 4 << 10

// searchOwn looks, among the pods that a narrow watch leaves out, for pods of a DaemonSet without known
// pods, and for orphans that it would adopt. So a DaemonSet that replaces a Deployment finds the pods
// that this has left. It returns errReplan if there are any; the next decision follows when they are
// known.
func (e *engine) searchOwn(ctx context.Context, ds *appsv1.DaemonSet, st *state) error {
	if st.searched || !e.index.mayHide(string(ds.UID)) {
		return nil
	}
	selects, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return err // such a DaemonSet is halted
	}
	asked := selects.String()
	if len(asked) > longSelector {
		asked = ""
	}
	hidden, err := e.api.anyPod(ctx, ds.Namespace, asked, func(p *metav1.PartialObjectMetadata) bool {
		ref := metav1.GetControllerOfNoCopy(p)
		return (ref == nil || ref.UID == ds.UID) && selects.Matches(labels.Set(p.Labels))
	})
	switch {
	case err != nil:
		return err
	case hidden && e.index.findsHidden(string(ds.UID)):
		return errReplan
	}
	st.searched = true
	return nil
}

// selected is a resource restricted to objects with those labels.
type selected[L runtime.Object] struct {
	lister[L]
	labels string
}

func (s selected[L]) List(ctx context.Context, opts metav1.ListOptions) (L, error) {
	opts.LabelSelector = s.labels
	return s.lister.List(ctx, opts)
}

func (s selected[L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector = s.labels
	return s.lister.Watch(ctx, opts)
}
