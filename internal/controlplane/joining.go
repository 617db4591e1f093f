package controlplane

import (
	"fmt"
	"slices"
	"strings"

	certv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	certapi "k8s.io/kubernetes/pkg/apis/certificates"
)

// tokenOf returns the id of the token with which a request was made; "" if it
// was made with none.
func tokenOf(csr *certv1.CertificateSigningRequest) string {
	id, ok := strings.CutPrefix(csr.Spec.Username, bootstrapapi.BootstrapUserPrefix)
	if !ok || !slices.Contains(csr.Spec.Groups, agentGroup) {
		return ""
	}
	return id
}

// joiningNode is the node that a machine with a token wants to become; "" when
// the request is none for that.
func joiningNode(csr *certv1.CertificateSigningRequest) string {
	if csr.Spec.SignerName != certv1.KubeAPIServerClientKubeletSignerName || tokenOf(csr) == "" {
		return ""
	}
	request, err := parseRequest(csr)
	if err != nil {
		return ""
	}
	name, _ := strings.CutPrefix(request.Subject.CommonName, nodeUserPrefix)
	return name
}

// claimed says what is there of a node that a machine wants to become.
type claimed struct {
	node    bool // a Node of this name
	request bool // another request for this name was approved just now
}

// judgeJoining decides about the request of a machine that joins with a token
// and says why. token is nil when it is gone.
//
// A token makes new nodes. Kubernetes' own approver would let its holder become
// a node that exists, and with that read its Secrets. Only a token that was made
// for a node of this name may replace it.
func judgeJoining(csr *certv1.CertificateSigningRequest, token *Token, there claimed) (ruling, string) {
	request, err := parseRequest(csr)
	if err != nil {
		return deny, err.Error()
	}
	if err := certapi.ValidateKubeletClientCSR(request, sets.NewString(usagesOf(csr)...)); err != nil {
		return deny, fmt.Sprintf("it is not a request for the certificate of a node: %v", err)
	}
	name := joiningNode(csr)
	switch {
	case token == nil:
		return hold, "the token that it was made with is gone: give the machine a new one"
	case len(token.Nodes) > 0 && !slices.Contains(token.Nodes, name):
		return hold, fmt.Sprintf("the token is for node %s only: give the machine that name with --node-name, or make another token", strings.Join(token.Nodes, ", "))
	case there.node && len(token.Nodes) == 0:
		return hold, fmt.Sprintf("node %s exists already: give the machine another name with --node-name; or, if it is to take the place of that node, delete the node, or use a token of `everynode token create --node %s`", name, name)
	case there.request && len(token.Nodes) == 0:
		return hold, fmt.Sprintf("another machine has just been given the name %s: give this one another with --node-name", name)
	case token.Uses > 0 && len(token.UsedBy) >= token.Uses && !slices.Contains(token.UsedBy, useOf(csr)):
		return hold, fmt.Sprintf("the token was good for %d uses, and all are spent: make another one", token.Uses)
	}
	return approve, fmt.Sprintf("the token may make node %s", name)
}

// useOf names one use of a token.
func useOf(csr *certv1.CertificateSigningRequest) string { return csr.Name + "/" + joiningNode(csr) }
