package admission

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// A serving certificate stays valid when its node has given up the address. In the network of a later node with that
// address, whoever has it could pose as that node's kubelet. So certificates are short, a node gets them for few
// addresses, and the later node is told.
const (
	// ServingFor is how long a serving certificate is valid. The policy everynode-serving-certificates asks for that
	// in each request for one.
	ServingFor = 7 * 24 * time.Hour
	// formerMark begins a key of the ConfigMap of addresses for an address that its node no longer reports. The value
	// is that node, and until when it may have a certificate for the address. No other key begins like that.
	formerMark = "-"
	// formerOfNode is how many such addresses a node may have and get certificates for more.
	formerOfNode = 4
)

// former is an address that a node had.
type former struct {
	node  string
	until time.Time
}

func (f former) String() string { return f.node + " " + strconv.FormatInt(f.until.Unix(), 10) }

// parseFormer reads the value of a key with formerMark.
func parseFormer(text string) (former, bool) {
	node, until, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseInt(until, 10, 64)
	return former{node, time.Unix(seconds, 0)}, err == nil
}

// addressOf returns the IP address that a claimKey was made of; false if it was made of a name.
func addressOf(key string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(key, "_", ":"))
	return addr, err == nil
}

// addFormer adds to the claims, whose size it is told, which nodes had IP addresses for which they may still have a
// certificate: those whose claim is new or was dropped just now, and those that it knew before.
func addFormer(claims, before map[string]string, size int, now time.Time) {
	all := map[string]former{}
	for key, text := range before {
		if key, marked := strings.CutPrefix(key, formerMark); marked {
			if f, ok := parseFormer(text); ok && now.Before(f.until) && claims[key] != f.node {
				all[key] = f
			}
		}
	}
	for key, node := range before {
		if _, ok := addressOf(key); ok && claims[key] != node {
			all[key] = former{node, now.Add(ServingFor)}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		f := all[key]
		if size += len(formerMark) + len(key) + len(f.String()); size > claimsSize {
			return
		}
		claims[formerMark+key] = f.String()
	}
}

// formerOf returns the addresses that each node had, of all claims.
func formerOf(claims map[string]string) map[string][]string {
	had := map[string][]string{}
	for key, text := range claims {
		key, marked := strings.CutPrefix(key, formerMark)
		if f, ok := parseFormer(text); ok && marked {
			had[f.node] = append(had[f.node], strings.ReplaceAll(key, "_", ":"))
		}
	}
	for _, addresses := range had {
		slices.Sort(addresses)
	}
	return had
}

// notRecorded returns why a node gets no certificate for its addresses yet; "" if it may have it. It is recorded first
// that the node has them. Otherwise nobody would know of it after the node has given them up.
func (c *nodeController) notRecorded(ctx context.Context, csr *certv1.CertificateSigningRequest) (string, error) {
	name := requester(csr)
	request, err := parseRequest(csr)
	if err != nil {
		return "", err
	}
	missing := func(ip net.IP) bool { return c.claims[claimKey(ip.String())] != name && !c.full }
	if slices.ContainsFunc(request.IPAddresses, missing) {
		if err := c.keepClaims(ctx); err != nil {
			return "", err
		}
	}
	if i := slices.IndexFunc(request.IPAddresses, missing); i >= 0 {
		return fmt.Sprintf("the IP address %s is no longer an address of node %s", request.IPAddresses[i], name), nil
	}
	had := c.former[name]
	if len(had) <= formerOfNode {
		return "", nil
	}
	return fmt.Sprintf("node %s may have certificates for addresses that it no longer has (%s), and gets none for more until %d days after it gave them up; "+
		"if it is right that its addresses change: everynode kubectl -n kube-system edit configmap %s, and delete the lines that name the node and begin with %q",
		name, strings.Join(had, ", "), ServingFor/(24*time.Hour), NodeAddresses, formerMark), nil
}

// tellFormer tells nodes that have got an address of another node for which that may still have a certificate.
func (c *nodeController) tellFormer(before, claims map[string]string) {
	for key, name := range claims {
		if before[key] == name {
			continue
		}
		f, ok := parseFormer(claims[formerMark+key])
		if !ok {
			continue
		}
		address := strings.ReplaceAll(key, "_", ":")
		klog.InfoS("A node has an address that another node had, which may still have a certificate for it",
			"node", name, "address", address, "formerNode", f.node, "until", f.until)
		if node, err := c.nodes.Get(name); err == nil {
			c.events.Event(node, corev1.EventTypeNormal, "AddressOfAnother", fmt.Sprintf("Node %s had the address %s before, and may have a certificate for it until %s. "+
				"If you do not trust that machine, give this one another address until then: --node-ip", f.node, address, f.until.UTC().Format(time.RFC3339)))
		}
	}
}
