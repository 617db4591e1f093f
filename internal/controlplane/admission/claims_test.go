package admission

import (
	"fmt"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claimant returns a Node that was created age ago and reports addresses.
func claimant(name string, age time.Duration, addresses ...string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))}}
	for _, a := range addresses {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return node
}

func TestClaim(t *testing.T) {
	old, young := claimant("old", time.Hour, "192.0.2.1", "OLD"), claimant("young", time.Minute, "192.0.2.1", "2001:DB8:0::1")
	for name, c := range map[string]struct {
		before map[string]string
		nodes  []*corev1.Node
		want   map[string]string
	}{
		"the older gets it": {nil, []*corev1.Node{young, old},
			map[string]string{"192.0.2.1": "old", "old": "old", "2001_db8__1": "young"}},
		"who had it keeps it, also against an older": {map[string]string{"192.0.2.1": "young"}, []*corev1.Node{old, young},
			map[string]string{"192.0.2.1": "young", "old": "old", "2001_db8__1": "young"}},
		"who is gone has nothing, but had it": {map[string]string{"192.0.2.1": "young", "2001_db8__1": "young", "young": "young"}, []*corev1.Node{old},
			map[string]string{"192.0.2.1": "old", "old": "old", "-192.0.2.1": "young 1000604800", "-2001_db8__1": "young 1000604800"}},
		"who reports it no more loses it, but had it": {map[string]string{"192.0.2.9": "old", "192.0.2.1": "old", "old": "old"}, []*corev1.Node{old},
			map[string]string{"192.0.2.1": "old", "old": "old", "-192.0.2.9": "old 1000604800"}},
		"who had it is remembered for a week": {map[string]string{"-192.0.2.7": "gone 1000000001", "-192.0.2.8": "gone 1000000000", "-192.0.2.9": "what"},
			[]*corev1.Node{old}, map[string]string{"192.0.2.1": "old", "old": "old", "-192.0.2.7": "gone 1000000001"}},
		"who has it again": {map[string]string{"-192.0.2.1": "old 1000000001"}, []*corev1.Node{old}, map[string]string{"192.0.2.1": "old", "old": "old"}},
		"who has it after another": {map[string]string{"-192.0.2.1": "gone 1000000001"}, []*corev1.Node{old},
			map[string]string{"192.0.2.1": "old", "old": "old", "-192.0.2.1": "gone 1000000001"}},
		"what is not a key is left out": {nil, []*corev1.Node{claimant("odd", 0, "*.svc", "", "..", "fe80::1%eth0")},
			map[string]string{}},
	} {
		if got, left := claimAddresses(c.before, c.nodes, time.Unix(1e9, 0)); !maps.Equal(got, c.want) || left != 0 {
			t.Errorf("%s: %v, %d left; want %v", name, got, left, c.want)
		}
	}
}

// 5,000 nodes with an address and a name of usual length fit. If there are more, the
// existing entries stay, whichever nodes join.
func TestClaimFits(t *testing.T) {
	fleet := func(n int, name string) (nodes []*corev1.Node) {
		for i := range n {
			nodes = append(nodes, claimant(fmt.Sprintf("%s-%05d.rack.example.com", name, i), time.Hour, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprintf("%s-%05d.rack.example.com", name, i)))
		}
		return nodes
	}
	claims, left := claimAddresses(nil, fleet(5000, "node"), time.Unix(1e9, 0))
	if len(claims) != 10000 || left != 0 {
		t.Errorf("of 5,000 nodes %d addresses are in, %d are not", len(claims), left)
	}
	size, more := 0, append(fleet(30000, "another"), fleet(5000, "node")...)
	after, left := claimAddresses(claims, more, time.Unix(1e9, 0))
	for key, node := range after {
		size += len(key) + len(node)
	}
	if left == 0 || size > claimsSize {
		t.Errorf("%d bytes, %d left out", size, left)
	}
	for key, node := range claims {
		if after[key] != node {
			t.Fatalf("%s was %s's and is %q's", key, node, after[key])
		}
	}
}

// A node that reports many addresses cannot claim more than a machine has.
func TestClaimOfOneNode(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	if claims, left := claimAddresses(nil, []*corev1.Node{claimant("greedy", 0, many...)}, time.Unix(1e9, 0)); len(claims) != 16 || left != 0 {
		t.Errorf("it has %d addresses, %d had no room", len(claims), left)
	}
}

// A node with the label of simulated nodes, by either name and with any value, is not compared with others: the
// policies look only at the label's name.
func TestSaysSimulated(t *testing.T) {
	for label, want := range map[string]bool{"everynode.io/simulated": true, "everynode.dev/simulated": true, "example.com/simulated": false} {
		if got := saysSimulated(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{label: ""}}}); got != want {
			t.Errorf("a node with the label %s: %v, want %v", label, got, want)
		}
	}
}
