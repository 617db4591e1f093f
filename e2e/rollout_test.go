package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// rollout watches the pods of a DaemonSet while they are replaced.
//
// A pod counts as available when it is Ready, has been for MinReady by the API's own times, and is not being deleted. The watch
// sees each change a little after it was decided, when more pods are available, never fewer: it never reports a breach that did
// not happen.
type rollout struct {
	selector string
	minReady time.Duration
	surge    bool          // a node may have two pods for a while
	settle   time.Duration // how long a picture must last to count
	cancel   context.CancelFunc
	informer informers.SharedInformerFactory

	mu    sync.Mutex
	pods  map[types.UID]*corev1.Pod
	nodes map[string][]types.UID // every pod each node had, in the order of appearance
	down  int                    // the most nodes that lacked an available pod at once
	most  int                    // the most pods, not ending, that a node had at once
	last  picture                // what is true since the time in since
	since time.Time
	story []string // what was seen, printed on failure
}

func watchRollout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: watch-rollout DAEMONSET")
	}
	c := clusterOf(ts)
	if c.rollout != nil {
		ts.Fatalf("a rollout is watched already")
	}
	r, err := c.startRollout(args[0])
	ts.Check(err)
	c.rollout = r
}

func (c *cluster) startRollout(daemonSet string) (*rollout, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ds, err := client.AppsV1().DaemonSets(c.namespace).Get(ctx, daemonSet, metav1.GetOptions{})
	if err != nil {
		cancel()
		return nil, err
	}
	r := &rollout{
		selector: metav1.FormatLabelSelector(ds.Spec.Selector),
		minReady: time.Duration(ds.Spec.MinReadySeconds) * time.Second,
		surge:    surges(ds),
		settle:   pictureTime,
		cancel:   cancel,
		pods:     map[types.UID]*corev1.Pod{},
		nodes:    map[string][]types.UID{},
	}
	r.informer = informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(c.namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = r.selector }))
	if err := r.begin(ctx); err != nil {
		r.stop()
		return nil, fmt.Errorf("watch the rollout of %s: %w", daemonSet, err)
	}
	return r, nil
}

func surges(ds *appsv1.DaemonSet) bool {
	rolling := ds.Spec.UpdateStrategy.RollingUpdate
	return rolling != nil && rolling.MaxSurge != nil && !slices.Contains([]string{"0", "0%"}, rolling.MaxSurge.String())
}

// begin starts the watch and returns when all pods are available: before that, what follows would mean nothing. A server that
// lags may show that late.
func (r *rollout) begin(ctx context.Context) error {
	if r.minReady == 0 {
		return errors.New("it has no minReadySeconds, so there is nothing to see of them")
	}
	seen, err := r.informer.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { r.see(obj, false) },
		UpdateFunc: func(_, obj any) { r.see(obj, false) },
		DeleteFunc: func(obj any) { r.see(obj, true) },
	})
	if err != nil {
		return err
	}
	r.informer.Start(ctx.Done())
	waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(waiting.Done(), seen.HasSynced) {
		return errors.New("the list of pods does not come")
	}
	err = wait.PollUntilContextCancel(waiting, pollEvery, true, func(context.Context) (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.pods) > 0 && r.countDown(time.Now()) == 0, nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("of its %d pods, %d are not available", len(r.pods), r.countDown(time.Now()))
	}
	r.nodes = map[string][]types.UID{}
	for uid, p := range r.pods {
		r.nodes[p.Spec.NodeName] = append(r.nodes[p.Spec.NodeName], uid)
	}
	r.down, r.most, r.last, r.since = 0, 0, picture{0, r.countMost()}, time.Now()
	return nil
}

// stop ends the watch and waits for it.
func (r *rollout) stop() {
	r.cancel()
	r.informer.Shutdown()
}

func (r *rollout) see(obj any, gone bool) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone {
		delete(r.pods, pod.UID)
	} else {
		r.pods[pod.UID] = pod
	}
	node := pod.Spec.NodeName
	if !slices.Contains(r.nodes[node], pod.UID) {
		r.nodes[node] = append(r.nodes[node], pod.UID)
	}
	now := time.Now()
	down := r.countDown(now)
	r.note(now, picture{down, r.countMost()})
	r.story = append(r.story, fmt.Sprintf("%s %s on %s: gone=%t ending=%t ready since %s; nodes without an available pod: %d",
		now.Format("15:04:05.000"), pod.Name, node, gone, pod.DeletionTimestamp != nil, readySince(pod).Format("15:04:05"), down))
}

// picture is what a rollout is judged by, at one moment.
type picture struct{ down, most int }

// pictureTime is how long a picture must last to count. A watch that was cut off delivers what it missed one pod after the other,
// so the state after any but the last of these events never existed. A pod that is really down is down for seconds.
const pictureTime = 20 * time.Millisecond

// note records the picture after an event.
func (r *rollout) note(now time.Time, p picture) {
	if p != r.last {
		r.conclude(now)
		r.last, r.since = p, now
	}
	r.conclude(now)
}

