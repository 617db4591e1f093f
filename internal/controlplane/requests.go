package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	tokenutil "k8s.io/cluster-bootstrap/token/util"
	"k8s.io/klog/v2"
)

const (
	// certificateHeld is the condition of a request that waits, and says why.
	certificateHeld certv1.RequestConditionType = "Held"
	// lookAgain is how often a request that waits is looked at although its Node
	// has not changed: what it waits for may be elsewhere.
	lookAgain = 30 * time.Second
	// justNow is how long the name of a node counts as taken before that node
	// has registered.
	justNow = time.Minute
)

// undecided reports whether a request is for us to decide.
func undecided(csr *certv1.CertificateSigningRequest) bool {
	ours := subjectNode(csr) != "" || csr.Spec.SignerName == certv1.KubeletServingSignerName
	return ours && !decided(csr)
}

func decided(csr *certv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certv1.CertificateSigningRequestCondition) bool { return c.Type != certificateHeld })
}

// decide approves or denies a request, or leaves it until its Node changes.
func (c *nodeController) decide(ctx context.Context, name string) error {
	csr, err := c.csrs.Get(name)
	if apierrors.IsNotFound(err) || (err == nil && !undecided(csr)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the certificate request %s: %w", name, err)
	}
	node, err := c.nodes.Get(subjectNode(csr))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read the node of the certificate request %s: %w", name, err)
	}
	verdict, reason, err := c.judge(ctx, csr, node)
	if err != nil {
		return err
	}
	condition := certv1.CertificateSigningRequestCondition{Status: corev1.ConditionTrue, Message: reason}
	switch verdict {
	case approve:
		condition.Type, condition.Reason = certv1.CertificateApproved, "NodeMayHaveIt"
	case deny:
		condition.Type, condition.Reason = certv1.CertificateDenied, "NotAKubelet"
		klog.ErrorS(errors.New(reason), "Denied a request for a certificate of a node", "csr", name, "user", csr.Spec.Username)
	case hold:
		c.queue.AddAfter(item{csr: name}, lookAgain)
		condition.Type, condition.Reason = certificateHeld, "NodeMayNotHaveIt"
		if node != nil && len(node.Status.Addresses) > 0 {
			c.events.Event(node, corev1.EventTypeWarning, "CertificateHeld", "Certificate request "+name+" waits: "+reason)
		}
	}
	return c.setCondition(ctx, csr, condition)
}

// setCondition writes what became of a request, in the place of why it waited.
func (c *nodeController) setCondition(ctx context.Context, csr *certv1.CertificateSigningRequest, condition certv1.CertificateSigningRequestCondition) error {
	same := func(old certv1.CertificateSigningRequestCondition) bool {
		return old.Type == condition.Type && old.Message == condition.Message
	}
	if slices.ContainsFunc(csr.Status.Conditions, same) {
		return nil
	}
	csr = csr.DeepCopy()
	csr.Status.Conditions = []certv1.CertificateSigningRequestCondition{condition}
	_, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("decide the certificate request %s: %w", csr.Name, err)
	}
	return nil
}

// judge decides about a request of either kind.
func (c *nodeController) judge(ctx context.Context, csr *certv1.CertificateSigningRequest, node *corev1.Node) (ruling, string, error) {
	if csr.Spec.SignerName != certv1.KubeletServingSignerName {
		return c.judgeToken(ctx, csr, node)
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return hold, "", fmt.Errorf("list the nodes: %w", err)
	}
	servers, err := readServerAddresses(ctx, c.client)
	if err != nil {
		return hold, "", err
	}
	verdict, reason := judgeServing(csr, node, surroundings{services: c.services, others: nodes, servers: servers})
	return verdict, reason, nil
}

// judgeToken decides about a machine that joins. The use of a token is noted
// before its request is approved, and counts once for each request.
func (c *nodeController) judgeToken(ctx context.Context, csr *certv1.CertificateSigningRequest, node *corev1.Node) (ruling, string, error) {
	there := claimed{node: node != nil}
	for _, other := range c.requestsFor(joiningNode(csr)) {
		there.request = there.request || other.Name != csr.Name && other.Spec.SignerName == csr.Spec.SignerName && approvedSince(other, time.Now().Add(-justNow))
	}
	secrets := c.client.CoreV1().Secrets(metav1.NamespaceSystem)
	secret, err := secrets.Get(ctx, tokenutil.BootstrapTokenSecretName(tokenOf(csr)), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		verdict, reason := judgeJoining(csr, nil, there)
		return verdict, reason, nil
	}
	if err != nil {
		return hold, "", fmt.Errorf("read the token of the certificate request %s: %w", csr.Name, err)
	}
	token, err := parseToken(secret)
	if err != nil {
		return hold, "", err
	}
	verdict, reason := judgeJoining(csr, &token, there)
	if verdict != approve || token.Uses == 0 || slices.Contains(token.UsedBy, useOf(csr)) {
		return verdict, reason, nil
	}
	secret.Annotations[usedAnnotation] += " " + useOf(csr)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return hold, "", fmt.Errorf("note the use of token %s: %w", token.ID, err)
	}
	return verdict, reason, nil
}

func approvedSince(csr *certv1.CertificateSigningRequest, when time.Time) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certv1.CertificateSigningRequestCondition) bool {
		return c.Type == certv1.CertificateApproved && c.LastUpdateTime.After(when)
	})
}
