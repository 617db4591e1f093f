package podnet

import (
	"context"
	"fmt"
	"net/netip"

	"sigs.k8s.io/knftables"

	"everynode/internal/sysctl"
)

// Table is the nftables table of the agent, for IPv4.
const Table = "everynode_pods"

// Names of what is in it.
const (
	masqChain = "postrouting"
	masqSet   = "pods"
)

// masquerade replaces the addresses of this node's pods with the node's in packets
// that leave the cluster's pod ranges: nobody outside could answer a pod's address.
type masquerade struct {
	nft knftables.Interface
	// bridged reports whether packets between two pods of this node are seen by the tables that translate addresses,
	// although they only cross the bridge.
	bridged func() bool

	own    netip.Prefix // as last set
	ranges string
	rules  int
}

// bridgeFilter is 1 where the kernel has br_netfilter, unless somebody has changed it.
const bridgeFilter = "net/bridge/bridge-nf-call-iptables"

func seesBridged() bool {
	value, err := sysctl.Read(bridgeFilter)
	return err == nil && value == "1"
}

func newMasquerade() (*masquerade, error) {
	nft, err := knftables.New(knftables.IPv4Family, Table)
	if err != nil {
		return nil, fmt.Errorf("use nftables: %w; a node needs the nft program and a kernel with nf_tables", err)
	}
	return &masquerade{nft: nft, bridged: seesBridged}, nil
}

// set writes the rules for a node with the pod range own in a cluster with the
// pod ranges all, in one transaction.
func (m *masquerade) set(ctx context.Context, own netip.Prefix, all []netip.Prefix) error {
	rules := masqRules(own, m.bridged())
	if m.current(ctx) && m.own == own && m.ranges == fmt.Sprint(all) && m.rules == len(rules) {
		return nil
	}
	tx := m.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Add(&knftables.Set{Name: masqSet, Type: "ipv4_addr", Flags: []knftables.SetFlag{knftables.IntervalFlag}})
	tx.Flush(&knftables.Set{Name: masqSet})
	for _, prefix := range all {
		tx.Add(&knftables.Element{Set: masqSet, Key: []string{prefix.String()}})
	}
	tx.Add(&knftables.Chain{
		Name: masqChain, Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(knftables.SNATPriority),
	})
	tx.Flush(&knftables.Chain{Name: masqChain})
	for _, rule := range rules {
		tx.Add(&knftables.Rule{Chain: masqChain, Rule: rule})
	}
	if err := m.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("write the nftables rules for pods: %w", err)
	}
	m.own, m.ranges, m.rules = own, fmt.Sprint(all), len(rules)
	return nil
}

// masqRules returns the rules for a node with that pod range.
func masqRules(own netip.Prefix, bridged bool) (rules []string) {
	if !bridged {
		// If a pod reaches another pod of this node through a service or a port of the node, the answer must come back
		// through the node, which has changed the address, and not straight over the bridge. Where the answer is seen
		// there too, the other pod is shown who asks.
		rules = append(rules, knftables.Concat("ip saddr", own, "ip daddr", own, "ct status dnat masquerade"))
	}
	return append(rules, knftables.Concat("ip saddr", own, "ip daddr != 224.0.0.0/4", "ip daddr !=", "@"+masqSet, "masquerade"))
}

// current reports whether the rules are still there: somebody may have flushed
// them.
func (m *masquerade) current(ctx context.Context) bool {
	rules, err := m.nft.ListRules(ctx, masqChain)
	return err == nil && len(rules) == m.rules
}

// remove removes the table, if it exists.
func (m *masquerade) remove(ctx context.Context) error {
	tx := m.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := m.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove the nftables rules for pods: %w", err)
	}
	m.own, m.ranges, m.rules = netip.Prefix{}, "", 0
	return nil
}
