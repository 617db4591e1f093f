package admission

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
)

// joiningCSR returns a request of a machine that joins with the token abcdef, after change.
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
	named := func(name string) func(*CSR, *request) {
		return func(_ *CSR, r *request) { r.Subject.CommonName = "system:node:" + name }
	}
	at := time.Unix(1_800_000_000, 0)
	plain, forNode := &Token{ID: "abcdef", Created: at}, &Token{ID: "abcdef", Nodes: []string{"node-0", "node-1"}, Created: at}
	other := &given{key: "another", at: at.Add(-time.Hour), token: "fedcba"}
	seen := &given{key: "another", at: at.Add(-time.Hour), token: "fedcba", registered: true}
	for _, test := range []struct {
		name   string
		change func(*CSR, *request)
		token  *Token
		there  claimed
		want   ruling
		reason string
	}{
		{"a new node", asIs, plain, claimed{}, approve, "may make node node-1"},
		{"a node that exists", asIs, plain, claimed{node: true}, hold, "node node-1 exists already"},
		{"a name that was given, of which no node has registered", asIs, plain, claimed{given: other}, hold, "another machine was given the name node-1 with the token fedcba at 2027-01-15T07:00:00Z"},
		{"a name that was given, whose node is gone", asIs, plain, claimed{given: seen}, approve, ""},
		{"a name that was given, whose node exists", asIs, plain, claimed{given: other, node: true}, hold, "node node-1 exists already"},
		{"a token for this name, which was given", asIs, forNode, claimed{given: other}, approve, ""},
		{"a token for this node, which exists", asIs, forNode, claimed{node: true, given: seen}, approve, ""},
		{"a token for other nodes", asIs, &Token{Nodes: []string{"node-2"}}, claimed{}, hold, "for node node-2 only"},
		{"a token that is gone", asIs, nil, claimed{}, deny, "is gone"},
		{"too many that wait", asIs, plain, claimed{full: "256 machines"}, hold, "256 machines"},
		{"too many that wait, and a name that has been given", asIs, plain, claimed{full: "256 machines", given: seen}, approve, ""},
		{"a node that was revoked after the token", asIs, forNode, claimed{revoked: at.Add(time.Second)}, hold, "node node-1 was revoked after the token was made"},
		{"a node that was revoked before the token", asIs, plain, claimed{revoked: at.Add(-time.Second)}, approve, ""},
		{"a node that was revoked, and exists", asIs, forNode, claimed{revoked: at, node: true}, hold, "everynode kubectl delete node node-1"},
		{"a node that was revoked, and has pods", asIs, forNode, claimed{revoked: at, pods: true}, hold, "some of its pods are left"},
		{"one use of two", asIs, &Token{Uses: 2, UsedBy: []string{"x/node-7"}}, claimed{}, approve, ""},
		{"all uses spent", asIs, &Token{Uses: 1, UsedBy: []string{"x/node-7"}}, claimed{}, hold, "all uses of the token are spent (it had 1)"},
		{"all uses spent, one by a request of the same name", asIs, &Token{Uses: 1, UsedBy: []string{"csr-1/node-1"}}, claimed{}, hold, "are spent"},
		{"a group more", func(_ *CSR, r *request) { r.Subject.Organization = append(r.Subject.Organization, "system:masters") }, plain, claimed{}, deny, ""},
		{"not a node", func(_ *CSR, r *request) { r.Subject.CommonName = "admin" }, plain, claimed{}, deny, ""},
		{"several names", named("node-1 node-2"), plain, claimed{}, deny, "is not the name of a node"},
		{"no name", named(""), plain, claimed{}, deny, "is not the name of a node"},
		{"as a server, too", func(c *CSR, _ *request) { c.Spec.Usages = append(c.Spec.Usages, certv1.UsageServerAuth) }, plain, claimed{}, deny, ""},
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
	held.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: CertificateHeld}}
	if !undecided(held) {
		t.Error("a request that waits is not looked at again")
	}
}

// TestJudgeJoiningAgain: the same key is the same machine, however its requests are named
// and however often it asks.
func TestJudgeJoiningAgain(t *testing.T) {
	csr := joiningCSR(t, func(*certv1.CertificateSigningRequest, *x509.CertificateRequest) {})
	token := &Token{Uses: 1, UsedBy: []string{useOf(csr)}}
	mine := &given{key: requestKey(csr), at: time.Now().Add(-time.Hour), token: "abcdef"}
	csr.Name = "node-csr-again"
	if got, reason := judgeJoining(csr, token, claimed{given: mine, full: "256 machines"}); got != approve {
		t.Errorf("the machine that was given the name asks again: %v (%s)", got, reason)
	}
	revoked := claimed{given: mine, revoked: time.Now().Add(-time.Minute)}
	if got, reason := judgeJoining(csr, &Token{Nodes: []string{"node-1"}, Created: time.Now()}, revoked); got != hold || !strings.Contains(reason, "uses the revoked key") {
		t.Errorf("the key that was revoked asks again: %v (%s)", got, reason)
	}
	mine.at = time.Now()
	if got, reason := judgeJoining(csr, &Token{Nodes: []string{"node-1"}, Created: time.Now()}, revoked); got != approve {
		t.Errorf("the key to which the name went just now asks again: %v (%s)", got, reason)
	}
}
