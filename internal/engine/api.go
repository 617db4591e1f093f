package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedappsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// api sends the engine's requests. Each has a deadline (see patience) and is sent once (see once): the
// client's own retries would hide the state of the server, and hold a slot of the window while they sleep.
type api struct {
	// client is for watches, events, and requests at the start; apps and whole are for the rest.
	client kubernetes.Interface
	apps   typedappsv1.AppsV1Interface
	whole  typedcorev1.CoreV1Interface
	// core is for pods and nodes; it decodes only what the engine needs.
	core typedcorev1.CoreV1Interface
	// follow is the same over a separate connection, for watches.
	follow typedcorev1.CoreV1Interface
	// answers reads what creates of pods are answered with.
	answers podAnswers
	// metadata reads only metadata.
	metadata metadataReader
	// objects is for policies and for the objects that keep releases.
	objects  dynamic.Interface
	patience *patience
	health   *health
}

// newAPI makes the clients that all reads and writes go through. They share
// connections. Nothing is limited on this side: the window of the applier
// follows the server.
func newAPI(base *rest.Config) (api, error) {
	c := rest.CopyConfig(base)
	c.QPS, c.Burst = -1, 0
	// Compressing the first lists would take both sides longer than sending them.
	c.DisableCompression = true
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if c.UserAgent == "" {
		c.UserAgent = "everynode-controller"
	}
	guardWrites(c)
	transport, err := rest.HTTPClientFor(c)
	if err != nil {
		return api{}, fmt.Errorf("engine: connecting to %s: %w", base.Host, err)
	}
	client, err := kubernetes.NewForConfigAndClient(c, transport)
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the client for %s: %w", base.Host, err)
	}
	c.APIPath, c.GroupVersion = "/api", &corev1.SchemeGroupVersion
	c.NegotiatedSerializer = newTrimming(scheme.Codecs.WithoutConversion())
	core, err := rest.RESTClientForConfigAndClient(c, transport)
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the client for %s: %w", base.Host, err)
	}
	follow, err := rest.RESTClientFor(onItsOwn(c))
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the watches of %s: %w", base.Host, err)
	}
	about, err := newMetadataReader(c, transport)
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the client for %s: %w", base.Host, err)
	}
	objects, err := newObjects(base, transport)
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the client for %s: %w", base.Host, err)
	}
	return api{objects: objects, client: client, apps: typedappsv1.New(once{client.AppsV1().RESTClient()}),
		whole: typedcorev1.New(once{client.CoreV1().RESTClient()}), core: typedcorev1.New(once{core}), answers: newPodAnswers(c.NegotiatedSerializer), follow: typedcorev1.New(follow), metadata: about, patience: newPatience(), health: &health{}}, nil
}

// onItsOwn gives a client its own connections: client-go never shares the connections of a configuration with a custom
// dialer. Pods and nodes are watched this way, because among a hundred requests on one connection a watch is served too
// late, and the API server ends watches that seem slow.
func onItsOwn(c *rest.Config) *rest.Config {
	own := rest.CopyConfig(c)
	if own.Dial == nil {
		own.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	}
	return own
}

// dialTimeout is client-go's, and how often an idle connection is probed.
const dialTimeout = 30 * time.Second

// pageSize returns how many items of a resource a page has. A node is ten times as large as other objects, and a
// page is completely in memory before it is decoded.
func pageSize(resource string) int64 {
	if resource == "nodes" {
		return 250
	}
	return 1000
}

// pages calls list for each page of a list. A list of many pages takes long, and the server may drop the state that it
// began with. The later pages are then newer, so the list as a whole is not a snapshot. If the
// server drops that twice in a row, without a page in between, pages returns its error.
func (a api) pages(ctx context.Context, resource string, list func(context.Context, metav1.ListOptions) (metav1.ListInterface, error)) error {
	opts := metav1.ListOptions{Limit: pageSize(resource)}
	for dropped := false; ; {
		var page metav1.ListInterface
		err := a.readPage(ctx, kind{"list " + resource, ""}, func(ctx context.Context) (err error) {
			page, err = list(ctx, opts)
			return err
		})
		var status apierrors.APIStatus
		switch {
		case err == nil:
			opts.Continue, dropped = page.GetContinue(), false
		case !dropped && apierrors.IsResourceExpired(err) && errors.As(err, &status) && status.Status().Continue != "":
			opts.Continue, dropped = status.Status().Continue, true
			continue
		default:
			return err
		}
		if opts.Continue == "" {
			return nil
		}
	}
}

// listPods reads the current metadata of every pod that could matter to a DaemonSet and matches the selector.
func (a api) listPods(ctx context.Context, selector string) (*podList, error) {
	all := &podList{pods: map[string]podAt{}, narrow: selector != ""}
	return all, a.eachPod(ctx, "", selector, all.add)
}

