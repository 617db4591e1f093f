package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/capacity"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/capacity/topology"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/owner"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

const (
	// roomEvery is how often the driver is asked how much room there is. It is also asked after each volume.
	roomEvery = time.Minute
	// roomDelay and roomDelayMax are the first and the longest pause between attempts to write it.
	roomDelay, roomDelayMax = time.Second, 5 * time.Minute
)

// driver is the driver on this node.
type driver struct {
	conn       *grpc.ClientConn
	name, node string
	plugin     rpc.PluginCapabilitySet
	controller rpc.ControllerCapabilitySet
	info       *csi.NodeGetInfoResponse
}

// identity distinguishes the volumes of this provisioner from those of others.
func (d *driver) identity() string {
	return strconv.FormatInt(time.Now().UnixMilli(), 10) + "-" + d.name + "-" + d.node
}

// listers return only this node and its driver. So the provisioner on each node need not watch all nodes of the
// cluster.
func (d *driver) listers(client kubernetes.Interface) (corelisters.NodeLister, storagelisters.CSINodeLister) {
	segments := d.info.GetAccessibleTopology().GetSegments()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: d.node, Labels: segments}}
	known := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: d.node}}
	known.Spec.Drivers = []storagev1.CSINodeDriver{{Name: d.name, NodeID: d.info.GetNodeId()}}
	for key := range segments {
		known.Spec.Drivers[0].TopologyKeys = append(known.Spec.Drivers[0].TopologyKeys, key)
	}
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	csiNodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	_, _ = nodes.Add(node), csiNodes.Add(known) // computing the key of an object with a name cannot fail
	return corelisters.NewNodeLister(nodes), storagelisters.NewCSINodeLister(csiNodes)
}

// newCapacity publishes, in CSIStorageCapacity objects in the pod's namespace, how much room the node has for volumes.
// They are deleted with the pod. The returned informers must be started.
func newCapacity(ctx context.Context, config *rest.Config, client kubernetes.Interface, cluster informers.SharedInformerFactory, at place, d *driver) (*capacity.Controller, informers.SharedInformerFactory, error) {
	pod, err := owner.Lookup(config, at.namespace, at.pod, corev1.SchemeGroupVersion.WithKind("Pod"), 0)
	if err != nil {
		return nil, nil, fmt.Errorf("look for the own pod: %w", err)
	}
	by := string(pod.UID)
	own := informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithNamespace(at.namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{capacity.DriverNameLabel: d.name, capacity.ManagedByLabel: by}.String()
		}))
	var segment topology.Segment
	for key, value := range d.info.GetAccessibleTopology().GetSegments() {
		segment = append(segment, topology.SegmentEntry{Key: key, Value: value})
	}
	rooms := capacity.NewCentralCapacityController(
		csi.NewControllerClient(d.conn), d.name, capacity.NewV1ClientFactory(client),
		workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[capacity.QueueKey](roomDelay, roomDelayMax)),
		pod, by, at.namespace, topology.NewFixedNodeTopology(&segment),
		cluster.Storage().V1().StorageClasses(), own.Storage().V1().CSIStorageCapacities(),
		roomEvery, false, callTimeout)
	return rooms, own, nil
}
