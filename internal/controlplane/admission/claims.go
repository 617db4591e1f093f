package admission

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// NodeAddresses is the ConfigMap in kube-system that has a key for each address
	// of a node, and that node as its value. The policy of the same name reads it. Of IP
	// addresses that nodes gave up a while ago it has keys that begin with formerMark.
	NodeAddresses = "everynode-node-addresses"
	// claimsSize bounds it, in bytes: an object of the API has room for 1 MiB.
	claimsSize = 900 << 10
	// claimsOfNode bounds the addresses of one node. The policy on their form does not let it
	// report more. If it did so before that bound existed, the others are not reserved for it.
	claimsOfNode = 16
	// claimsCheck is how often the controller checks that the ConfigMap still exists.
	claimsCheck = time.Minute
	// SimulatedLabel marks nodes that have no machine. Thousands of them share one
	// address. Those that an older everynode made have only the former label.
	SimulatedLabel       = "everynode.io/simulated"
	FormerSimulatedLabel = "everynode.dev/simulated"
)

// claimsChanged reports whether a Node may have other claims now than before.
func claimsChanged(before, now *corev1.Node) bool {
	return before.UID != now.UID || !slices.Equal(before.Status.Addresses, now.Status.Addresses)
}

// watchClaims queues work when Nodes are created or deleted, or change their addresses.
func (c *nodeController) watchClaims(nodes cache.SharedIndexInformer) error {
	changed := func(any) { c.queue.Add(item{claims: true}) }
	_, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed, DeleteFunc: changed,
		UpdateFunc: func(before, now any) {
			if claimsChanged(before.(*corev1.Node), now.(*corev1.Node)) {
				changed(now)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch the addresses of nodes: %w", err)
	}
	return nil
}

// saysSimulated reports whether a Node has a label that exempts it from the comparison, as
// the policies see it: a node may not give itself either of them.
func saysSimulated(n *corev1.Node) bool {
	_, now := n.Labels[SimulatedLabel]
	_, before := n.Labels[FormerSimulatedLabel]
	return now || before
}

// claimKey returns an address as a key of the ConfigMap, spelled as the policy does: IP
// addresses in their shortest form, names in lower case, no colons. It returns "" for an
// address that no key can be made of. The policy on the form of addresses refuses these.
func claimKey(address string) string {
	key := strings.ToLower(address)
	if ip, err := netip.ParseAddr(address); err == nil {
		key = ip.String()
	}
	key = strings.ReplaceAll(key, ":", "_")
	if len(validation.IsConfigMapKey(key)) > 0 {
		return ""
	}
	return key
}

// claimAddresses returns which node has which address, by claimKey, and at the end which had it before. A node that
// had an address before keeps it while it reports it. So a node that got past the policy, in the
// moment before the ConfigMap had the first node's address, takes nothing away. Among new
// nodes, the oldest gets it. left is the number of addresses that there was no room for.
func claimAddresses(before map[string]string, nodes []*corev1.Node, now time.Time) (claims map[string]string, left int) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	claims, size := map[string]string{}, 0
	take := func(mine func(key, node string) bool) {
		for _, node := range nodes {
			for _, a := range node.Status.Addresses[:min(claimsOfNode, len(node.Status.Addresses))] {
				key := claimKey(a.Address)
				if _, taken := claims[key]; taken || key == "" || !mine(key, node.Name) {
					continue
				}
				if size += len(key) + len(node.Name); size > claimsSize {
					left++
					continue
				}
				claims[key] = node.Name
			}
		}
	}
	take(func(key, node string) bool { return before[key] == node })
	take(func(string, string) bool { return true })
	addFormer(claims, before, size, now)
	return claims, left
}

// keepClaims writes the ConfigMap if it does not say what the Nodes say, and checks
// again after a while: if somebody deletes it, the policy lets everything pass.
func (c *nodeController) keepClaims(ctx context.Context) error {
	defer c.queue.AddAfter(item{claims: true}, claimsCheck)
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	machines := slices.DeleteFunc(slices.Clone(all), saysSimulated)
	configMaps := c.client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	list, err := configMaps.Get(ctx, NodeAddresses, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read the addresses of the nodes: %w", err)
	}
	if missing {
		list = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: NodeAddresses}}
	}
	before := list.Data
	claims, left := claimAddresses(before, machines, time.Now())
	if left > 0 {
		klog.Warningf("The ConfigMap kube-system/%s has no room for %d addresses of nodes: the API server does not compare "+
			"other nodes' addresses with these; only agents and the node controller do", NodeAddresses, left)
	}
	switch same := maps.Equal(claims, list.Data); {
	case missing:
		list.Data = claims
		_, err = configMaps.Create(ctx, list, metav1.CreateOptions{})
	case !same:
		list.Data = claims
		_, err = configMaps.Update(ctx, list, metav1.UpdateOptions{}) // a conflict is tried again
	}
	if err != nil {
		return fmt.Errorf("write the addresses of the nodes: %w", err)
	}
	c.tellFormer(before, claims)
	c.claims, c.former, c.full = claims, formerOf(claims), left > 0
	return nil
}
