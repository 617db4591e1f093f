package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

const (
	// wideFor is how long all pods are watched at least: each change of the width is a list of what
	// the next one shows.
	wideFor = 10 * time.Minute
	// scopeEvery is how often it is looked whether that is still needed.
	scopeEvery = time.Minute
	// searchEvery is how often it is searched for what a narrow watch cannot show: pods that were
	// made with such a label.
	searchEvery = 10 * time.Minute
)

// errHidden is why a list was not taken.
var errHidden = errors.New("the list leaves out pods that matter; all pods are listed")

// podFeed follows pods, in the width that is needed: see scope.go.
type podFeed struct {
	index *index
	from  api
	to    *mirror[*podEntry]
}

// run follows pods until ctx ends. What DaemonSets there are is known first: that decides.
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

// attend settles what a narrow watch leaves in doubt, and returns when another width is needed.
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

// due says that another width is needed.
func (f *podFeed) due(narrowly bool, since time.Duration) bool {
	why := f.index.needs()
	return narrowly && why != narrow || !narrowly && why == narrow && since >= wideFor
}

// settle reads the pods in doubt; false if some could not be read. When all pods are to be watched,
// the list tells of them.
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

// search looks for pods of DaemonSets, present or former, that a narrow watch leaves out. They are
// told from those of Deployments and Jobs by the label of their revision. There are hardly ever any,
// so that the answers are empty.
func (f *podFeed) search(ctx context.Context) (hidden bool, err error) {
	hidden, err = f.from.anyPod(ctx, "", appsv1.ControllerRevisionHashLabelKey, f.index.matters)
	if hidden {
		f.index.findsHidden("")
	}
	return hidden, err
}

func (f *podFeed) searchAgain(ctx context.Context) {
	if _, err := f.search(ctx); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("cannot search for pods that the watch leaves out; it is tried again",
			"in", searchEvery.String(), "error", explain(err).Error())
	}
}

// searchOwn looks for pods of a DaemonSet of which no pod is known, and for orphans that it would adopt,
// among those that a narrow watch leaves out. A DaemonSet that comes in the place of a Deployment finds
// what that has left. It returns errReplan if there are any; the DaemonSet is decided on again when they
// are known.
func (e *engine) searchOwn(ctx context.Context, ds *appsv1.DaemonSet, st *state) error {
	if st.searched || !e.index.mayHide(string(ds.UID)) {
		return nil
	}
	selects, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return err // such a DaemonSet is halted
	}
	hidden, err := e.api.anyPod(ctx, ds.Namespace, selects.String(), func(p *metav1.PartialObjectMetadata) bool {
		ref := metav1.GetControllerOfNoCopy(p)
		return ref == nil || ref.UID == ds.UID
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

// selected is a resource as far as its objects have those labels.
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
