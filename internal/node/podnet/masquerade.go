package podnet

import (
	"context"
	"fmt"
	"net/netip"

	"sigs.k8s.io/knftables"
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

	own    netip.Prefix // as last set
	ranges string
}

func newMasquerade() (*masquerade, error) {
	nft, err := knftables.New(knftables.IPv4Family, Table)
	if err != nil {
		return nil, fmt.Errorf("use nftables: %w; a node needs the nft program and a kernel with nf_tables", err)
	}
	return &masquerade{nft: nft}, nil
}

// set writes the rules for a node with the pod range own in a cluster with the
// pod ranges all, in one transaction.
func (m *masquerade) set(ctx context.Context, own netip.Prefix, all []netip.Prefix) error {
	if m.current(ctx) && m.own == own && m.ranges == fmt.Sprint(all) {
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
	// If a pod reaches another pod of this node through a service, the answer must
	// come back through the node, which knows the service, and not straight over
	// the bridge.
	tx.Add(&knftables.Rule{Chain: masqChain, Rule: knftables.Concat("ip saddr", own, "ip daddr", own, "ct status dnat masquerade")})
	tx.Add(&knftables.Rule{Chain: masqChain, Rule: knftables.Concat("ip saddr", own, "ip daddr != 224.0.0.0/4", "ip daddr !=", "@"+masqSet, "masquerade")})
	if err := m.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("write the nftables rules for pods: %w", err)
	}
	m.own, m.ranges = own, fmt.Sprint(all)
	return nil
}

// current reports whether the rules are still there: somebody may have flushed
// them.
func (m *masquerade) current(ctx context.Context) bool {
	rules, err := m.nft.ListRules(ctx, masqChain)
	return err == nil && len(rules) == 2
}

// remove removes the table, if it exists.
func (m *masquerade) remove(ctx context.Context) error {
	tx := m.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := m.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove the nftables rules for pods: %w", err)
	}
	m.own, m.ranges = netip.Prefix{}, ""
	return nil
}
