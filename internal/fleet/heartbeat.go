package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/util/workqueue"
)

// leaseEvery is the maximum age of a lease when it is renewed. The node lifecycle controller considers a node
// lost after 50 s of silence, so one renewal may fail. A kubelet renews twice as often.
const leaseEvery = 20 * time.Second

// heartbeat keeps simulated nodes Ready: it writes their status when that is needed, and renews their leases.
type heartbeat struct {
	client kubernetes.Interface
	nodes  corelisters.NodeLister
	queue  workqueue.TypedRateLimitingInterface[string] // names of Nodes
	port   int32                                        // of the kubelet
	log    *slog.Logger

	mu     sync.Mutex
	leases map[string]lease // by Node
}

// lease is a node's lease as it was last written.
type lease struct {
	node    types.UID
	known   bool // it exists
	version string
	due     time.Time
}

// work handles the nodes in the queue until it is shut down.
func (h *heartbeat) work(ctx context.Context) {
	serve(h.queue, func(name string) error {
		if err := h.beat(ctx, name); err != nil && ctx.Err() == nil {
			h.log.Warn("heartbeat failed; trying again", "node", name, "err", err)
			return err
		}
		return nil
	})
}

// beat writes what is due for one node.
func (h *heartbeat) beat(ctx context.Context, name string) error {
	node, err := h.nodes.Get(name)
	if err != nil || Off(node) {
		h.forget(name)
		return nil // the Node is gone, and its lease is garbage collected
	}
	if now := time.Now(); wantsStatus(node, h.port, now) {
		patch, err := statusPatch(node, h.port, now)
		if err != nil {
			return fmt.Errorf("encode the status of node %s: %w", name, err)
		}
		_, err = h.client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // the watch will show the new Node of that name
		}
		if err != nil {
			return fmt.Errorf("write the status of node %s: %w", name, err)
		}
	}
	wait, err := h.renew(ctx, node)
	if err != nil {
		return fmt.Errorf("renew the lease of node %s: %w", name, err)
	}
	h.queue.AddAfter(name, wait)
	return nil
}

// renew writes the node's lease if it is due, and returns the time until it is due next.
func (h *heartbeat) renew(ctx context.Context, node *corev1.Node) (time.Duration, error) {
	h.mu.Lock()
	old := h.leases[node.Name]
	h.mu.Unlock()
	now := time.Now()
	if old.node != node.UID {
		old = lease{node: node.UID}
	}
	if now.Before(old.due) {
		return old.due.Sub(now), nil
	}
	written, err := h.write(ctx, node, old, now)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		var live *coordinationv1.Lease
		live, err = h.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node.Name, metav1.GetOptions{})
		switch {
		case err == nil:
			old.known, old.version = true, live.ResourceVersion
		case apierrors.IsNotFound(err):
			old.known = false
		default:
			return 0, err
		}
		written, err = h.write(ctx, node, old, now)
	}
	if err != nil {
		return 0, err
	}
	// This is random, so that nodes that joined together do not renew together.
	wait := leaseEvery*3/4 + rand.N(leaseEvery/4)
	h.mu.Lock()
	h.leases[node.Name] = lease{node: node.UID, known: true, version: written.ResourceVersion, due: now.Add(wait)}
	h.mu.Unlock()
	return wait, nil
}

// write creates the lease, or updates the one that is known.
func (h *heartbeat) write(ctx context.Context, node *corev1.Node, old lease, now time.Time) (*coordinationv1.Lease, error) {
	seconds, renewed := int32(2*leaseEvery/time.Second), metav1.NewMicroTime(now)
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, ResourceVersion: old.version, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}
	leases := h.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if !old.known {
		l.ResourceVersion = ""
		return leases.Create(ctx, l, metav1.CreateOptions{})
	}
	return leases.Update(ctx, l, metav1.UpdateOptions{})
}

func (h *heartbeat) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.leases, name)
}
