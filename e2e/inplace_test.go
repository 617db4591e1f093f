package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// updateTime is how long one update may take, with everything that is killed meanwhile.
const updateTime = 5 * time.Minute

// inPlaceRun is a run of updates of a DaemonSet of e2e/serving.
type inPlaceRun struct {
	c      *cluster
	client kubernetes.Interface
	name   string // of the DaemonSet
	random *rand.Rand

	mu       sync.Mutex
	newest   int64                  // the generation that was asked for last
	versions map[int64]target       // keyed by generation
	claims   []claim                // without version and until
	seen     []int64                // the generation of each claim
	last     *appsv1.DaemonSet      // the last one that the watch delivered
	pods     map[types.UID]string   // the image of each pod that has existed
	changes  int                    // how often a pod's image changed
	good     int                    // how many good versions were used
	unready  map[string][]time.Time // by node: when its pod, which nobody had asked to end, was seen to be not ready
	story    []string               // what was seen, printed on failure
}

// target is a version that the template was set to.
type target struct {
	version string
	from    time.Time // before the request
}

// withServing calls do for a DaemonSet of e2e/serving that runs version 1. The engines of the cluster are those of the killer,
// which kills none of them until it is told to begin.
func withServing(ts *testscript.TestScript, daemonSet string, do func(ctx context.Context, p *inPlaceRun, k *killer)) {
	seed := uint64(time.Now().UnixNano())
	ts.Logf("seed %d", seed)
	p := &inPlaceRun{c: clusterOf(ts), name: daemonSet, random: rand.New(rand.NewPCG(seed, 0)), versions: map[int64]target{}, pods: map[types.UID]string{}, unready: map[string][]time.Time{}}
	var err error
	p.client, err = p.c.client()
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watching, err := p.watch(ctx)
	ts.Check(err)
	defer watching.Shutdown()
	defer cancel() // before the deferred wait for the watch
	k := &killer{c: p.c, random: rand.New(rand.NewPCG(seed, 1))}
	defer k.end()
	ts.Check(k.startEngines())
	ts.Check(p.set(ctx, p.nextGood()))
	ts.Check(p.through(ctx))
	do(ctx, p, k)
}

// updatesUnderKills updates a DaemonSet of e2e/serving again and again, mostly to good versions, in place or by deletion, while
// engines, kubelets and the control plane are killed, and clients ask each node's pod. Three things must hold. No two nodes whose
// pods are ready lose the program that answers at the same time. No status counts a pod as available that serves another version.
// In the end all pods serve the last version.
func updatesUnderKills(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 || args[3] != "InPlaceIfPossible" && args[3] != "deletion" {
		ts.Fatalf("usage: updates-under-kills DAEMONSET HOST-PORT COUNT InPlaceIfPossible|deletion")
	}
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	inPlace := args[3] != "deletion"
	withServing(ts, args[0], func(ctx context.Context, p *inPlaceRun, k *killer) {
		if inPlace {
			ts.Check(p.updateBy(ctx, args[3]))
		} else {
			ts.Check(p.updateBy(ctx, nil))
		}
		asked, err := p.ask(ctx, args[1])
		ts.Check(err)
		defer asked.stop()
		k.begin(ctx)
		err = p.update(ctx, count)
		if err = errors.Join(err, k.stop()); err == nil {
			err = p.through(ctx) // the status again, written by whichever engine lives
		}
		ts.Logf("%d updates; killed: %v; %d pods in all, %d times one was changed in place", count, k.killed, len(p.pods), p.changes)
		err = errors.Join(err, p.judge(asked.stop()))
		if inPlace && p.changes <= len(p.pods) {
			err = errors.Join(err, errors.New("most updates were not in place"))
		}
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			story := slices.Sorted(slices.Values(slices.Concat(p.story, k.story)))
			ts.Fatalf("%v\nwhat was seen:\n%s", err, strings.Join(story, "\n"))
		}
	})
}

// updateAnnotation asks for updates in place.
const updateAnnotation = "everynode.io/update"