// eachPod calls take with each page of the metadata of pods with those labels, of one namespace or, if it is empty, of all.
func (a api) eachPod(ctx context.Context, namespace, selector string, take func(*metav1.PartialObjectMetadataList) error) error {
	return a.pages(ctx, "pods", func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		opts.LabelSelector = selector
		page, err := a.metadata.list(ctx, "pods", namespace, opts)
		if err != nil {
			return nil, err
		}
		return page, take(page)
	})
}

// anyPod reports whether a current pod that matches the selector, if there is one, and also has one of foreignLabels,
// satisfies is.
func (a api) anyPod(ctx context.Context, namespace, selector string, is func(*metav1.PartialObjectMetadata) bool) (bool, error) {
	var found atomic.Bool
	reading, ctx := errgroup.WithContext(ctx)
	if selector != "" {
		selector += ","
	}
	for _, key := range foreignLabels() {
		reading.Go(func() error {
			return a.eachPod(ctx, namespace, selector+key, func(page *metav1.PartialObjectMetadataList) error {
				for i := range page.Items {
					if is(&page.Items[i]) {
						found.Store(true)
					}
				}
				return nil
			})
		})
	}
	err := reading.Wait()
	return found.Load(), err
}

// listNodes reads the metadata of every node, as of now.
func (a api) listNodes(ctx context.Context) (*nodeList, error) {
	all := &nodeList{names: map[string]bool{}}
	err := a.pages(ctx, "nodes", func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		page, err := a.metadata.list(ctx, "nodes", "", opts)
		if err != nil {
			return nil, err
		}
		return page, all.add(page)
	})
	return all, err
}

// nodes reads every node whole, and the version of the list.
func (a api) nodes(ctx context.Context) (all []nodeEntry, version uint64, err error) {
	err = a.pages(ctx, "nodes", func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		page, err := a.core.Nodes().List(ctx, opts)
		if err != nil {
			return nil, err
		}
		if version, err = parseVersion(page.ResourceVersion); err != nil {
			return nil, err
		}
		return page, each(page.Items, func(n *corev1.Node) error {
			entry, err := compactNode(n)
			all = append(all, entry)
			return err
		})
	})
	return all, version, err
}

// eachSet calls take with every DaemonSet.
func (a api) eachSet(ctx context.Context, take func(*appsv1.DaemonSet) error) error {
	return a.pages(ctx, "daemonsets", func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		page, err := a.apps.DaemonSets("").List(ctx, opts)
		if err != nil {
			return nil, err
		}
		return page, each(page.Items, take)
	})
}

// eachRevision calls take with every ControllerRevision.
func (a api) eachRevision(ctx context.Context, take func(*appsv1.ControllerRevision) error) error {
	return a.pages(ctx, "controllerrevisions", func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		page, err := a.apps.ControllerRevisions("").List(ctx, opts)
		if err != nil {
			return nil, err
		}
		return page, each(page.Items, take)
	})
}

func each[T any](items []T, take func(*T) error) error {
	for i := range items {
		if err := take(&items[i]); err != nil {
			return err
		}
	}
	return nil
}

// createPod makes a pod: a *corev1.Pod, or one as view.Mold encodes it.
func (a api) createPod(ctx context.Context, namespace string, pod any) (made *corev1.Pod, err error) {
	err = a.write(ctx, kind{"create pods", namespace}, func(ctx context.Context) error {
		body, err := a.core.RESTClient().Post().Namespace(namespace).Resource("pods").
			SetHeader("Content-Type", runtime.ContentTypeProtobuf).
			Body(pod).Stream(ctx)
		if err != nil {
			return err
		}
		made, err = a.answers.read(body)
		return err
	})
	return made, err
}

