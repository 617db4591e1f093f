package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	tokenutil "k8s.io/cluster-bootstrap/token/util"
	"k8s.io/cluster-bootstrap/util/secrets"
	"k8s.io/cluster-bootstrap/util/tokens"
)

// agentGroup is the group of machines that join with a token.
const agentGroup = "system:bootstrappers:everynode:agents"

// Token is a bootstrap token: a secret with which a machine joins the cluster
// and recognizes it. Its holder can make itself any node.
type Token struct {
	ID          string // six of a-z0-9; may be shown
	Secret      string // sixteen of a-z0-9; must not be
	Description string
	Expires     time.Time // zero: never
}

// String is the token as a joining machine needs it: id.secret.
func (t Token) String() string { return tokenutil.TokenFromIDAndSecret(t.ID, t.Secret) }

// CreateToken makes a token that ends after ttl; zero means that it never
// does. It is usable as soon as the cluster has signed its cluster-info with
// it, which takes well under a second.
func CreateToken(ctx context.Context, client kubernetes.Interface, ttl time.Duration, description string) (Token, error) {
	if ttl < 0 {
		return Token{}, fmt.Errorf("a token cannot live for %s: give a positive duration, or 0 for a token that does not expire", ttl)
	}
	text, err := tokenutil.GenerateBootstrapToken()
	if err != nil {
		return Token{}, fmt.Errorf("make a bootstrap token: %w", err)
	}
	id, secret, err := tokens.ParseToken(text)
	if err != nil {
		return Token{}, fmt.Errorf("make a bootstrap token: %w", err)
	}
	t := Token{ID: id, Secret: secret, Description: description}
	if ttl > 0 {
		// The API keeps whole seconds; a token never ends early.
		t.Expires = time.Now().Add(ttl + time.Second - 1).UTC().Truncate(time.Second)
	}
	if _, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, t.secret(), metav1.CreateOptions{}); err != nil {
		return Token{}, fmt.Errorf("store the bootstrap token: %w", err)
	}
	return t, nil
}

// secret is the form in which Kubernetes keeps a token.
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
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tokenutil.BootstrapTokenSecretName(t.ID), Namespace: metav1.NamespaceSystem},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		Data:       data,
	}
}

// ListTokens returns the cluster's tokens, the ones that end soonest first and
// the ones that never end last. Tokens that have expired but are not yet
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
		return fmt.Errorf("%q is no token id, which is six of a-z and 0-9: list the tokens to see theirs", id)
	}
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokenutil.BootstrapTokenSecretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token %s: list the tokens to see those there are: %w", id, err)
	}
	if err != nil {
		return fmt.Errorf("delete the token %s: %w", id, err)
	}
	return nil
}
