package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// RevokedNodes is the ConfigMap in kube-system that has a key for each node whose
// credentials are no longer accepted. The value is the time of revocation (RFC 3339).
const RevokedNodes = "everynode-revoked-nodes"

// RevokeNode makes the API servers refuse all requests with the credentials of a node
// or of pods on it, whoever has them and however they are renewed. With undo, API servers
// accept them again. The revocation also ends when a machine joins under the name with a
// token that was made later: credentials that were issued before no longer count then.
func RevokeNode(ctx context.Context, client kubernetes.Interface, name string, undo bool) error {
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return fmt.Errorf("%q is not the name of a node: %s", name, strings.Join(wrong, "; "))
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	// Somebody else may revoke another node at the same moment.
	again := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	err := retry.OnError(retry.DefaultRetry, again, func() error {
		list, err := maps.Get(ctx, RevokedNodes, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && !undo {
			list = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RevokedNodes}, Data: map[string]string{name: time.Now().UTC().Format(time.RFC3339)}}
			_, err = maps.Create(ctx, list, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		if _, there := list.Data[name]; there != undo {
			if undo {
				return errNotRevoked
			}
			return nil
		}
		if undo {
			delete(list.Data, name)
		} else {
			if list.Data == nil {
				list.Data = map[string]string{}
			}
			list.Data[name] = time.Now().UTC().Format(time.RFC3339)
		}
		_, err = maps.Update(ctx, list, metav1.UpdateOptions{})
		return err
	})
	if errors.Is(err, errNotRevoked) || undo && apierrors.IsNotFound(err) {
		return fmt.Errorf("node %s is not revoked", name)
	}
	if err != nil {
		return fmt.Errorf("change the list of revoked nodes: %w", err)
	}
	return nil
}

var errNotRevoked = errors.New("not revoked")

// revokedSince returns when a node was revoked; zero: it is not revoked. If the time cannot be
// parsed, it is now, so that no token counts as newer.
func revokedSince(ctx context.Context, client kubernetes.Interface, name string) (time.Time, error) {
	list, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, RevokedNodes, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read which nodes are revoked: %w", err)
	}
	text, there := list.Data[name]
	if !there {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Now(), nil
}
