package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"
	certlisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	roleLabelPrefix = "node-role.kubernetes.io/"
	// AgentRoleLabel is the role of nodes that have no other.
	AgentRoleLabel = roleLabelPrefix + "agent"
	// roleGiven marks a node that had its role once, so that a person can take
	// the role away for good.
	roleGiven = "everynode.io/role-given"

	fieldManager = "everynode"
)

// item is one piece of work: exactly one of the four is set.
type item struct {
	node, csr string
	claims    bool   // the addresses of all nodes
	given     string // one of the ConfigMaps of given names
}

// nodeController admits nodes: it decides about requests for their certificates
// with judgeJoining and judgeServing, gives new nodes a role, which a kubelet may
// not give itself, and records which node has which address and name. It acts as
// the user system:everynode-node-controller.
type nodeController struct {
	client   kubernetes.Interface
	services netip.Prefix // the range of service addresses
	csrs     certlisters.CertificateSigningRequestLister
	byNode   cache.Indexer // the same requests, by the node that they are for
	nodes    corelisters.NodeLister
	policies admissionlisters.ValidatingAdmissionPolicyLister
	waiting  *waiting

	claims map[string]string   // the ConfigMap of addresses, as it was last written
	former map[string][]string // of these, by node: the addresses that it had
	full   bool                // it has no room for more
	queue  workqueue.TypedRateLimitingInterface[item]
	events record.EventRecorder
	told   map[string]bool // by name and key: it was logged that no such node has registered
}

// Run runs until ctx ends and all its goroutines have.
func Run(ctx context.Context, cfg *rest.Config, services netip.Prefix) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})

	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(dropManagedFields))
	requests := factory.Certificates().V1().CertificateSigningRequests()
	if err := requests.Informer().AddIndexers(cache.Indexers{nodeIndex: indexByNode}); err != nil {
		return fmt.Errorf("index the certificate requests: %w", err)
	}
	c := &nodeController{
		client:   client,
		services: services,
		csrs:     requests.Lister(),
		byNode:   requests.Informer().GetIndexer(),
		nodes:    factory.Core().V1().Nodes().Lister(),
		policies: factory.Admissionregistration().V1().ValidatingAdmissionPolicies().Lister(),
		waiting:  newWaiting(),
		queue:    workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[item](100*time.Millisecond, time.Minute)),
		events:   broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "everynode-node-controller"}),
		told:     map[string]bool{},
	}
	if err := c.watch(factory); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	stop := context.AfterFunc(ctx, c.queue.ShutDown)
	defer stop()
	if err := factory.WaitForCacheSyncWithContext(ctx).Err; err != nil {
		return fmt.Errorf("fill the caches: %w", err)
	}
	c.queue.Add(item{claims: true})
	for i := range givenParts {
		c.queue.Add(item{given: givenPartName(i)})
	}
	for c.next(ctx) {
	}
	return nil
}

// dropManagedFields saves memory: nobody here reads managed fields.
func dropManagedFields(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}

// nodeIndex finds requests by the node that they are for.
const nodeIndex = "node"

func indexByNode(obj any) ([]string, error) {
	if name := subjectNode(obj.(*certv1.CertificateSigningRequest)); name != "" {
		return []string{name}, nil
	}
	return nil, nil
}

// subjectNode returns the node that a request is for; "" if the request is not ours.
func subjectNode(csr *certv1.CertificateSigningRequest) string {
	if csr.Spec.SignerName == certv1.KubeletServingSignerName {
		return requester(csr)
	}
	return joiningNode(csr)
}

// requestsFor returns the requests for certificates of a node.
func (c *nodeController) requestsFor(node string) (list []*certv1.CertificateSigningRequest) {
	found, err := c.byNode.ByIndex(nodeIndex, node)
	if err != nil {
		klog.ErrorS(err, "Cannot list certificate requests", "node", node)
	}
	for _, obj := range found {
		list = append(list, obj.(*certv1.CertificateSigningRequest))
	}
	return list
}

// watch turns events into work. When a Node is created or deleted, or changes its addresses, its
// waiting requests are looked at again.
func (c *nodeController) watch(factory informers.SharedInformerFactory) error {
	onNode := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		node := obj.(*corev1.Node)
		for _, csr := range c.requestsFor(node.Name) {
			if undecided(csr) {
				c.queue.Add(item{csr: csr.Name})
			}
		}
	}
	onRole := func(obj any) {
		if node := obj.(*corev1.Node); needsRole(node) {
			c.queue.Add(item{node: node.Name})
		}
	}
	nodes := factory.Core().V1().Nodes().Informer()
	if _, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			onRole(obj)
			onNode(obj)
			c.queue.Add(item{given: GivenPart(obj.(*corev1.Node).Name)})
		},
		UpdateFunc: func(before, now any) {
			onRole(now)
			if claimsChanged(before.(*corev1.Node), now.(*corev1.Node)) {
				onNode(now)
			}
		},
		DeleteFunc: onNode,
	}); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	if err := c.watchRequests(factory.Certificates().V1().CertificateSigningRequests().Informer()); err != nil {
		return err
	}
	return c.watchClaims(nodes)
}

// watchRequests queues requests that are new, and those that no longer wait. They do not change otherwise, except
// by what is written here.
func (c *nodeController) watchRequests(requests cache.SharedIndexInformer) error {
	look := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		c.queue.Add(item{csr: obj.(*certv1.CertificateSigningRequest).Name})
	}
	_, err := requests.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if undecided(obj.(*certv1.CertificateSigningRequest)) {
				look(obj)
			}
		},
		UpdateFunc: func(before, now any) {
			if csr := now.(*certv1.CertificateSigningRequest); csr.UID != before.(*certv1.CertificateSigningRequest).UID || !undecided(csr) {
				look(now)
			}
		},
		DeleteFunc: look,
	})
	if err != nil {
		return fmt.Errorf("watch certificate requests: %w", err)
	}
	return nil
}

// next does one piece of work, and queues it again if it fails. It returns false
// once the queue is shut down.
func (c *nodeController) next(ctx context.Context) bool {
	work, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(work)
	var err error
	switch {
	case work.claims:
		err = c.keepClaims(ctx)
	case work.given != "":
		err = c.keepGiven(ctx, work.given)
	case work.node != "":
		err = c.giveRole(ctx, work.node)
	default:
		err = c.decide(ctx, work.csr)
	}
	if err == nil || ctx.Err() != nil {
		c.queue.Forget(work)
		return true
	}
	klog.ErrorS(err, "Cannot admit nodes yet; trying again", "node", work.node, "csr", work.csr)
	c.queue.AddRateLimited(work)
	return true
}

// needsRole reports whether node never had a role that kubectl could show.
func needsRole(node *corev1.Node) bool {
	if _, ok := node.Annotations[roleGiven]; ok {
		return false
	}
	for label := range node.Labels {
		if strings.HasPrefix(label, roleLabelPrefix) {
			return false
		}
	}
	return true
}

// giveRole labels a node as an agent.
func (c *nodeController) giveRole(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) || (err == nil && !needsRole(node)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read node %s: %w", name, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         node.UID, // never a newer node of this name
		"labels":      map[string]string{AgentRoleLabel: ""},
		"annotations": map[string]string{roleGiven: "agent"},
	}})
	if err != nil {
		return fmt.Errorf("encode the role of node %s: %w", name, err)
	}
	_, err = c.client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give node %s its role: %w", name, err)
	}
	return nil
}
