package engine

import (
	"context"
	"fmt"
	"net"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// api is the requests that the engine makes. Each ends within requestTimeout
// and is sent once: the client's own retries would hide how the server fares
// and hold a slot of the window while they sleep.
type api struct {
	client kubernetes.Interface
	// core is for pods and nodes, of which it reads what the engine needs.
	core typedcorev1.CoreV1Interface
	// follow is the same over a connection of its own, for watches.
	follow typedcorev1.CoreV1Interface
	// metadata reads no more than metadata.
	metadata metadata.Interface
}

// newAPI makes the clients that all reads and writes go through. They share
// connections. Nothing is limited on this side: the window of the applier
// follows the server.
func newAPI(base *rest.Config) (api, error) {
	c := rest.CopyConfig(base)
	c.QPS, c.Burst = -1, 0
	// Packing the first lists would take both sides longer than sending them.
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
	about, err := metadata.NewForConfigAndClient(metadata.ConfigFor(c), transport)
	if err != nil {
		return api{}, fmt.Errorf("engine: configuring the client for %s: %w", base.Host, err)
	}
	return api{client: client, core: typedcorev1.New(core), follow: typedcorev1.New(follow), metadata: about}, nil
}

// onItsOwn makes a client share no connection with others: one with a way to
// dial is never found to be the same. Pods and nodes are watched so, because
// among a hundred requests on a connection a watch is served too late, and the
// API server ends those that it takes for slow.
func onItsOwn(c *rest.Config) *rest.Config {
	own := rest.CopyConfig(c)
	if own.Dial == nil {
		own.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	}
	return own
}

// dialTimeout is client-go's, and how often an idle connection is probed.
const dialTimeout = 30 * time.Second

// listTimeout bounds a request that may bring a thousand objects.
const (
	listTimeout = 30 * time.Second
	pageSize    = 1000
)

// listPods reads the metadata of every pod that a DaemonSet could be concerned
// with, as of now.
func (a api) listPods(ctx context.Context) (*podList, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	all := &podList{pods: map[string]podAt{}}
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := a.metadata.Resource(corev1.SchemeGroupVersion.WithResource("pods")).List(ctx, opts)
		if err != nil {
			return nil, err
		}
		if err := all.add(page); err != nil || page.Continue == "" {
			return all, err
		}
		opts.Continue = page.Continue
	}
}

func (a api) listSets(ctx context.Context) (*appsv1.DaemonSetList, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return a.client.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{})
}

func (a api) listRevisions(ctx context.Context) (*appsv1.ControllerRevisionList, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return a.client.AppsV1().ControllerRevisions("").List(ctx, metav1.ListOptions{})
}

// createPod makes a pod: a *corev1.Pod, or one as view.Mold encodes it.
func (a api) createPod(ctx context.Context, namespace string, pod any) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	made := &corev1.Pod{}
	err := a.core.RESTClient().Post().Namespace(namespace).Resource("pods").
		SetHeader("Content-Type", runtime.ContentTypeProtobuf).
		MaxRetries(0).Body(pod).Do(ctx).Into(made)
	return made, err
}

// deletePod deletes and returns the pod as the server left it: terminating, or
// as it was when it went. The typed client throws that away.
func (a api) deletePod(ctx context.Context, namespace, name string, opts metav1.DeleteOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.core.RESTClient().Delete().Namespace(namespace).Resource("pods").Name(name).
		MaxRetries(0).Body(&opts).Do(ctx).Get()
}

func (a api) getPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got := &corev1.Pod{}
	err := a.core.RESTClient().Get().Namespace(namespace).Resource("pods").Name(name).
		MaxRetries(0).Do(ctx).Into(got)
	return got, err
}

func (a api) patchPod(ctx context.Context, namespace, name string, patch []byte) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.core.Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

// liveNode is the node as it is now; nil when there is none.
func (a api) liveNode(ctx context.Context, name string) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	n, err := a.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if missing(err, name) {
		return nil, nil
	}
	return n, err
}

// liveSet reads the DaemonSet past every cache and makes sure that it is still
// the same object.
func (a api) liveSet(ctx context.Context, ds *appsv1.DaemonSet) (*appsv1.DaemonSet, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	live, err := a.client.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading DaemonSet %s/%s again: %w", ds.Namespace, ds.Name, err)
	}
	if live.UID != ds.UID {
		return nil, fmt.Errorf("DaemonSet %s/%s (UID %s) is gone; another (UID %s) has its name", ds.Namespace, ds.Name, ds.UID, live.UID)
	}
	return live, nil
}

func (a api) updateStatus(ctx context.Context, ds *appsv1.DaemonSet) (*appsv1.DaemonSet, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, ds, metav1.UpdateOptions{})
}

func (a api) createRevision(ctx context.Context, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.client.AppsV1().ControllerRevisions(r.Namespace).Create(ctx, r, metav1.CreateOptions{})
}

func (a api) getRevision(ctx context.Context, namespace, name string) (*appsv1.ControllerRevision, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.client.AppsV1().ControllerRevisions(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (a api) updateRevision(ctx context.Context, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.client.AppsV1().ControllerRevisions(r.Namespace).Update(ctx, r, metav1.UpdateOptions{})
}

func (a api) deleteRevision(ctx context.Context, r *appsv1.ControllerRevision) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := a.client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &r.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
