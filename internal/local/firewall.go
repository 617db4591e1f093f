package local

// The firewall of the cluster's bridge: one nftables table for each cluster, which contains nobody else's rules.
// addInput has the rule that keeps others away from the gateway, addForward those for nodes and pods.

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	sourceOffset      = 12 // of the source address in an IPv4 header
	destinationOffset = 16
)

// firewall keeps others away from a cluster: its nftables table, of family ip.
type firewall struct {
	name, bridge string
	subnet, pods netip.Prefix
}

// ensure replaces the cluster's nftables table in one transaction:
//
//   - nodes and pods reach the outside under the machine's address;
//   - nobody but this machine, its nodes and their pods reaches the gateway (the API server), the nodes or the pods.
//     Without that, anyone on the local network could, because this machine forwards packets.
func (f firewall) ensure() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Name: f.name, Family: nftables.TableFamilyIPv4}
	conn.AddTable(table) // so that there is one to delete
	conn.DelTable(table)
	conn.AddTable(table)
	f.addMasquerade(conn, table)
	f.addInput(conn, table)
	f.addForward(conn, table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set up the nftables table %s: %w; the kernel needs nf_tables with nat, masquerade and conntrack", f.name, err)
	}
	return nil
}

// addMasquerade masquerades packets from nodes and pods to anywhere else.
func (f firewall) addMasquerade(conn *nftables.Conn, table *nftables.Table) {
	chain := conn.AddChain(&nftables.Chain{Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	for _, source := range []netip.Prefix{f.subnet, f.pods} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(
			address(sourceOffset, expr.CmpOpEq, source),
			address(destinationOffset, expr.CmpOpNeq, f.subnet),
			address(destinationOffset, expr.CmpOpNeq, f.pods),
			[]expr.Any{&expr.Masq{}})})
	}
}

// addInput drops packets for the gateway's address that come neither over the bridge nor from this machine.
func (f firewall) addInput(conn *nftables.Conn, table *nftables.Table) {
	chain := conn.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(
		link(expr.MetaKeyIIFNAME, expr.CmpOpNeq, "lo"),
		link(expr.MetaKeyIIFNAME, expr.CmpOpNeq, f.bridge),
		address(destinationOffset, expr.CmpOpEq, f.subnet),
		verdict(expr.VerdictDrop))})
}

// addForward lets everything out of the bridge, and only answers into it.
func (f firewall) addForward(conn *nftables.Conn, table *nftables.Table) {
	chain := conn.AddChain(&nftables.Chain{Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	into := link(expr.MetaKeyOIFNAME, expr.CmpOpEq, f.bridge)
	for _, exprs := range [][]expr.Any{
		slices.Concat(link(expr.MetaKeyIIFNAME, expr.CmpOpEq, f.bridge), verdict(expr.VerdictAccept)),
		slices.Concat(into, answers(), verdict(expr.VerdictAccept)),
		slices.Concat(into, verdict(expr.VerdictDrop)),
	} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
}

// remove deletes the cluster's table if it exists.
func (f firewall) remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == f.name {
			conn.DelTable(t)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete the nftables table %s: %w", f.name, err)
	}
	return nil
}

// link matches the name of the incoming or outgoing link.
func link(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded}}
}

// address compares the address at offset of the IPv4 header with a network.
func address(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// answers matches packets of existing connections, and errors about them.
func answers() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