// updateBy sets the annotation that says how to update; nil removes it.
func (p *inPlaceRun) updateBy(ctx context.Context, way any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{updateAnnotation: way}}})
	if err != nil {
		return err
	}
	_, err = p.client.AppsV1().DaemonSets(p.c.namespace).Patch(ctx, p.name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// nextGood returns the next version that can run.
func (p *inPlaceRun) nextGood() string {
	p.good++
	return goodVersion(p.good)
}

// watch records what the API server says about the DaemonSet and its pods.
func (p *inPlaceRun) watch(ctx context.Context) (informers.SharedInformerFactory, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(p.client, 0, informers.WithNamespace(p.c.namespace))
	sets, pods := factory.Apps().V1().DaemonSets().Informer(), factory.Core().V1().Pods().Informer()
	_, err := sets.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: p.seeSet, UpdateFunc: func(_, obj any) { p.seeSet(obj) }})
	if err != nil {
		return nil, err
	}
	if _, err = pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { p.seePod(obj, false) },
		UpdateFunc: func(_, obj any) { p.seePod(obj, false) },
		DeleteFunc: func(obj any) { p.seePod(obj, true) },
	}); err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), sets.HasSynced, pods.HasSynced) {
		return nil, ctx.Err()
	}
	return factory, nil
}

func (p *inPlaceRun) seeSet(obj any) {
	ds := obj.(*appsv1.DaemonSet)
	if ds.Name != p.name {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = ds
	p.story = append(p.story, fmt.Sprintf("%s status of generation %d of %d, %s: %d updated, %d available", time.Now().Format("15:04:05.000"),
		ds.Status.ObservedGeneration, ds.Generation, ds.Spec.Template.Spec.Containers[0].Image, ds.Status.UpdatedNumberScheduled, ds.Status.NumberAvailable))
	if s := ds.Status; s.ObservedGeneration == ds.Generation {
		p.claims = append(p.claims, claim{at: time.Now(), desired: int(s.DesiredNumberScheduled), updated: int(s.UpdatedNumberScheduled), available: int(s.NumberAvailable)})
		p.seen = append(p.seen, ds.Generation)
	}
}

func (p *inPlaceRun) seePod(obj any, gone bool) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return // it was deleted while nobody watched
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	image := pod.Spec.Containers[0].Image
	if old, ok := p.pods[pod.UID]; ok && old != image {
		p.changes++
	}
	p.pods[pod.UID] = image
	if !gone && pod.DeletionTimestamp == nil && readySince(pod).IsZero() {
		p.unready[pod.Spec.NodeName] = append(p.unready[pod.Spec.NodeName], time.Now())
	}
	state := ""
	if gone {
		state = " gone"
	}
	for _, c := range pod.Status.ContainerStatuses {
		state += fmt.Sprintf(" %s ready=%t restarts=%d", c.Name, c.Ready, c.RestartCount)
	}
	p.story = append(p.story, fmt.Sprintf("%s %s on %s: %s, ending=%t%s", time.Now().Format("15:04:05.000"), pod.Name, pod.Spec.NodeName, image, pod.DeletionTimestamp != nil, state))
}

// ask starts a client for the agent of each node.
func (p *inPlaceRun) ask(ctx context.Context, port string) (*clients, error) {
	nodes, err := p.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	addresses := map[string]string{}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				addresses[n.Name] = a.Address + ":" + port
			}
		}
	}
	return askAll(addresses), nil
}