// conclude counts the last picture, if it has lasted.
func (r *rollout) conclude(now time.Time) {
	if now.Sub(r.since) >= r.settle {
		r.down, r.most = max(r.down, r.last.down), max(r.most, r.last.most)
	}
}

// countMost returns the most pods on one node that are not being deleted.
func (r *rollout) countMost() int {
	on, most := map[string]int{}, 0
	for _, p := range r.pods {
		if p.DeletionTimestamp == nil {
			on[p.Spec.NodeName]++
			most = max(most, on[p.Spec.NodeName])
		}
	}
	return most
}

// countDown counts the nodes that lack an available pod.
func (r *rollout) countDown(now time.Time) int {
	up := map[string]bool{}
	for _, p := range r.pods {
		since := readySince(p)
		if !since.IsZero() && !now.Before(since.Add(r.minReady)) && p.DeletionTimestamp == nil {
			up[p.Spec.NodeName] = true
		}
	}
	return len(r.nodes) - len(up)
}

// readySince returns when the pod became ready; zero while it is not.
func readySince(p *corev1.Pod) time.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// rolloutBegun waits until the watched rollout has replaced a pod. The watch misses no pod, however short the moment is in which
// only one has been replaced; a poll of the DaemonSet's status may miss it.
func rolloutBegun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rollout-begun DURATION")
	}
	r := clusterOf(ts).rollout
	if r == nil {
		ts.Fatalf("no rollout is watched: watch-rollout comes first")
	}
	poll(ts, args[0], func(context.Context) (string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for node, pods := range r.nodes {
			if len(pods) > 1 {
				return node + " has another pod\n", nil
			}
		}
		return "", errors.New("no node has another pod")
	})
}

func rolloutKept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rollout-kept MAX-DOWN")
	}
	maxDown, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := clusterOf(ts)
	r := c.rollout
	if r == nil {
		ts.Fatalf("no rollout is watched: watch-rollout comes first")
	}
	pods, err := c.podsAtRest(r.selector)
	ts.Check(err)
	r.stop()
	c.rollout = nil
	if err := r.check(maxDown, pods); err != nil {
		ts.Fatalf("%v\nwhat was seen:\n%s", err, strings.Join(r.story, "\n"))
	}
	ts.Logf("at most %d of %d nodes lacked an available pod", r.down, len(r.nodes))
}

// podsAtRest waits until no pod is being deleted, and returns those that are left. When an API server dies, it may cut off a kubelet's
// request to remove a pod. The kubelet sends it again seconds later; the DaemonSet can be up to date before that.
func (c *cluster) podsAtRest(selector string) (pods []corev1.Pod, err error) {
	err = wait.PollUntilContextTimeout(context.Background(), pollEvery, time.Minute, true, func(context.Context) (bool, error) {
		pods, err = c.listPods(selector)
		ends := func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }
		return err == nil && !slices.ContainsFunc(pods, ends), err
	})
	return pods, err
}

// check returns an error that says which promises the rollout broke; now are the pods at its end.
func (r *rollout) check(maxDown int, now []corev1.Pod) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conclude(time.Now())
	var errs []error
	if r.down > maxDown {
		errs = append(errs, fmt.Errorf("%d nodes lacked an available pod at the same time, %d may", r.down, maxDown))
	}
	if r.most > 1 && !r.surge {
		errs = append(errs, fmt.Errorf("a node had %d pods at the same time", r.most))
	}
	if r.down == 0 {
		errs = append(errs, errors.New("nothing was seen to be replaced"))
	}
	hashes := map[string]bool{}
	for i := range now {
		p := &now[i]
		hashes[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
		had := r.nodes[p.Spec.NodeName]
		if len(had) != 2 || had[1] != p.UID {
			errs = append(errs, fmt.Errorf("%s had %d pods in all, not the old one and then %s", p.Spec.NodeName, len(had), p.Name))
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount > 0 {
				errs = append(errs, fmt.Errorf("%s of %s was restarted %d times", s.Name, p.Name, s.RestartCount))
			}
		}
	}
	if len(now) != len(r.nodes) {
		errs = append(errs, fmt.Errorf("%d pods on %d nodes", len(now), len(r.nodes)))
	}
	if len(hashes) != 1 {
		errs = append(errs, fmt.Errorf("pods of %d revisions", len(hashes)))
	}
	if maxDown == 1 {
		errs = append(errs, checkPauses(now, r.minReady))
	}
	return errors.Join(errs...)
}

// checkPauses returns an error if a pod was replaced before the previous one had been ready for minReady. The API's times are
// whole seconds, rounded down.
func checkPauses(pods []corev1.Pod, minReady time.Duration) error {
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var errs []error
	for i := 1; i < len(pods); i++ {
		last, next := &pods[i-1], &pods[i]
		ready := readySince(last)
		if pause := next.CreationTimestamp.Sub(ready) + time.Second; ready.IsZero() || pause < minReady {
			errs = append(errs, fmt.Errorf("%s was made %s after %s had become ready, not %s", next.Name, pause, last.Name, minReady))
		}
	}
	return errors.Join(errs...)
}
