package admission

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	certutil "k8s.io/client-go/util/cert"
)

// No input from others does harm: make fuzz.

// FuzzServingRequest: whatever node-1 says about itself and asks for, it gets no
// certificate for what belongs to another node, a server, a service, or more than
// one machine.
func FuzzServingRequest(f *testing.F) {
	f.Add("node-1", "10.0.0.101", "machine-7")
	f.Add("NODE-2.", "10.0.0.102", "Node-2")
	f.Add("*.example.com", "::ffff:10.96.0.1", "kubernetes.default.svc")
	f.Add("api.example.com", "192.0.2.10", "localhost.")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	neighbour := testNode(corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "10.0.0.102"}, corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: "two.example.com"})
	neighbour.Name = "node-2"
	around := surroundings{services: netip.MustParsePrefix("10.96.0.0/16"), others: []*corev1.Node{neighbour},
		servers: serverAddresses{"control": {"192.0.2.10", "api.example.com", "control"}}}
	forbidden := []string{"node-2", "two.example.com", "api.example.com", "control", "localhost", "kubernetes", "10.0.0.102", "192.0.2.10", "127.0.0.1", "10.96.0.1"}
	f.Fuzz(func(t *testing.T, dns, address, more string) {
		node := testNode(corev1.NodeAddress{Type: corev1.NodeHostName, Address: dns}, corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: more},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
		request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:node-1", Organization: []string{"system:nodes"}}, DNSNames: []string{dns, more}}
		if ip := net.ParseIP(address); ip != nil {
			request.IPAddresses = []net.IP{ip}
		}
		text, err := certutil.MakeCSRFromTemplate(key, request)
		if err != nil {
			return // no certificate can say that
		}
		csr := &certv1.CertificateSigningRequest{Spec: certv1.CertificateSigningRequestSpec{SignerName: certv1.KubeletServingSignerName, Request: text,
			Username: "system:node:node-1", Groups: []string{"system:nodes"}, Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth}}}
		if verdict, _ := judgeServing(csr, node, around); verdict != approve {
			return
		}
		probe, err := certutil.ParseCertsPEM(selfSignedLike(t, key, request))
		if err != nil {
			return // a certificate that no client can read cannot pose as anybody
		}
		for _, host := range forbidden {
			if probe[0].VerifyHostname(host) == nil {
				t.Errorf("%q, %q, %q: a certificate that is good for %s is approved", dns, address, more, host)
			}
		}
	})
}

// selfSignedLike returns a certificate for what a request asks for.
func selfSignedLike(t *testing.T, key *ecdsa.PrivateKey, request *x509.CertificateRequest) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: request.Subject, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der})
}

// FuzzJudgeJoining: whatever a machine with a token asks for, it becomes only one node, and
// never one that exists, was given to another machine, or was revoked. The token's use is
// recorded as one word that no other request shares.
func FuzzJudgeJoining(f *testing.F) {
	f.Add("system:node:node-1", "system:nodes", "", uint8(0))
	f.Add("system:node:node-1 node-2", "system:nodes", "", uint8(0))
	f.Add("system:node:Node-1", "system:nodes,system:masters", "node-1", uint8(1))
	f.Add("system:node:", "system:nodes", "", uint8(2))
	f.Add("system:node:node-1/x", "system:nodes", "", uint8(2|16))
	f.Add("system:node:node-1", "system:nodes", "", uint8(4|8))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, name, groups, dns string, state uint8) {
		is := func(bit uint8) bool { return state&bit != 0 }
		request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: strings.Split(groups, ",")}}
		if dns != "" {
			request.DNSNames = []string{dns}
		}
		text, err := certutil.MakeCSRFromTemplate(key, request)
		if err != nil {
			return // no certificate can say that
		}
		csr := &certv1.CertificateSigningRequest{Spec: certv1.CertificateSigningRequestSpec{SignerName: certv1.KubeAPIServerClientKubeletSignerName, Request: text,
			Username: "system:bootstrap:abcdef", Groups: []string{agentGroup}, Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}}}
		token, there := &Token{ID: "abcdef", Created: at}, claimed{node: is(1)}
		if is(2) {
			there.given = &given{key: "another", at: at.Add(-time.Hour), token: "fedcba", registered: is(16)}
		}
		if is(4) {
			there.revoked = at.Add(time.Second)
		}
		if is(8) {
			token.Nodes = []string{"node-1"}
		}
		if verdict, _ := judgeJoining(csr, token, there); verdict != approve {
			return
		}
		node := joiningNode(csr)
		use := strings.Fields(useOf(csr))
		switch {
		case len(use) != 1 || use[0] != requestKey(csr)+"/"+node || strings.Count(use[0], "/") != 1:
			t.Errorf("%q is noted as %q", name, use)
		case name != nodeUserPrefix+node || groups != "system:nodes" || dns != "":
			t.Errorf("%q, %q, %q is approved", name, groups, dns)
		case node != strings.ToLower(node) || len(validation.IsConfigMapKey(node)) > 0:
			t.Errorf("%q is not the name of a node", node)
		case is(4):
			t.Errorf("a token from before is good for the revoked node %q", node)
		case !is(8) && (is(1) || is(2) && !is(16)):
			t.Errorf("a token for new nodes makes %q, which exists or was given to another machine", node)
		case is(8) && node != "node-1":
			t.Errorf("a token for node-1 makes %q", node)
		}
	})
}
