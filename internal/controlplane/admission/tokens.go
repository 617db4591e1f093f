package admission

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	tokenutil "k8s.io/cluster-bootstrap/token/util"
	"k8s.io/cluster-bootstrap/util/secrets"
	"k8s.io/cluster-bootstrap/util/tokens"
)

// agentGroup is the group of machines that join with a token.
const agentGroup = "system:bootstrappers:everynode:agents"

// Annotations of a token's Secret say what the token may do.
const (
	nodesAnnotation = "everynode.io/nodes"
	usesAnnotation  = "everynode.io/uses"
	usedAnnotation  = "everynode.io/used-by"
)

// TokenSpec says what a token is good for.
type TokenSpec struct {
	TTL         time.Duration // zero: it never expires
	Description string
	// Nodes are the names that a machine may take with it, even those of existing
	// nodes. Empty: any name that no node has.
	Nodes []string
	Uses  int // how many machines may join with it; zero: any number
}

// Token is a bootstrap token: a secret with which a machine joins the cluster
// and recognizes it. Its holder can become any new node, unless the token is for
// some names only.
type Token struct {
	ID          string // six of a-z0-9; may be shown
	Secret      string // sixteen of a-z0-9; must not be
	Description string
	Expires     time.Time // zero: never
	Nodes       []string  // as in TokenSpec
	Uses        int       // as in TokenSpec
	UsedBy      []string  // KEY/NODE of each use, if Uses is not zero
	Created     time.Time // by the API server's clock
}

// String returns the token as a joining machine needs it: id.secret.
func (t Token) String() string { return tokenutil.TokenFromIDAndSecret(t.ID, t.Secret) }

// CreateToken makes a token. It is usable as soon as the cluster has signed its cluster-info with
// it, which takes well under a second.
func CreateToken(ctx context.Context, client kubernetes.Interface, spec TokenSpec) (Token, error) {
	ttl := spec.TTL
	if ttl < 0 {
		return Token{}, fmt.Errorf("a token cannot be valid for %s: give a positive duration, or 0 for a token that does not expire", ttl)
	}
	for _, name := range spec.Nodes {
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
			return Token{}, fmt.Errorf("%q is not the name of a node: %s", name, strings.Join(wrong, "; "))
		}
	}
	text, err := tokenutil.GenerateBootstrapToken()
	if err != nil {
		return Token{}, fmt.Errorf("make a bootstrap token: %w", err)
	}
	id, secret, err := tokens.ParseToken(text)
	if err != nil {
		return Token{}, fmt.Errorf("make a bootstrap token: %w", err)
	}
	t := Token{ID: id, Secret: secret, Description: spec.Description, Nodes: spec.Nodes, Uses: spec.Uses}
	if ttl > 0 {
		// The API keeps whole seconds, and a token must not expire early.
		t.Expires = time.Now().Add(ttl + time.Second - 1).UTC().Truncate(time.Second)
	}
	if _, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, t.secret(), metav1.CreateOptions{}); err != nil {
		return Token{}, fmt.Errorf("store the bootstrap token: %w", err)
	}
	return t, nil
}

// AuthorityHash returns the hash of a cluster's CA (PEM) that joining machines are given:
// "sha256:" and the sum of its public key in hex, the same as kubeadm's.
func AuthorityHash(ca []byte) (string, error) {
	certs, err := certutil.ParseCertsPEM(ca)
	if err != nil {
		return "", fmt.Errorf("read the cluster's CA: %w", err)
	}
	sum := sha256.Sum256(certs[0].RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// secret returns the Secret in which Kubernetes stores the token.
func (t Token) secret() *corev1.Secret {
	data := map[string][]byte{
		bootstrapapi.BootstrapTokenIDKey:               []byte(t.ID),
		bootstrapapi.BootstrapTokenSecretKey:           []byte(t.Secret),
		bootstrapapi.BootstrapTokenUsageAuthentication: []byte("true"),
		bootstrapapi.BootstrapTokenUsageSigningKey:     []byte("true"),
		bootstrapapi.BootstrapTokenExtraGroupsKey:      []byte(agentGroup),
	}
	if t.Description != "" {
		data[bootstrapapi.BootstrapTokenDescriptionKey] = []byte(t.Description)
	}
	if !t.Expires.IsZero() {
		data[bootstrapapi.BootstrapTokenExpirationKey] = []byte(t.Expires.Format(time.RFC3339))
	}
	annotations := map[string]string{}
	if len(t.Nodes) > 0 {
		annotations[nodesAnnotation] = strings.Join(t.Nodes, " ")
	}
	if t.Uses > 0 {
		annotations[usesAnnotation] = strconv.Itoa(t.Uses)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tokenutil.BootstrapTokenSecretName(t.ID), Namespace: metav1.NamespaceSystem, Annotations: annotations},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		Data:       data,
	}
}

// ListTokens returns the cluster's tokens, the ones that expire soonest first and
// the ones that never expire last. Tokens that have expired but are not yet
// cleaned up are among them.
func ListTokens(ctx context.Context, client kubernetes.Interface) ([]Token, error) {
	list, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		FieldSelector: "type=" + string(bootstrapapi.SecretTypeBootstrapToken),
	})
	if err != nil {
		return nil, fmt.Errorf("list bootstrap tokens: %w", err)
	}
	found := make([]Token, 0, len(list.Items))
	for i := range list.Items {
		t, err := parseToken(&list.Items[i])
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	slices.SortFunc(found, func(a, b Token) int {
		if a.Expires.IsZero() != b.Expires.IsZero() {
			if a.Expires.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

func parseToken(secret *corev1.Secret) (Token, error) {
	t := Token{
		ID:          secrets.GetData(secret, bootstrapapi.BootstrapTokenIDKey),
		Secret:      secrets.GetData(secret, bootstrapapi.BootstrapTokenSecretKey),
		Description: secrets.GetData(secret, bootstrapapi.BootstrapTokenDescriptionKey),
		Nodes:       strings.Fields(secret.Annotations[nodesAnnotation]),
		UsedBy:      strings.Fields(secret.Annotations[usedAnnotation]),
		Created:     secret.CreationTimestamp.Time,
	}
	if uses := secret.Annotations[usesAnnotation]; uses != "" {
		var err error
		if t.Uses, err = strconv.Atoi(uses); err != nil || t.Uses < 1 {
			return t, fmt.Errorf("the annotation %s of the secret %s/%s is %q, but must be a positive number; correct or delete it", usesAnnotation, secret.Namespace, secret.Name, uses)
		}
	}
	text := secrets.GetData(secret, bootstrapapi.BootstrapTokenExpirationKey)
	if text == "" {
		return t, nil
	}
	expires, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("the secret %s/%s does not say when its token expires: %w; correct or delete it", secret.Namespace, secret.Name, err)
	}
	t.Expires = expires
	return t, nil
}

// DeleteToken deletes the token with this id (or the whole id.secret). Nodes
// that have joined with it stay.
func DeleteToken(ctx context.Context, client kubernetes.Interface, id string) error {
	if whole, _, err := tokens.ParseToken(id); err == nil {
		id = whole
	}
	if !tokenutil.IsValidBootstrapTokenID(id) {
		return fmt.Errorf("%q is not a token id, which has six characters of a-z and 0-9: list the tokens to see their ids", id)
	}
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokenutil.BootstrapTokenSecretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token %s: list the tokens to see the existing ones: %w", id, err)
	}
	if err != nil {
		return fmt.Errorf("delete the token %s: %w", id, err)
	}
	return nil
}
