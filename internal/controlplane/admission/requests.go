package admission

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

// CertificateHeld is the condition of a request that waits. Its message says why.
const CertificateHeld certv1.RequestConditionType = "Held"

// undecided reports whether a request is for us to decide.
func undecided(csr *certv1.CertificateSigningRequest) bool {
	ours := subjectNode(csr) != "" || csr.Spec.SignerName == certv1.KubeletServingSignerName
	return ours && !Decided(csr)
}

// Decided reports whether a request was decided.
func Decided(csr *certv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certv1.CertificateSigningRequestCondition) bool { return c.Type != CertificateHeld })
}

// decide approves or denies a request, or leaves it until its Node changes.
func (c *nodeController) decide(ctx context.Context, name string) error {
	csr, err := c.csrs.Get(name)
	if apierrors.IsNotFound(err) || (err == nil && !undecided(csr)) {
		c.waiting.forget(name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the certificate request %s: %w", name, err)
	}
	if turn := c.waiting.turn(csr, time.Now()); turn > 0 {
		c.queue.AddAfter(item{csr: name}, turn)
		return nil
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
		return c.hold(ctx, csr, node, reason)
	}
	c.waiting.forget(name)
	_, err = c.setCondition(ctx, csr, condition)
	return err
}

// hold leaves a request that may yet be approved, for a while, and says why.
func (c *nodeController) hold(ctx context.Context, csr *certv1.CertificateSigningRequest, node *corev1.Node, reason string) error {
	age := time.Since(csr.CreationTimestamp.Time)
	if age > waitingFor {
		return c.drop(ctx, csr.Name, "it has waited for a day: "+reason)
	}
	if oldest := c.waiting.add(csr); oldest != "" {
		if err := c.drop(ctx, oldest, "too many requests of the same user wait"); err != nil {
			return err
		}
	}
	c.queue.AddAfter(item{csr: csr.Name}, lookAfter(age))
	changed, err := c.setCondition(ctx, csr, certv1.CertificateSigningRequestCondition{
		Type: CertificateHeld, Status: corev1.ConditionTrue, Reason: "NodeMayNotHaveIt", Message: reason,
	})
	if changed && node != nil && len(node.Status.Addresses) > 0 {
		c.events.Event(node, corev1.EventTypeWarning, "CertificateHeld", "Certificate request "+csr.Name+" waits: "+reason)
	}
	return err
}

// setCondition writes the decision about a request, in place of the reason why it waited, unless it
// is there already.
func (c *nodeController) setCondition(ctx context.Context, csr *certv1.CertificateSigningRequest, condition certv1.CertificateSigningRequestCondition) (changed bool, _ error) {
	same := func(old certv1.CertificateSigningRequestCondition) bool {
		return old.Type == condition.Type && old.Message == condition.Message
	}
	if slices.ContainsFunc(csr.Status.Conditions, same) {
		return false, nil
	}
	csr = csr.DeepCopy()
	csr.Status.Conditions = []certv1.CertificateSigningRequestCondition{condition}
	_, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("decide the certificate request %s: %w", csr.Name, err)
	}
	return true, nil
}

// judge decides about a request of either kind.
func (c *nodeController) judge(ctx context.Context, csr *certv1.CertificateSigningRequest, node *corev1.Node) (ruling, string, error) {
	if csr.Spec.SignerName != certv1.KubeletServingSignerName {
		return c.judgeToken(ctx, csr, node)
	}
	if reason, err := c.displaced(ctx, csr); reason != "" || err != nil {
		return deny, reason, err
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return hold, "", fmt.Errorf("list the nodes: %w", err)
	}
	servers, err := c.serverAddresses()
	if err != nil {
		return hold, "", err
	}
	verdict, reason := judgeServing(csr, node, surroundings{services: c.services, others: nodes, servers: servers})
	if verdict != approve || saysSimulated(node) {
		return verdict, reason, nil
	}
	if because, err := c.notRecorded(ctx, csr); because != "" || err != nil {
		return hold, because, err
	}
	return verdict, reason, nil
}

