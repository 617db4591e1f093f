package admission

import (
	"fmt"
	"slices"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	certapi "k8s.io/kubernetes/pkg/apis/certificates"
)

// tokenOf returns the id of the token with which a request was made; "" if it
// was made without one.
func tokenOf(csr *certv1.CertificateSigningRequest) string {
	id, ok := strings.CutPrefix(csr.Spec.Username, bootstrapapi.BootstrapUserPrefix)
	if !ok || !slices.Contains(csr.Spec.Groups, agentGroup) {
		return ""
	}
	return id
}

// joiningNode returns the node that a machine with a token wants to become; "" if
// the request is not for that.
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

// requestKey returns the keyHash of the key that a request is for; "" if it cannot be read.
func requestKey(csr *certv1.CertificateSigningRequest) string {
	request, err := parseRequest(csr)
	if err != nil {
		return ""
	}
	return keyHash(request.RawSubjectPublicKeyInfo)
}

// claimed says what exists of a node that a machine wants to become.
type claimed struct {
	node    bool      // a Node of this name
	pods    bool      // pods that are bound to a node of this name; known only if revoked
	given   *given    // to which machine the name was given; nil: to none
	full    string    // why no more names can be given; "": they can
	revoked time.Time // when its credentials were revoked; zero: they were not
}

// judgeJoining decides about the request of a machine that joins with a token,
// and returns why. token is nil if it no longer exists.
//
// A token makes new nodes. Kubernetes' own approver would let its holder become
// an existing node, and so read that node's Secrets. Only a token that was made
// for this name may replace an existing node, or take the name from a machine
// that was given it and has not registered.
func judgeJoining(csr *certv1.CertificateSigningRequest, token *Token, there claimed) (ruling, string) {
	request, err := parseRequest(csr)
	if err != nil {
		return deny, err.Error()
	}
	if err := certapi.ValidateKubeletClientCSR(request, sets.NewString(usagesOf(csr)...)); err != nil {
		return deny, fmt.Sprintf("it is not a request for the certificate of a node: %v", err)
	}
	name := joiningNode(csr)
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return deny, fmt.Sprintf("%q is not the name of a node: %s", name, strings.Join(wrong, "; "))
	}
	switch {
	case token == nil:
		return deny, "the token that was used for it is gone: give the machine a new one"
	case len(token.Nodes) > 0 && !slices.Contains(token.Nodes, name):
		return hold, fmt.Sprintf("the token is for node %s only: give the machine that name with --node-name, or make another token", strings.Join(token.Nodes, ", "))
	}
	if reason := nameTaken(name, requestKey(csr), token, there); reason != "" {
		return hold, reason
	}
	if token.Uses > 0 && len(token.UsedBy) >= token.Uses && !slices.Contains(token.UsedBy, useOf(csr)) {
		return hold, fmt.Sprintf("all uses of the token are spent (it had %d): make another one", token.Uses)
	}
	return approve, fmt.Sprintf("the token may make node %s", name)
}

// nameTaken returns why a machine with this key may not have a name; "" if it may.
func nameTaken(name, key string, token *Token, there claimed) string {
	asked := len(token.Nodes) > 0
	another := there.given == nil || there.given.key != key
	switch {
	case !there.revoked.IsZero() && !another && !there.given.at.After(there.revoked):
		return fmt.Sprintf("node %s was revoked, and this machine uses the revoked key: delete its agent's data, so that it makes a new one", name)
	case !there.revoked.IsZero() && token.Created.Before(there.revoked):
		return fmt.Sprintf("node %s was revoked after the token was made: make a new one, `everynode token create --node %s`", name, name)
	case !there.revoked.IsZero() && there.node:
		return fmt.Sprintf("node %s was revoked: `everynode kubectl delete node %s` removes what is left of it and frees the name", name, name)
	case !there.revoked.IsZero() && there.pods:
		return fmt.Sprintf("node %s was revoked, and some of its pods are left: they go within a minute or two after its Node", name)
	case there.node && !asked:
		return fmt.Sprintf("node %s exists already: give the machine another name with --node-name; or, if it should replace that node, delete the node, or use a token from `everynode token create --node %s`", name, name)
	case another && there.given != nil && !there.given.registered && !there.node && !asked:
		return fmt.Sprintf("another machine was given the name %s with the token %s at %s, and has not registered: if that is not your machine, "+
			"`everynode token create --node %s` takes the name from it; else give this machine another name with --node-name",
			name, there.given.token, there.given.at.UTC().Format(time.RFC3339), name)
	case another && there.full != "" && there.given == nil:
		return there.full
	}
	return ""
}

// useOf names one use of a token: the key of the machine, which stays the same when the
// machine repeats its request, and the node that it becomes.
func useOf(csr *certv1.CertificateSigningRequest) string {
	return requestKey(csr) + "/" + joiningNode(csr)
}
