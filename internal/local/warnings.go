package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Warnings returns sentences for the user about what on this machine may hinder the nodes, although nothing fails
// yet: other firewalls (a packet has to pass every table, so everynode's own cannot help), a DNS server that nodes
// cannot reach, and limits that are too low.
func (h *Host) Warnings(ctx context.Context) ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	var warnings []string
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("list nftables chains: %w", err)
		}
		for _, chain := range chains {
			if w := dropWarning(h.cluster.Bridge(), chain); w != "" {
				warnings = append(warnings, w)
			}
		}
	}
	if w := legacyWarning(ctx, h.cluster.Bridge()); w != "" {
		warnings = append(warnings, w)
	}
	if w, err := resolverWarning(); err != nil {
		return nil, err
	} else if w != "" {
		warnings = append(warnings, w)
	}
	limits, err := limitWarnings(sharedLimits(), len(h.cluster.Nodes))
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, limits...)
	slices.Sort(warnings)
	return warnings, nil
}

// legacyWarning looks at the tables of iptables-legacy, which nftables does not show. If they are in use, its program
// is installed, too. If it cannot be run, legacyWarning returns "".
func legacyWarning(ctx context.Context, bridge string) string {
	used, err := os.ReadFile("/proc/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(used)), "filter") {
		return ""
	}
	rules, err := exec.CommandContext(ctx, "iptables-legacy", "-S", "FORWARD").Output()
	if err != nil || !strings.Contains(string(rules), "-P FORWARD DROP") {
		return ""
	}
	return fmt.Sprintf("The firewall of this machine (iptables-legacy, chain FORWARD) drops unknown packets: nodes and pods may not be able to "+
		"reach the outside or each other. Allow it with: iptables-legacy -I FORWARD -i %s -j ACCEPT; iptables-legacy -I FORWARD -o %s -j ACCEPT",
		bridge, bridge)
}

// dropWarning returns a warning about a chain, or "".
func dropWarning(bridge string, chain *nftables.Chain) string {
	if chain.Policy == nil || *chain.Policy != nftables.ChainPolicyDrop || chain.Hooknum == nil ||
		strings.HasPrefix(chain.Table.Name, "everynode_") {
		return ""
	}
	where := fmt.Sprintf("The firewall of this machine (nftables table %s, chain %s) drops unknown packets", chain.Table.Name, chain.Name)
	switch *chain.Hooknum {
	case *nftables.ChainHookForward:
		return fmt.Sprintf("%s: nodes and pods may not be able to reach the outside or each other. Allow it with: "+
			"iptables -I FORWARD -i %s -j ACCEPT; iptables -I FORWARD -o %s -j ACCEPT", where, bridge, bridge)
	case *nftables.ChainHookInput:
		return fmt.Sprintf("%s: nodes may not be able to reach the API server. Allow it with: "+
			"iptables -I INPUT -i %s -j ACCEPT", where, bridge)
	}
	return ""
}
