package podnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// nodeShare is the prefix length of the part of the pod range that the cluster
// gives each node. No node gets a larger part.
const nodeShare = 24

// bounds limit what this node believes about other nodes. The API server's policies
// refuse the same, as far as they can see it, but a node does not rely on them: if
// it accepts a wrong route, another node gets its traffic.
type bounds struct {
	pods     netip.Prefix // all pods of the cluster; zero: the server is too old to say
	machines []netip.Addr // addresses of the API servers and of this machine
}

// admit returns the peers, without the pod ranges that they may not have, and the
// reason for each by the name of the peer. If two nodes claim a range, it is this
// node's if this is one of them, otherwise the older one's.
func (b bounds) admit(self string, peers []peer) (admitted []peer, refused map[string]string) {
	sorted := slices.Clone(peers)
	slices.SortStableFunc(sorted, func(x, y peer) int {
		if own := x.name == self; own != (y.name == self) {
			return map[bool]int{true: -1, false: 1}[own]
		}
		return cmp.Or(x.created.Compare(y.created), strings.Compare(x.name, y.name))
	})
	refused = map[string]string{}
	for _, p := range sorted {
		if reason := b.refusal(p, admitted); reason != "" {
			refused[p.name] = reason
			p.pods = netip.Prefix{}
		}
		admitted = append(admitted, p)
	}
	slices.SortFunc(admitted, func(x, y peer) int { return strings.Compare(x.name, y.name) })
	return admitted, refused
}

// refusal returns why p may not have its pod range, given the peers before it; ""
// if it may.
func (b bounds) refusal(p peer, before []peer) string {
	switch {
	case !p.pods.IsValid():
		return ""
	case b.pods.IsValid() && (p.pods.Bits() < b.pods.Bits() || !b.pods.Contains(p.pods.Addr())):
		return fmt.Sprintf("its pod range %s is not in that of the cluster, %s", p.pods, b.pods)
	case p.pods.Bits() < nodeShare:
		return fmt.Sprintf("its pod range %s is wider than a node may have, a /%d", p.pods, nodeShare)
	}
	for _, machine := range b.machines {
		if p.pods.Contains(machine) {
			return fmt.Sprintf("its pod range %s contains the address %s of a machine", p.pods, machine)
		}
	}
	for _, other := range before {
		switch {
		case other.pods.IsValid() && p.pods.Overlaps(other.pods):
			return fmt.Sprintf("its pod range %s overlaps %s of node %s, which had it first", p.pods, other.pods, other.name)
		case other.addr.IsValid() && p.pods.Contains(other.addr):
			return fmt.Sprintf("its pod range %s contains the address %s of node %s", p.pods, other.addr, other.name)
		case p.addr.IsValid() && p.addr == other.addr && !p.addr.IsLoopback():
			return fmt.Sprintf("its address %s is that of node %s, which had it first", p.addr, other.name)
		}
	}
	return ""
}

// admit is bounds.admit, and logs once for each peer why it was refused.
func (n *Network) admit(peers []peer) []peer {
	b := n.bounds
	b.machines = n.Machines()
	admitted, refused := b.admit(n.Node, peers)
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		if n.refused[name] != refused[name] {
			n.Log.Warn("adding no route to the pods of a node, because what it reports about itself cannot be trusted", "node", name, "because", refused[name])
		}
	}
	n.refused = refused
	return admitted
}

// learnBounds asks the cluster which addresses are for pods. A server that does not
// publish them is older than this agent.
func (n *Network) learnBounds(ctx context.Context, client kubernetes.Interface) {
	if n.bounds.pods.IsValid() {
		return
	}
	info, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "everynode-network", metav1.GetOptions{})
	if err == nil {
		n.bounds.pods, err = netip.ParsePrefix(info.Data["podCIDR"])
	}
	if err != nil && !n.unbounded && !errors.Is(err, context.Canceled) {
		n.unbounded = true
		n.Log.Warn("the server does not say which addresses are for pods, so routes are not checked against that; update the server", "err", err)
	}
}