// displaced returns why the machine that made a request for a serving certificate is not the node any more; "" if it is. A
// request may wait while the name is given to another machine, or is revoked.
func (c *nodeController) displaced(ctx context.Context, csr *certv1.CertificateSigningRequest) (string, error) {
	name := requester(csr)
	if name == "" {
		return "", nil // it is denied anyway
	}
	if since, err := revokedSince(ctx, c.client, name); err != nil || !since.IsZero() {
		return fmt.Sprintf("node %s was revoked", name), err
	}
	names, err := c.readGiven(ctx, GivenPart(name))
	if err != nil {
		return "", err
	}
	owner, err := nameIn(names, name)
	if owner == nil || err != nil {
		return "", err
	}
	key, issued, known := certificateIn(csr.Spec.Extra)
	switch {
	case !known:
		return fmt.Sprintf("it was not made with the certificate of node %s", name), nil
	case !owner.accepts(key, issued):
		return fmt.Sprintf("the name %s was given to another machine at %s, and this one had it before", name, owner.at.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// judgeToken decides about a machine that joins. It records who gets the name, and the use of
// the token, before the request is approved. Both count once for each key.
func (c *nodeController) judgeToken(ctx context.Context, csr *certv1.CertificateSigningRequest, node *corev1.Node) (ruling, string, error) {
	secrets := c.client.CoreV1().Secrets(metav1.NamespaceSystem)
	secret, err := secrets.Get(ctx, tokenutil.BootstrapTokenSecretName(tokenOf(csr)), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		verdict, reason := judgeJoining(csr, nil, claimed{})
		return verdict, reason, nil
	}
	if err != nil {
		return hold, "", fmt.Errorf("read the token of the certificate request %s: %w", csr.Name, err)
	}
	token, err := parseToken(secret)
	if err != nil {
		return hold, "", err
	}
	name := joiningNode(csr)
	names, err := c.readGiven(ctx, GivenPart(name))
	if err != nil {
		return hold, "", err
	}
	there, err := c.claimedBy(ctx, name, names, len(token.Nodes) > 0)
	if err != nil {
		return hold, "", err
	}
	there.node = node != nil
	verdict, reason := judgeJoining(csr, &token, there)
	if verdict != approve {
		return verdict, reason, nil
	}
	if err := c.giveName(ctx, csr, names, there); err != nil {
		return hold, "", err
	}
	if token.Uses == 0 || slices.Contains(token.UsedBy, useOf(csr)) {
		return verdict, reason, nil
	}
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	secret.Annotations[usedAnnotation] += " " + useOf(csr)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return hold, "", fmt.Errorf("record the use of token %s: %w", token.ID, err)
	}
	return verdict, reason, nil
}

// claimedBy reads what exists of a node that a machine wants to become, except its Node.
func (c *nodeController) claimedBy(ctx context.Context, name string, names *corev1.ConfigMap, asked bool) (there claimed, err error) {
	if there.given, err = nameIn(names, name); err != nil {
		return there, err
	}
	there.full = roomIn(names, asked)
	if there.revoked, err = revokedSince(ctx, c.client, name); err != nil || there.revoked.IsZero() {
		return there, err
	}
	pods, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name, Limit: 1})
	if err != nil {
		return there, fmt.Errorf("look for pods of the revoked node %s: %w", name, err)
	}
	there.pods = len(pods.Items) > 0
	return there, nil
}

// giveName records that the machine with the key of a request has a name from now on. What was
// issued to another machine before no longer counts, so giveName ends a revocation of the name.
func (c *nodeController) giveName(ctx context.Context, csr *certv1.CertificateSigningRequest, names *corev1.ConfigMap, there claimed) error {
	name, key := joiningNode(csr), requestKey(csr)
	if there.given == nil || there.given.key != key {
		names.Data[name] = given{key: key, at: time.Now(), token: tokenOf(csr), registered: there.node}.String()
		if err := c.writeGiven(ctx, names); err != nil {
			return err
		}
	}
	if there.revoked.IsZero() {
		return nil
	}
	return RevokeNode(ctx, c.client, name, true)
}
