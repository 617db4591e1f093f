package controlplane

import (
	"crypto/x509"
	"strings"
	"testing"

	certv1 "k8s.io/api/certificates/v1"
)

// joiningCSR is a request of a machine that joins with the token abcdef, after change.
func joiningCSR(t *testing.T, change func(*certv1.CertificateSigningRequest, *x509.CertificateRequest)) *certv1.CertificateSigningRequest {
	t.Helper()
	return servingCSR(t, func(csr *certv1.CertificateSigningRequest, request *x509.CertificateRequest) {
		request.DNSNames, request.IPAddresses = nil, nil
		csr.Spec.SignerName = certv1.KubeAPIServerClientKubeletSignerName
		csr.Spec.Username, csr.Spec.Groups = "system:bootstrap:abcdef", []string{"system:bootstrappers", agentGroup, "system:authenticated"}
		csr.Spec.Usages = []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
		change(csr, request)
	})
}

func TestJudgeJoining(t *testing.T) {
	type CSR = certv1.CertificateSigningRequest
	type request = x509.CertificateRequest
	asIs := func(*CSR, *request) {}
	any, named := &Token{ID: "abcdef"}, &Token{ID: "abcdef", Nodes: []string{"node-0", "node-1"}}
	for _, test := range []struct {
		name   string
		change func(*CSR, *request)
		token  *Token
		there  claimed
		want   ruling
		reason string
	}{
		{"a new node", asIs, any, claimed{}, approve, "may make node node-1"},
		{"a node that exists", asIs, any, claimed{node: true}, hold, "node node-1 exists already"},
		{"a name that was given just now", asIs, any, claimed{request: true}, hold, "another machine has just been given the name node-1"},
		{"a token for this node, which exists", asIs, named, claimed{node: true, request: true}, approve, ""},
		{"a token for other nodes", asIs, &Token{Nodes: []string{"node-2"}}, claimed{}, hold, "for node node-2 only"},
		{"a token that is gone", asIs, nil, claimed{}, hold, "is gone"},
		{"one use of two", asIs, &Token{Uses: 2, UsedBy: []string{"x/node-7"}}, claimed{}, approve, ""},
		{"all uses spent", asIs, &Token{Uses: 1, UsedBy: []string{"x/node-7"}}, claimed{}, hold, "good for 1 uses"},
		{"all uses spent, one by this request", asIs, &Token{Uses: 1, UsedBy: []string{"csr-1/node-1"}}, claimed{}, approve, ""},
		{"spent for this name, by another request", asIs, &Token{Uses: 1, UsedBy: []string{"csr-0/node-1"}}, claimed{}, hold, "all are spent"},
		{"a group more", func(_ *CSR, r *request) { r.Subject.Organization = append(r.Subject.Organization, "system:masters") }, any, claimed{}, deny, ""},
		{"no node's name", func(_ *CSR, r *request) { r.Subject.CommonName = "admin" }, any, claimed{}, deny, ""},
		{"as a server, too", func(c *CSR, _ *request) { c.Spec.Usages = append(c.Spec.Usages, certv1.UsageServerAuth) }, any, claimed{}, deny, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reason := judgeJoining(joiningCSR(t, test.change), test.token, test.there)
			if got != test.want || !strings.Contains(reason, test.reason) || reason == "" {
				t.Errorf("%v (%s), want %v (%s)", got, reason, test.want, test.reason)
			}
		})
	}
	foreign := joiningCSR(t, func(c *CSR, _ *request) { c.Spec.Groups = []string{"system:bootstrappers"} })
	if undecided(foreign) {
		t.Error("a token of somebody else's is judged as one of ours")
	}
	held := joiningCSR(t, asIs)
	held.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certificateHeld}}
	if !undecided(held) {
		t.Error("a request that waits is not looked at again")
	}
}
