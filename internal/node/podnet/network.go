// Package podnet keeps the pod network of a node: the CNI configuration for the
// node's pod range, routes to the other nodes' pod ranges, and masquerading for
// traffic that leaves them. It believes what other nodes claim only as far as the
// cluster allows it.
package podnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"everynode/internal/node/upstream"
	"everynode/internal/sysctl"
)

// repairEvery is how often routes, rules and forwarding are repaired even though no Node
// has changed: somebody else may have removed them.
const repairEvery = 30 * time.Second

// peer is what the pod network has to know about a node.
type peer struct {
	name    string
	created time.Time    // by the API server's clock
	pods    netip.Prefix // zero until the controllers have allocated one
	addr    netip.Addr   // InternalIP; zero until the kubelet has reported one
}

// Options configure a [Network].
type Options struct {
	Node       string
	ConfigDir  string              // of the CNI plugins
	IPAMDir    string              // where host-local keeps the addresses it gave out
	Foreign    bool                // the agent did not start the runtime: an existing pod network stays
	None       bool                // the operator installs the pod network
	Machines   func() []netip.Addr // addresses of the API servers and of this machine, none of which belongs to a pod
	Registered func()              // called once, when our own Node exists and has its address
	Log        *slog.Logger
}

// Network keeps the pod network of one node in line with the cluster's Nodes.
type Network struct {
	Options
	rules *masquerade

	bounds    bounds
	refused   map[string]string // by node: why its pod range was not taken
	unbounded bool              // it was logged that the server does not publish the bounds
}

// New makes a Network. It enables packet forwarding on this machine, and returns an
// error if that or nftables does not work.
func New(o Options) (*Network, error) {
	if err := forward(); err != nil {
		return nil, err
	}
	rules, err := newMasquerade()
	if err != nil {
		return nil, err
	}
	return &Network{Options: o, rules: rules}, nil
}

// forward enables packet forwarding on this machine.
func forward() error {
	if err := sysctl.Write(sysctl.IPForward, "1"); err != nil {
		return fmt.Errorf("enable packet forwarding, which pods need: %w", err)
	}
	return nil
}

// Run watches the Nodes with the node's own credentials until ctx ends.
func (n *Network) Run(ctx context.Context, kubeconfig string) error {
	client, err := upstream.Client(kubeconfig)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripNode), informers.WithTweakListOptions(n.watched))
	nodes := factory.Core().V1().Nodes()
	changed, err := upstream.OnChange(nodes.Informer())
	if err != nil {
		return fmt.Errorf("watch the nodes: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	factory.Start(ctx.Done())
	defer func() {
		cancel() // or the informers would not end
		factory.Shutdown()
	}()
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return ctx.Err()
	}
	repair := time.NewTicker(repairEvery)
	defer repair.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-repair.C:
		}
		list, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("list the nodes: %w", err)
		}
		n.repair(ctx, client, peersOf(list))
	}
}

// repair sets up what the nodes need on this machine, and sets it up again if somebody has changed it.
func (n *Network) repair(ctx context.Context, client kubernetes.Interface, peers []peer) {
	if err := forward(); err != nil {
		n.Log.Error("pods cannot reach other machines", "err", err)
	}
	if n.None {
		n.tellRegistered(peers)
		return
	}
	n.learnBounds(ctx, client)
	n.sync(ctx, n.admit(peers))
}

// watched limits the watch to what the network needs: with None, to its own Node.
func (n *Network) watched(o *metav1.ListOptions) {
	if n.None {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, n.Node).String()
	}
}

// tellRegistered calls Registered once, when our own Node exists and has its
// address. It returns our own peer; nil while the Node does not exist.
func (n *Network) tellRegistered(peers []peer) (own *peer) {
	i := slices.IndexFunc(peers, func(p peer) bool { return p.name == n.Node })
	if i < 0 {
		return nil
	}
	if peers[i].addr.IsValid() && n.Registered != nil {
		n.Registered()
		n.Registered = nil
	}
	return &peers[i]
}

// stripNode keeps only what the pod network needs, because a thousand whole Nodes
// are large.
func stripNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, CreationTimestamp: node.CreationTimestamp},
		Spec:       corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR, PodCIDRs: node.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: node.Status.Addresses},
	}, nil
}

// peersOf reads the pod ranges and addresses of nodes, sorted by name. IPv4 only.
func peersOf(nodes []*corev1.Node) []peer {
	var peers []peer
	for _, node := range nodes {
		p := peer{name: node.Name, created: node.CreationTimestamp.Time}
		for _, cidr := range append(node.Spec.PodCIDRs, node.Spec.PodCIDR) {
			if prefix, err := netip.ParsePrefix(cidr); err == nil && prefix.Addr().Is4() && !p.pods.IsValid() {
				p.pods = prefix.Masked()
			}
		}
		for _, a := range node.Status.Addresses {
			if a.Type != corev1.NodeInternalIP || p.addr.IsValid() {
				continue
			}
			if addr, err := netip.ParseAddr(a.Address); err == nil && addr.Is4() {
				p.addr = addr
			}
		}
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b peer) int { return strings.Compare(a.name, b.name) })
	return peers
}

// sync repairs the CNI configuration, the rules and the routes. It logs what fails,
// and the next change or repair tries it again.
func (n *Network) sync(ctx context.Context, peers []peer) {
	var errs []error
	if own := n.tellRegistered(peers); own != nil && own.pods.IsValid() {
		errs = append(errs, n.rules.set(ctx, own.pods, podRanges(peers)), n.writeConfig(own.pods))
	}
	errs = append(errs, syncRoutes(n.Log, wantedRoutes(n.Node, peers)))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		n.Log.Error("the pod network is not complete", "err", err)
	}
}

// podRanges are the pod ranges of all nodes, sorted.
func podRanges(peers []peer) []netip.Prefix {
	var ranges []netip.Prefix
	for _, p := range peers {
		if p.pods.IsValid() {
			ranges = append(ranges, p.pods)
		}
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges)
}

// CleanUp removes the agent's rules and routes. It is for nodes without pods in this
// network.
func (n *Network) CleanUp(ctx context.Context) error {
	return errors.Join(n.rules.remove(ctx), syncRoutes(n.Log, nil))
}