// tryPod creates a pod in a dry run, and returns it as admission would leave it.
func (a api) tryPod(ctx context.Context, pod *corev1.Pod) (made *corev1.Pod, err error) {
	err = a.write(ctx, kind{"try pods", pod.Namespace}, func(ctx context.Context) (err error) {
		made, err = a.whole.Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	return made, err
}

// deletePod deletes a pod and returns it as the server left it: terminating, or in its last state. The typed
// client discards that.
func (a api) deletePod(ctx context.Context, namespace, name string, opts metav1.DeleteOptions) (left runtime.Object, err error) {
	err = a.write(ctx, kind{"delete pods", namespace}, func(ctx context.Context) (err error) {
		left, err = a.core.RESTClient().Delete().Namespace(namespace).Resource("pods").Name(name).
			Body(&opts).Do(ctx).Get()
		return err
	})
	return left, err
}

func (a api) getPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	got := &corev1.Pod{}
	err := a.read(ctx, kind{"get pods", namespace}, func(ctx context.Context) error {
		return a.core.RESTClient().Get().Namespace(namespace).Resource("pods").Name(name).
			Do(ctx).Into(got)
	})
	if apierrors.IsForbidden(err) {
		return a.findPod(ctx, namespace, name, err)
	}
	return got, err
}

// getWholePod is getPod for the complete pod.
func (a api) getWholePod(ctx context.Context, namespace, name string) (got *corev1.Pod, err error) {
	err = a.read(ctx, kind{"get pods", namespace}, func(ctx context.Context) (err error) {
		got, err = a.whole.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return got, err
}

// findPod is getPod for an engine that may only list. denied is the error of the get.
func (a api) findPod(ctx context.Context, namespace, name string, denied error) (*corev1.Pod, error) {
	var found *corev1.Pod
	err := a.read(ctx, kind{"list pods", namespace}, func(ctx context.Context) error {
		list, err := a.core.Pods(namespace).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if p := &list.Items[i]; p.Name == name && p.Namespace == namespace {
				found = p
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, errors.Join(denied, err)
	case found == nil:
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return found, nil
}

func (a api) patchPod(ctx context.Context, namespace, name string, patch []byte) (made *corev1.Pod, err error) {
	err = a.write(ctx, kind{"patch pods", namespace}, func(ctx context.Context) (err error) {
		made, err = a.core.Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	return made, err
}

// liveNode returns the current node; nil if it does not exist.
func (a api) liveNode(ctx context.Context, name string) (n *corev1.Node, err error) {
	err = a.read(ctx, kind{"get nodes", ""}, func(ctx context.Context) (err error) {
		n, err = a.core.Nodes().Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if missing(err, name) {
		return nil, nil
	}
	return n, err
}

func (a api) getSet(ctx context.Context, namespace, name string) (live *appsv1.DaemonSet, err error) {
	err = a.read(ctx, kind{"get daemonsets", namespace}, func(ctx context.Context) (err error) {
		live, err = a.apps.DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return live, err
}

// liveSet reads the DaemonSet past every cache and makes sure that it is still the same object.
func (a api) liveSet(ctx context.Context, ds *appsv1.DaemonSet) (*appsv1.DaemonSet, error) {
	live, err := a.getSet(ctx, ds.Namespace, ds.Name)
	if err != nil {
		return nil, fmt.Errorf("reading DaemonSet %s/%s again: %w", ds.Namespace, ds.Name, err)
	}
	if live.UID != ds.UID {
		return nil, fmt.Errorf("DaemonSet %s/%s (UID %s) is gone; another (UID %s) has its name", ds.Namespace, ds.Name, ds.UID, live.UID)
	}
	return live, nil
}

func (a api) createSet(ctx context.Context, ds *appsv1.DaemonSet) (made *appsv1.DaemonSet, err error) {
	err = a.write(ctx, kind{"create daemonsets", ds.Namespace}, func(ctx context.Context) (err error) {
		made, err = a.apps.DaemonSets(ds.Namespace).Create(ctx, ds, metav1.CreateOptions{})
		return err
	})
	return made, err
}

func (a api) updateStatus(ctx context.Context, ds *appsv1.DaemonSet) (made *appsv1.DaemonSet, err error) {
	err = a.write(ctx, kind{"update daemonsets/status", ds.Namespace}, func(ctx context.Context) (err error) {
		made, err = a.apps.DaemonSets(ds.Namespace).UpdateStatus(ctx, ds, metav1.UpdateOptions{})
		return err
	})
	return made, err
}

// deleteSet deletes exactly that DaemonSet, if it still exists.
func (a api) deleteSet(ctx context.Context, ds *appsv1.DaemonSet) error {
	return unlessMissing(ds.Name, a.write(ctx, kind{"delete daemonsets", ds.Namespace}, func(ctx context.Context) error {
		return a.apps.DaemonSets(ds.Namespace).Delete(ctx, ds.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &ds.UID},
		})
	}))
}

func (a api) createRevision(ctx context.Context, r *appsv1.ControllerRevision) (made *appsv1.ControllerRevision, err error) {
	err = a.write(ctx, kind{"create controllerrevisions", r.Namespace}, func(ctx context.Context) (err error) {
		made, err = a.apps.ControllerRevisions(r.Namespace).Create(ctx, r, metav1.CreateOptions{})
		return err
	})
	return made, err
}

func (a api) getRevision(ctx context.Context, namespace, name string) (live *appsv1.ControllerRevision, err error) {
	err = a.read(ctx, kind{"get controllerrevisions", namespace}, func(ctx context.Context) (err error) {
		live, err = a.apps.ControllerRevisions(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return live, err
}

func (a api) updateRevision(ctx context.Context, r *appsv1.ControllerRevision) (made *appsv1.ControllerRevision, err error) {
	err = a.write(ctx, kind{"update controllerrevisions", r.Namespace}, func(ctx context.Context) (err error) {
		made, err = a.apps.ControllerRevisions(r.Namespace).Update(ctx, r, metav1.UpdateOptions{})
		return err
	})
	return made, err
}

func (a api) deleteRevision(ctx context.Context, r *appsv1.ControllerRevision) error {
	return unlessMissing(r.Name, a.write(ctx, kind{"delete controllerrevisions", r.Namespace}, func(ctx context.Context) error {
		return a.apps.ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &r.UID},
		})
	}))
}

// unlessMissing returns the error of a delete, which succeeds if the object does not exist.
func unlessMissing(name string, err error) error {
	if missing(err, name) {
		return nil
	}
	return err
}
