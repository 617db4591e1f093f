package controlplane

import (
	"crypto/x509"
	"encoding/pem"
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

// ruling is what becomes of a request for a kubelet serving certificate.
type ruling int

const (
	hold    ruling = iota // not now: the Node may yet say what the request says
	approve               // the request says no more than the Node does
	deny                  // no later state of the Node can make the request right
)

// requester is the name of the node that made the request; "" if none did.
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

// judgeServing decides about a request for the signer kubelet-serving and says
// why. node is the Node that the requester names; nil if there is none. services
// is the range of service addresses.
//
// A node may have a certificate for its own name and addresses only: one for
// any other would let it pose as another node to the API server. What it says of
// itself is not enough, either, where clients look for the API server.
func judgeServing(csr *certv1.CertificateSigningRequest, node *corev1.Node, services netip.Prefix) (ruling, string) {
	name := requester(csr)
	if name == "" {
		return deny, fmt.Sprintf("only nodes get serving certificates, and %s is none", csr.Spec.Username)
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return deny, "the request holds no PEM block"
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return deny, fmt.Sprintf("the request cannot be read: %v", err)
	}
	if err := request.CheckSignature(); err != nil {
		return deny, fmt.Sprintf("the request is not signed with its own key: %v", err)
	}
	usages := sets.NewString()
	for _, usage := range csr.Spec.Usages {
		usages.Insert(string(usage))
	}
	if err := certapi.ValidateKubeletServingCSR(request, usages); err != nil {
		return deny, fmt.Sprintf("it is no request for a kubelet serving certificate: %v", err)
	}
	if request.Subject.CommonName != csr.Spec.Username {
		return deny, fmt.Sprintf("the certificate would speak for %s, the requester is %s", request.Subject.CommonName, csr.Spec.Username)
	}
	if reason := asksForServer(request, services); reason != "" {
		return hold, reason
	}
	return matchAddresses(request, name, node)
}

// asksForServer says why a certificate would be good for posing as the API
// server; "" if it would not.
func asksForServer(request *x509.CertificateRequest, services netip.Prefix) string {
	for _, dns := range request.DNSNames {
		if first, _, _ := strings.Cut(dns, "."); first == "kubernetes" || first == "localhost" {
			return fmt.Sprintf("the DNS name %s is the API server's", dns)
		}
	}
	for _, ip := range request.IPAddresses {
		switch addr, ok := netip.AddrFromSlice(ip); {
		case ip.IsLoopback():
			return fmt.Sprintf("the IP address %s is every machine's: agents reach the API server at such an address", ip)
		case ok && services.Contains(addr.Unmap()):
			return fmt.Sprintf("the IP address %s is in the range of services", ip)
		}
	}
	return ""
}

// matchAddresses compares what the certificate would be good for with what
// the Node says of itself.
func matchAddresses(request *x509.CertificateRequest, name string, node *corev1.Node) (ruling, string) {
	if node == nil || len(node.Status.Addresses) == 0 {
		return hold, fmt.Sprintf("node %s has not reported its addresses yet", name)
	}
	names, addrs := sets.New(name), sets.New[netip.Addr]()
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			addrs.Insert(addr.Unmap())
		} else {
			names.Insert(a.Address)
		}
	}
	for _, dns := range request.DNSNames {
		if !names.Has(dns) {
			return hold, fmt.Sprintf("the DNS name %s is not an address of node %s", dns, name)
		}
	}
	for _, ip := range request.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); !ok || !addrs.Has(addr.Unmap()) {
			return hold, fmt.Sprintf("the IP address %s is not an address of node %s", ip, name)
		}
	}
	return approve, fmt.Sprintf("every name and address is one of node %s", name)
}
