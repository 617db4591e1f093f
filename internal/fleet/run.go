package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// byNode is the index of pods by the name of their node.
const byNode = "node"

// Config says what Run needs.
type Config struct {
	// Client has the rights of the ClusterRole system:everynode-simulator.
	Client *rest.Config
	// Rules apply to all pods whose annotations do not say otherwise.
	Rules Rules
	// CertFile and KeyFile are the certificate and key that the kubelet serves with. The certificate is for
	// 127.0.0.1, and the API server trusts it. The files are read again when they change.
	CertFile, KeyFile string
	Log               *slog.Logger
}

// Run plays the kubelets of every simulated Node of a cluster until ctx ends, and returns nil then. It serves
// their API on 127.0.0.1.
func Run(ctx context.Context, c Config) error {
	if err := c.Rules.Validate(); err != nil {
		return err
	}
	config := rest.CopyConfig(c.Client)
	config.QPS = -1 // the API server limits the rate of its clients
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	s, err := listen(c.CertFile, c.KeyFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- s.serve(ctx)
		cancel()
	}()
	err = simulate(ctx, client, c.Rules, s.port(), c.Log)
	cancel()
	return errors.Join(err, <-served)
}

// fleet is the simulation: what it watches, and its work queues.
type fleet struct {
	heartbeat *heartbeat
	kubelet   *kubelet
}

// simulate runs heartbeats and pods until ctx ends.
func simulate(ctx context.Context, client kubernetes.Interface, rules Rules, port int32, log *slog.Logger) error {
	nodeFactory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	podFactory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "spec.nodeName!=" }))
	nodes, pods := nodeFactory.Core().V1().Nodes(), podFactory.Core().V1().Pods()
	if err := pods.Informer().AddIndexers(cache.Indexers{byNode: nodeOf}); err != nil {
		return fmt.Errorf("index the pods: %w", err)
	}
	simulated := simulatedNodes{nodes.Lister()}
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	names := &formerNames{events: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "everynode-simulator"}), log: log}
	f := &fleet{
		heartbeat: &heartbeat{client: client, nodes: simulated, queue: newQueue(), port: port, log: log, leases: map[string]lease{}},
		kubelet: &kubelet{client: client, rules: rules, names: names, nodes: simulated, pods: pods.Informer().GetIndexer(), queue: newQueue(),
			log: log, plans: map[types.UID]appointment{}},
	}
	if err := f.watch(nodes, pods); err != nil {
		return err
	}
	for _, factory := range []informers.SharedInformerFactory{nodeFactory, podFactory} {
		factory.StartWithContext(ctx)
		defer factory.Shutdown()
	}
	// Nothing happens before both caches have synced: a pod whose Node is unknown is not ours.
	for _, factory := range []informers.SharedInformerFactory{nodeFactory, podFactory} {
		if err := factory.WaitForCacheSyncWithContext(ctx).Err; err != nil && ctx.Err() == nil {
			return fmt.Errorf("read the nodes and their pods: %w", err)
		}
	}
	var work sync.WaitGroup
	work.Go(func() { f.heartbeat.work(ctx) })
	work.Go(func() { f.kubelet.work(ctx) })
	<-ctx.Done()
	f.heartbeat.queue.ShutDown()
	f.kubelet.queue.ShutDown()
	work.Wait()
	return nil
}

// watch turns events into work.
func (f *fleet) watch(nodes coreinformers.NodeInformer, pods coreinformers.PodInformer) error {
	_, err := nodes.Informer().AddEventHandler(OnlySimulated(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { f.nodeChanged(nil, obj.(*corev1.Node)) },
		UpdateFunc: func(old, obj any) {
			f.nodeChanged(old.(*corev1.Node), obj.(*corev1.Node))
		},
		DeleteFunc: func(obj any) {
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
				f.heartbeat.queue.Add(key)
			}
		},
	}))
	if err != nil {
		return fmt.Errorf("watch the nodes: %w", err)
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.podChanged(obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { f.podChanged(obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				f.kubelet.forget(pod)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch the pods: %w", err)
	}
	return nil
}

// nodeChanged queues a Node that is new, or has changed in a way that matters here. It also queues the Node's
// pods if their rules may have changed.
func (f *fleet) nodeChanged(old, node *corev1.Node) {
	changed := old == nil || old.UID != node.UID || !maps.Equal(old.Annotations, node.Annotations)
	if changed || wantsStatus(node, f.heartbeat.port, time.Now()) {
		f.heartbeat.queue.Add(node.Name)
	}
	if !changed {
		return
	}
	f.kubelet.names.label(node)
	objects, err := f.kubelet.pods.ByIndex(byNode, node.Name)
	if err != nil {
		f.kubelet.log.Error("cannot find the pods of a node", "node", node.Name, "err", err)
	}
	for _, obj := range objects {
		f.podChanged(obj.(*corev1.Pod))
	}
}

func (f *fleet) podChanged(pod *corev1.Pod) { f.kubelet.queue.Add(pod.Namespace + "/" + pod.Name) }

func nodeOf(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%T is not a pod", obj)
	}
	return []string{pod.Spec.NodeName}, nil
}

// trim keeps only the fields of an object that are read here.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Node:
		n := &corev1.Node{ObjectMeta: trimMeta(o.ObjectMeta)}
		if Simulated(o) { // nothing is read of other nodes
			n.Labels = map[string]string{LabelSimulated: "true"}
			if onlyFormer(o.Labels, LabelSimulated) {
				n.Labels = map[string]string{former(LabelSimulated): "true"}
			}
			n.Status = corev1.NodeStatus{Conditions: o.Status.Conditions, DaemonEndpoints: o.Status.DaemonEndpoints}
		}
		return n, nil
	case *corev1.Pod:
		p := &corev1.Pod{ObjectMeta: trimMeta(o.ObjectMeta), Status: corev1.PodStatus{
			Phase: o.Status.Phase, StartTime: o.Status.StartTime, Conditions: o.Status.Conditions,
			InitContainerStatuses: o.Status.InitContainerStatuses, ContainerStatuses: o.Status.ContainerStatuses}}
		p.Spec = corev1.PodSpec{NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork, RestartPolicy: o.Spec.RestartPolicy,
			InitContainers: trimContainers(o.Spec.InitContainers), Containers: trimContainers(o.Spec.Containers)}
		return p, nil
	}
	return obj, nil
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
		Annotations: m.Annotations, OwnerReferences: m.OwnerReferences}
}

func trimContainers(all []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for _, c := range all {
		kept = append(kept, corev1.Container{Name: c.Name, Image: c.Image, RestartPolicy: c.RestartPolicy})
	}
	return kept
}

func newQueue() workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 10*time.Second))
}

// serve calls act for the items in the queue, several at once, until the queue is shut down. Items that fail
// are retried later.
func serve(queue workqueue.TypedRateLimitingInterface[string], act func(key string) error) {
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				key, shutdown := queue.Get()
				if shutdown {
					return
				}
				if act(key) != nil {
					queue.AddRateLimited(key)
				} else {
					queue.Forget(key)
				}
				queue.Done(key)
			}
		})
	}
	all.Wait()
}
