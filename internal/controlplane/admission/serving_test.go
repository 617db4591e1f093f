package admission

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"net/url"
	"testing"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"
)

// servingCSR returns a request as the kubelet of node-1 makes it, after change.
func servingCSR(t *testing.T, change func(*certv1.CertificateSigningRequest, *x509.CertificateRequest)) *certv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "system:node:node-1", Organization: []string{"system:nodes"}},
		DNSNames:    []string{"node-1"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 101)},
	}
	csr := &certv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "csr-1"},
		Spec: certv1.CertificateSigningRequestSpec{
			SignerName: certv1.KubeletServingSignerName,
			Username:   "system:node:node-1",
			Groups:     []string{"system:nodes", "system:authenticated"},
			Usages:     []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth},
		},
	}
	change(csr, request)
	if csr.Spec.Request == nil {
		if csr.Spec.Request, err = certutil.MakeCSRFromTemplate(key, request); err != nil {
			t.Fatal(err)
		}
	}
	return csr
}

func testNode(addresses ...corev1.NodeAddress) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Status: corev1.NodeStatus{Addresses: addresses}}
}

func TestJudgeServing(t *testing.T) {
	node := testNode(
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.101"},
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::101"},
		corev1.NodeAddress{Type: corev1.NodeHostName, Address: "machine-7"})
	neighbour := testNode(corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "10.0.0.102"}, corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: "two.example.com"})
	neighbour.Name = "node-2"
	around := surroundings{
		services: netip.MustParsePrefix("10.96.0.0/16"), others: []*corev1.Node{node, neighbour},
		servers: serverAddresses{"control": {"192.0.2.10", "api.example.com", "control"}, "node-1": {"192.0.2.11"}},
	}
	says := func(kind corev1.NodeAddressType, address string) *corev1.Node {
		return testNode(corev1.NodeAddress{Type: kind, Address: address})
	}
	type CSR = certv1.CertificateSigningRequest
	type request = x509.CertificateRequest
	only := func(names ...string) func(*CSR, *request) {
		return func(_ *CSR, r *request) {
			r.DNSNames, r.IPAddresses = nil, nil
			for _, name := range names {
				if ip := net.ParseIP(name); ip != nil {
					r.IPAddresses = append(r.IPAddresses, ip)
				} else {
					r.DNSNames = append(r.DNSNames, name)
				}
			}
		}
	}
	tests := []struct {
		name   string
		node   *corev1.Node
		change func(*CSR, *request)
		want   ruling
	}{
		{"as a kubelet asks", node, func(*CSR, *request) {}, approve},
		{"with key encipherment", node, func(c *CSR, _ *request) { c.Spec.Usages = append(c.Spec.Usages, certv1.UsageKeyEncipherment) }, approve},
		{"its host name", node, func(_ *CSR, r *request) { r.DNSNames = []string{"machine-7"} }, approve},
		{"its IPv6 address", node, func(_ *CSR, r *request) { r.IPAddresses = append(r.IPAddresses, net.ParseIP("fd00::101")) }, approve},
		{"no Node yet", nil, func(*CSR, *request) {}, hold},
		{"no addresses yet", testNode(), func(*CSR, *request) {}, hold},
		{"an address of another node", node, func(_ *CSR, r *request) { r.IPAddresses = append(r.IPAddresses, net.IPv4(10, 0, 0, 102)) }, hold},
		{"a name of another node", node, func(_ *CSR, r *request) { r.DNSNames = []string{"node-2"} }, hold},
		{"a wildcard", node, func(_ *CSR, r *request) { r.DNSNames = []string{"*"} }, hold},
		{"where agents look for the API server", testNode(corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}),
			func(_ *CSR, r *request) { r.DNSNames, r.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} }, hold},
		{"the address of a service", testNode(corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.96.0.1"}),
			func(_ *CSR, r *request) { r.DNSNames, r.IPAddresses = nil, []net.IP{net.IPv4(10, 96, 0, 1)} }, hold},
		{"a name of the API server", testNode(corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: "kubernetes.default"}),
			func(_ *CSR, r *request) { r.DNSNames, r.IPAddresses = []string{"kubernetes.default"}, nil }, hold},
		{"that name in capitals", says(corev1.NodeInternalDNS, "KUBERNETES.default.svc"), only("KUBERNETES.default.svc"), hold},
		{"a wildcard over the API server", says(corev1.NodeInternalDNS, "*.default.svc"), only("*.default.svc"), hold},
		{"a wildcard that the Node reports", says(corev1.NodeInternalDNS, "*.example.com"), only("*.example.com"), hold},
		{"an address that another node has, too", says(corev1.NodeExternalIP, "10.0.0.102"), only("10.0.0.102"), hold},
		{"a name that another node has, too", says(corev1.NodeInternalDNS, "TWO.example.com"), only("Two.Example.com"), hold},
		{"the name of another node", says(corev1.NodeHostName, "Node-2"), only("Node-2"), hold},
		{"a server's address", says(corev1.NodeInternalIP, "192.0.2.10"), only("192.0.2.10"), hold},
		{"a server's name", says(corev1.NodeHostName, "API.example.com"), only("API.example.com"), hold},
		{"the server's address on its own machine", says(corev1.NodeInternalIP, "192.0.2.11"), only("node-1", "192.0.2.11"), approve},
		{"its own name in capitals", says(corev1.NodeHostName, "Machine-7"), only("machine-7"), approve},
		{"for another node", node, func(_ *CSR, r *request) { r.Subject.CommonName = "system:node:node-2" }, deny},
		{"by no node", node, func(c *CSR, _ *request) { c.Spec.Username = "system:serviceaccount:default:default" }, deny},
		{"by one who only says that it is a node", node, func(c *CSR, _ *request) { c.Spec.Groups = []string{"system:authenticated"} }, deny},
		{"with a group more", node, func(_ *CSR, r *request) {
			r.Subject.Organization = append(r.Subject.Organization, "system:masters")
		}, deny},
		{"as a client, too", node, func(c *CSR, _ *request) { c.Spec.Usages = append(c.Spec.Usages, certv1.UsageClientAuth) }, deny},
		{"as an authority", node, func(c *CSR, _ *request) { c.Spec.Usages = append(c.Spec.Usages, certv1.UsageCertSign) }, deny},
		{"no names at all", node, func(_ *CSR, r *request) { r.DNSNames, r.IPAddresses = nil, nil }, deny},
		{"an e-mail address", node, func(_ *CSR, r *request) { r.EmailAddresses = []string{"a@example.com"} }, deny},
		{"a URI", node, func(_ *CSR, r *request) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, deny},
		{"no request", node, func(c *CSR, _ *request) { c.Spec.Request = []byte("nothing") }, deny},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, reason := judgeServing(servingCSR(t, test.change), test.node, around)
			if got != test.want || reason == "" {
				t.Errorf("got %v (%s), want %v", got, reason, test.want)
			}
		})
	}
}

func TestNeedsRole(t *testing.T) {
	for _, test := range []struct {
		name string
		meta metav1.ObjectMeta
		want bool
	}{
		{"new", metav1.ObjectMeta{}, true},
		{"other labels", metav1.ObjectMeta{Labels: map[string]string{"kubernetes.io/os": "linux"}}, true},
		{"has a role", metav1.ObjectMeta{Labels: map[string]string{"node-role.kubernetes.io/gpu": ""}}, false},
		{"role was taken away", metav1.ObjectMeta{Annotations: map[string]string{roleGiven: "agent"}}, false},
	} {
		if got := needsRole(&corev1.Node{ObjectMeta: test.meta}); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
