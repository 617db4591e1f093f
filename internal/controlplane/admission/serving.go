package admission

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	certapi "k8s.io/kubernetes/pkg/apis/certificates"
)

const nodeUserPrefix = "system:node:"

// ruling is a decision about a request for a certificate of a node.
type ruling int

const (
	hold    ruling = iota // not now: the Node may yet say what the request says
	approve               // the request says no more than it may
	deny                  // no later state of the Node can make the request right
)

// requester returns the name of the node that made the request; "" if no node did.
func requester(csr *certv1.CertificateSigningRequest) string {
	if !slices.Contains(csr.Spec.Groups, user.NodesGroup) {
		return ""
	}
	name, ok := strings.CutPrefix(csr.Spec.Username, nodeUserPrefix)
	if !ok {
		return ""
	}
	return name
}

// surroundings are what a certificate of a node is compared with, besides what
// that node says about itself.
type surroundings struct {
	services netip.Prefix    // the range of service addresses
	others   []*corev1.Node  // all Nodes; the node itself is skipped
	servers  serverAddresses // of each server
}

// judgeServing decides about a request for the signer kubelet-serving, and returns
// why. node is the requester's Node; nil if there is none.
//
// A node may have a certificate only for its own name and addresses: one for
// any other would let it pose as another node to the API server. It is not enough
// that the node reports an address: nobody else may have it.
func judgeServing(csr *certv1.CertificateSigningRequest, node *corev1.Node, around surroundings) (ruling, string) {
	name := requester(csr)
	if name == "" {
		return deny, fmt.Sprintf("only nodes get serving certificates, and %s is not a node", csr.Spec.Username)
	}
	request, err := parseRequest(csr)
	if err != nil {
		return deny, err.Error()
	}
	if err := certapi.ValidateKubeletServingCSR(request, sets.NewString(usagesOf(csr)...)); err != nil {
		return deny, fmt.Sprintf("it is not a request for a kubelet serving certificate: %v", err)
	}
	if request.Subject.CommonName != csr.Spec.Username {
		return deny, fmt.Sprintf("the certificate would be for %s, but the requester is %s", request.Subject.CommonName, csr.Spec.Username)
	}
	if reason := asksForServer(request, around.services); reason != "" {
		return hold, reason
	}
	if reason := asksForOthers(request, name, around); reason != "" {
		return hold, reason
	}
	return matchAddresses(request, name, node)
}

// parseRequest reads a request that is signed with its own key.
func parseRequest(csr *certv1.CertificateSigningRequest) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return nil, errors.New("the request holds no PEM block")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed with its own key: %w", err)
	}
	return request, nil
}

func usagesOf(csr *certv1.CertificateSigningRequest) []string {
	var usages []string
	for _, usage := range csr.Spec.Usages {
		usages = append(usages, string(usage))
	}
	return usages
}

// asksForServer returns why a certificate could be used to pose as the API
// server; "" if it could not.
func asksForServer(request *x509.CertificateRequest, services netip.Prefix) string {
	for _, dns := range request.DNSNames {
		if strings.Contains(dns, "*") {
			return fmt.Sprintf("the DNS name %s stands for more than one machine", dns)
		}
		if first, _, _ := strings.Cut(strings.ToLower(dns), "."); first == "kubernetes" || first == "localhost" {
			return fmt.Sprintf("the DNS name %s is the API server's", dns)
		}
	}
	for _, ip := range request.IPAddresses {
		switch addr, ok := netip.AddrFromSlice(ip); {
		case ip.IsLoopback():
			return fmt.Sprintf("every machine has the IP address %s: agents reach the API server at such an address", ip)
		case ok && services.Contains(addr.Unmap()):
			return fmt.Sprintf("the IP address %s is in the range of services", ip)
		}
	}
	return ""
}

// asksForOthers returns which name or address of another node, or of a server, a
// certificate would be valid for, and what to do; "" if there is none. A node on a
// server's machine has that machine's name.
func asksForOthers(request *x509.CertificateRequest, name string, around surroundings) string {
	asked := slices.Clone(request.DNSNames)
	for _, ip := range request.IPAddresses {
		asked = append(asked, ip.String())
	}
	for _, a := range asked {
		if machine := around.servers.ownerOf(a); machine != "" && machine != name {
			return fmt.Sprintf("%s is the server on %s, and node %s is not the node of that machine: give it --node-name %s if it runs there, else a different address", a, machine, name, machine)
		}
		for _, other := range around.others {
			if other.Name == name {
				continue
			}
			if has := func(b corev1.NodeAddress) bool { return strings.EqualFold(a, b.Address) }; strings.EqualFold(a, other.Name) || slices.ContainsFunc(other.Status.Addresses, has) {
				return fmt.Sprintf("%s also belongs to node %s: give one of the two another address, or delete node %s if its machine is gone", a, other.Name, other.Name)
			}
		}
	}
	return ""
}

// matchAddresses compares what the certificate would be valid for with what
// the Node reports.
func matchAddresses(request *x509.CertificateRequest, name string, node *corev1.Node) (ruling, string) {
	if node == nil || len(node.Status.Addresses) == 0 {
		return hold, fmt.Sprintf("node %s has not reported its addresses yet", name)
	}
	names, addrs := sets.New(name), sets.New[netip.Addr]()
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			addrs.Insert(addr.Unmap())
		} else {
			names.Insert(strings.ToLower(a.Address))
		}
	}
	for _, dns := range request.DNSNames {
		if !names.Has(strings.ToLower(dns)) {
			return hold, fmt.Sprintf("the DNS name %s is not an address of node %s", dns, name)
		}
	}
	for _, ip := range request.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); !ok || !addrs.Has(addr.Unmap()) {
			return hold, fmt.Sprintf("the IP address %s is not an address of node %s", ip, name)
		}
	}
	return approve, fmt.Sprintf("every name and address belongs to node %s", name)
}