// update makes count updates. One in five is to a version that cannot run; the next one takes it back.
func (p *inPlaceRun) update(ctx context.Context, count int) error {
	version := ""
	for i := range count {
		var err error
		switch kind := p.random.IntN(10); {
		case i == count-1 || kind >= 2:
			version = p.nextGood()
			if err = p.set(ctx, version); err == nil && (i == count-1 || p.random.IntN(3) > 0) {
				err = p.through(ctx)
			} else if err == nil {
				err = p.begun(ctx)
			}
		default:
			version = []string{"crash", "missing"}[kind]
			if err = p.set(ctx, version); err == nil {
				err = p.stuck(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("update %d, to %s: %w", i+1, version, err)
		}
	}
	return nil
}

// set writes a version into the template. It repeats the request until a server has answered.
func (p *inPlaceRun) set(ctx context.Context, version string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "serving", "image": servingImage(version)}}}}}})
	if err != nil {
		return err
	}
	from := time.Now()
	var ds *appsv1.DaemonSet
	err = p.until(ctx, func(ctx context.Context) error {
		ds, err = p.client.AppsV1().DaemonSets(p.c.namespace).Patch(ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.versions[ds.Generation]; !known { // the first patch may change nothing
		p.versions[ds.Generation] = target{version, from}
	}
	p.newest = ds.Generation
	return nil
}

// until calls try until it succeeds, for at most updateTime.
func (p *inPlaceRun) until(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollEvery/4, updateTime, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not within %s: %w", updateTime, errors.Join(last, ctx.Err()))
	}
	return nil
}

// status waits until the status is of the last template and so returns true for it.
func (p *inPlaceRun) status(ctx context.Context, what string, so func(appsv1.DaemonSetStatus) bool) error {
	return p.until(ctx, func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.last == nil || p.last.Generation < p.newest {
			return errors.New("the watch has not shown the last template")
		}
		if s := p.last.Status; s.ObservedGeneration != p.last.Generation || !so(s) {
			return fmt.Errorf("it is not %s, but generation %d with status %+v", what, p.last.Generation, s)
		}
		return nil
	})
}

// through waits until the last update is complete.
func (p *inPlaceRun) through(ctx context.Context) error {
	return p.status(ctx, "through", func(s appsv1.DaemonSetStatus) bool {
		return s.UpdatedNumberScheduled == s.DesiredNumberScheduled && s.NumberAvailable == s.DesiredNumberScheduled
	})
}

// begun waits until the last update has reached a pod.
func (p *inPlaceRun) begun(ctx context.Context) error {
	return p.status(ctx, "begun", func(s appsv1.DaemonSetStatus) bool { return s.UpdatedNumberScheduled > 0 })
}

// stuck waits until a pod cannot run the version that it was given.
func (p *inPlaceRun) stuck(ctx context.Context) error {
	return p.until(ctx, func(context.Context) error {
		pods, err := p.c.listPods("app=" + p.name)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			for _, s := range pod.Status.ContainerStatuses {
				if w := s.State.Waiting; w != nil && slices.Contains([]string{"CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff"}, w.Reason) {
					return nil
				}
			}
		}
		return errors.New("no pod has a container that cannot run")
	})
}

// wasDown reports whether the pod of an outage's node was seen to be not ready just before it. A kubelet that restarts reports
// each pod as not ready until it has probed it, though the pod serves. The engine and the controller then replace such a pod at
// once, because they take it to be down.
func (p *inPlaceRun) wasDown(o outage) bool {
	const before = 5 * time.Second
	return slices.ContainsFunc(p.unready[o.node], func(at time.Time) bool { return at.Before(o.from) && at.After(o.from.Add(-before)) })
}

// judge returns everything that was not as it must be.
func (p *inPlaceRun) judge(answers map[string][]answer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if down := atOnce(slices.DeleteFunc(outagesOf(answers), p.wasDown), 1); down != nil {
		errs = append(errs, fmt.Errorf("nobody listened on several nodes at once: %v", down))
	}
	from := map[int64]time.Time{} // when the next version was asked for
	for generation, t := range p.versions {
		from[generation-1] = t.from
	}
	for i, c := range p.claims {
		c.version, c.until = p.versions[p.seen[i]].version, from[p.seen[i]]
		if text := falseClaim(c, answers); text != "" && c.version != "" {
			errs = append(errs, errors.New(text))
		}
	}
	for node, list := range answers {
		if got, want := list[len(list)-1].version, p.versions[p.last.Generation].version; got != want {
			errs = append(errs, fmt.Errorf("%s serves version %q in the end, not %s", node, got, want))
		}
	}
	return errors.Join(errs...)
}
